"""An alignment: its maps and swaps, on toy GRUs, and its folder."""

import json

import pytest
import torch
from torch import nn

import mas_hooks as mh
from mas_hooks.alignment import methods
from mas_hooks.alignment.interchange import interchange
from mas_hooks.alignment.maps import MapSpec
from mas_hooks.core import checkpoints
from mas_hooks.core.errors import (
    CheckpointError,
    DeviceError,
    EmptyError,
    MasHooksError,
    OutputFolderError,
    RankError,
    SettingError,
    ShapeError,
    UnknownNameError,
    UnsupportedError,
)
from mas_hooks.core.sites import Where
from mas_hooks.data.pairs import Pairs
from mas_hooks.models.toys.recurrent import RecurrentModel

VOCABULARY, LENGTH, ROWS = 7, 9, 12
RECORDED = torch.randn(5, 10, generator=torch.Generator().manual_seed(8))


def toy(width, seed, cell="gru", name=None):
    torch.manual_seed(seed)
    return mh.wrap(RecurrentModel(VOCABULARY, width, cell, dropout=0.5).eval(), name=name)


@pytest.fixture
def models():
    return [toy(8, 0, name="a"), toy(6, 1, name="b")]


@pytest.fixture
def sites(models):
    return [model.at("state") for model in models]


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(2)
    source, target, labels = (torch.randint(1, VOCABULARY, (ROWS, LENGTH), generator=generator) for _ in range(3))
    columns, given = torch.arange(ROWS) % 4 + 1, torch.arange(ROWS) % 5
    mask = torch.arange(LENGTH) >= columns[:, None]
    mask[::2, -1] = False  # continuations of unequal length
    return Pairs.from_tensors(source, Where.one_per_row(given), target, Where.one_per_row(columns), labels, mask)


def jolt(align, seed=0):
    """Maps as they are after training: away from their start, scaled, and calibrated."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in align.named_parameters():
            noise = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise.tril(-1) if name.endswith("original") else noise)
    for one in align.site_maps:
        one.calibration.fit(torch.randn(30, one.width, generator=generator) * torch.arange(1, one.width + 1) + 1)
    return align


def told(error, call):
    """The one sentence of a refusal."""
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Making one


def test_the_default_plan_is_das_for_one_site_and_mas_for_several(sites):
    assert mh.Alignment(sites[:1], rank=3).plan == methods.das(MapSpec(rank=3))
    assert mh.Alignment(sites, rank=3).plan == methods.mas(MapSpec(rank=3))
    assert mh.Alignment(sites, subspaces={"count": 2}, kind="rotation").spec.kind == "rotation"


def test_from_plan_makes_one_map_per_site(sites):
    align = mh.Alignment.from_plan(methods.unimas(maps=MapSpec(rank=3)), sites)
    assert [one.width for one in align.site_maps] == [8, 6]
    assert align.plan.method == "unimas"
    message = told(SettingError, lambda: mh.Alignment.from_plan(methods.mas(), sites))
    assert message == "plan.maps is None, but must be a MapSpec, for example MapSpec(rank=16)."


def test_starts_are_seeded_and_differ_between_sites():
    sites = [toy(8, seed).at("state") for seed in (0, 1)]
    one, same, other = (mh.Alignment(sites, rank=3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.site_maps[0].weight, same.site_maps[0].weight)
    assert not torch.allclose(one.site_maps[0].weight, other.site_maps[0].weight, atol=0.1)
    assert not torch.allclose(one.site_maps[0].weight, one.site_maps[1].weight, atol=0.1)
    identity = mh.Alignment(sites, rank=3, init="identity")
    assert torch.equal(identity.swap_operator().views[0].frame, torch.eye(8, 3))


def test_the_state_of_an_alignment_is_its_maps_alone(sites):
    align = mh.Alignment(sites, rank=3)
    assert set(align.state_dict()) == {f"maps.{i}.{name}" for i in (0, 1) for name in ("weight", *CALIBRATION)}
    assert len(list(align.parameters())) == 2


CALIBRATION = ("calibration.mean", "calibration.std")


def test_names_are_numbered_where_two_are_the_same(sites):
    assert mh.Alignment(sites, rank=3).names == ["a", "b"]
    assert mh.Alignment([toy(8, seed).at("state") for seed in (0, 1)], rank=3).names == [
        "RecurrentModel-0",
        "RecurrentModel-1",
    ]


def test_mistakes_in_making_one(models, sites):
    assert told(EmptyError, lambda: mh.Alignment([], rank=3)) == (
        "the list of sites is empty; give at least one, from model.at(name)."
    )
    assert told(RankError, lambda: mh.Alignment(sites, rank=0)) == "rank 0 does not fit a:state: choose 1 to 8 dims."
    assert told(RankError, lambda: mh.Alignment(sites, rank=7)) == "rank 7 does not fit b:state: choose 1 to 6 dims."
    assert "MapSpec has no setting 'scael'. Did you mean 'scale'?" in told(
        UnknownNameError, lambda: mh.Alignment(sites, rank=3, scael="learned")
    )
    assert told(SettingError, lambda: mh.Alignment(sites, rank="many")).startswith(
        "MapSpec.rank is 'many', but must be"
    )
    assert "either rank=k or subspaces=" in told(SettingError, lambda: mh.Alignment(sites))
    assert told(SettingError, lambda: mh.Alignment(models, rank=3)) == (
        "the type of a site is 'HookedModel', but must be Site, from model.at(name), or Recording."
    )
    assert told(SettingError, lambda: mh.Alignment.from_plan(methods.das(MapSpec(rank=3)), sites)) == (
        "the number of sites for das is 2, but must be 1."
    )


@pytest.mark.parametrize("name", [None, "other"])
def test_models_on_several_devices(name):
    here = toy(8, 0)
    there = mh.wrap(RecurrentModel(VOCABULARY, 8).eval().to("meta"), name=name)
    message = told(DeviceError, lambda: mh.Alignment([here.at("state"), there.at("state")], rank=3))
    assert "lie on different devices" in message
    assert "on cpu" in message
    assert "on meta" in message


def test_maps_lie_where_the_models_do():
    there = mh.wrap(RecurrentModel(VOCABULARY, 8).eval().to("meta"))
    align = mh.Alignment([there.at("state"), mh.recording(RECORDED, {}, name="brain")], rank=3)
    assert {tensor.device.type for tensor in align.state_dict().values()} == {"meta"}


# Swapping


@pytest.mark.parametrize("kind", ["frame", "rotation", "fixed"])
@pytest.mark.parametrize(("target", "source"), [(0, 1), (1, 0), (0, 0)])
def test_interchange_is_the_pure_function_on_its_maps(sites, kind, target, source):
    align = jolt(mh.Alignment(sites, subspaces={"count": 2, "phase": 1}, kind=kind, zscore=True))
    h_t, h_s = torch.randn(4, sites[target].width), torch.randn(4, sites[source].width)
    views = align.swap_operator().views
    for subspace, dims in {None: slice(0, 3), "count": slice(0, 2), "phase": slice(2, 3)}.items():
        found = align.interchange(h_t, h_s, target=target, source=source, subspace=subspace)
        assert torch.equal(found, interchange(h_t, h_s, views[target], views[source], dims))
        u_t, u_s = views[target].frame[:, dims], views[source].frame[:, dims]
        at, own = align.site_maps[target].calibration, align.site_maps[source].calibration
        moved = (h_s - own.mean) / own.std @ u_s - (h_t - at.mean) / at.std @ u_t
        assert torch.allclose(found, h_t + at.std * (moved @ u_t.mT), atol=1e-4)


def test_extra_is_what_a_rotation_leaves_over(models, sites):
    align = jolt(mh.Alignment([sites[0], toy(8, 5).at("state")], rank=3, kind="rotation"))
    h_t, h_s = torch.randn(4, 8), torch.randn(4, 8)
    both = align.interchange(h_t, h_s, target=0, source=1)
    both = align.interchange(both, h_s, target=0, source=1, subspace="extra")
    views = align.swap_operator().views
    assert torch.allclose(views[0].read(both), views[1].read(h_s), atol=1e-5)
    unequal = mh.Alignment(sites, rank=3, kind="rotation")
    for target, source in ((0, 1), (1, 0)):
        h = [torch.randn(4, sites[index].width) for index in (target, source)]
        message = told(
            UnsupportedError,
            lambda h=h, t=target, s=source: unequal.interchange(*h, target=t, source=s, subspace="extra"),
        )
        assert message.endswith("which differ in width, is not supported; name a subspace.")


def test_mistakes_in_a_swap(sites, pairs):
    align = mh.Alignment(sites, subspaces={"count": 2})
    h_a, h_b = torch.randn(4, 8), torch.randn(4, 6)
    assert told(ShapeError, lambda: align.interchange(h_a, h_b, target=1, source=0)) == (
        "an activation has shape (4, 6), but (n, 8) is needed."
    )
    assert "Did you mean 'count'?" in told(
        UnknownNameError, lambda: align.interchange(h_a, h_b, target=0, source=1, subspace="conut")
    )
    where = Where([0], [0])
    for call in (
        lambda number: align.interchange(h_a, h_b, target=number, source=1),
        lambda number: align.interchange(h_a, h_b, target=0, source=number),
        lambda number: align.edit(target=number, source=1, vectors=h_b[:1], where=where),
        lambda number: align.run(pairs, source=0, target=number),
        lambda number: align.run(pairs, source=number, target=0),
    ):
        for number in (-1, 2):
            assert told(SettingError, lambda call=call, number=number: call(number)) == (
                f"the number of a site is {number}, but must be one of 0 to 1."
            )
    assert told(SettingError, lambda: align.run(pairs, source=0, target=1, path="tial")) == (
        "path is 'tial', but must be 'auto' or 'tail' or 'reference'."
    )
    assert told(UnknownNameError, lambda: align.run({(0, 0): pairs}, source=0, target=1)) == (
        "the set of pairs has no direction '0→1'. Did you mean '0→0'? There is: 0→0."
    )


def source_vectors(model, pairs):
    with torch.no_grad():
        _, cache = model.run_with_cache(pairs.source_inputs, ["state"], positions=pairs.source_where)
    return cache["state"]


@pytest.mark.parametrize(("target", "source"), [(0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("kind", ["frame", "rotation"])
def test_an_edit_gives_the_logits_of_run(models, sites, pairs, target, source, kind):
    align = jolt(mh.Alignment(sites, rank=3, kind=kind, centre=True))
    with torch.no_grad():
        vectors = source_vectors(models[source], pairs)
        edit = align.edit(target=target, source=source, vectors=vectors, where=pairs.target_where)
        logits = models[target].run_with_hooks(pairs.target_inputs, [edit])
        out = align.run(pairs, source=source, target=target)
        plain = models[target].forward(pairs.target_inputs)
    assert torch.allclose(out.logits, logits[pairs.label_mask], atol=1e-5)
    assert torch.equal(out.labels, pairs.labels[pairs.label_mask])
    assert torch.equal(out.pair, pairs.label_mask.nonzero()[:, 0])
    assert (out.logits - plain[pairs.label_mask]).abs().max() > 1e-3


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("kind", ["frame", "rotation"])
@pytest.mark.parametrize("direction", [(0, 1), (1, 1)])
def test_both_paths_give_the_same_logits_and_gradients(pairs, cell, kind, direction):
    made = [toy(8, 0, cell), toy(6, 1, cell)]
    align = jolt(mh.Alignment([m.at("state") for m in made], rank=3, kind=kind, scale="learned", centre=True))
    found = {}
    for path, expected in (("reference", "reference"), ("auto", "tail")):
        align.zero_grad()
        out = align.run(pairs, source=direction[0], target=direction[1], path=path)
        assert out.path == expected
        nn.functional.cross_entropy(out.logits, out.labels).backward()
        gradients = [p.grad.clone() for p in align.parameters() if p.grad is not None]
        found[path] = [out.logits.detach(), out.vectors.detach(), *gradients]
    assert len(found["auto"]) == len(found["reference"]) == 2 + 2 * len(set(direction))
    for auto, reference in zip(found["auto"], found["reference"], strict=True):
        # a scale cancels within one model: its gradient is rounding alone
        assert (auto - reference).abs().max() <= 1e-5 * reference.abs().max() + 1e-7
    assert max(gradient.abs().max() for gradient in found["reference"][2:]) > 1e-4


def test_run_follows_the_gradient_mode_and_leaves_the_model_as_it_was(models, sites, pairs):
    align = mh.Alignment(sites, rank=3)
    before = {name: value.clone() for name, value in models[0].module.state_dict().items()}
    with torch.no_grad():
        assert not align.run(pairs, source=1, target=0).logits.requires_grad
    assert align.run(pairs, source=1, target=0).logits.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in models[0].module.state_dict().items())
    assert not models[0].module.rnn._forward_hooks


@pytest.mark.parametrize("subspace", ["count", "extra", None])
def test_run_swaps_the_asked_subspace(models, pairs, subspace):
    align = jolt(mh.Alignment([models[0].at("state")] * 2, subspaces={"count": 2, "phase": 1}, kind="rotation"))
    out = align.run(pairs, source=1, target=0, subspace=subspace)
    own = Pairs.from_tensors(
        pairs.target_inputs, pairs.target_where, pairs.target_inputs, pairs.target_where, pairs.labels, pairs.label_mask
    )
    h_t, h_s = source_vectors(models[0], own), source_vectors(models[0], pairs)
    expected = align.interchange(h_t, h_s, target=0, source=1, subspace=subspace)
    assert torch.allclose(out.vectors, expected, atol=1e-5)


# Recordings


def test_a_recording_gives_what_its_model_gave(models, sites, pairs):
    with torch.no_grad():
        _, cache = models[1].run_with_cache(pairs.source_inputs, ["state"])
    brain = mh.recording(cache["state"], {}, name="brain")
    live, recorded = (jolt(mh.Alignment([sites[0], other], rank=3, centre=True)) for other in (sites[1], brain))
    from_brain = Pairs.from_tensors(
        None, pairs.source_where, pairs.target_inputs, pairs.target_where, pairs.labels, pairs.label_mask
    )
    for path in ("auto", "reference"):
        expected = live.run(pairs, source=1, target=0, path=path)
        found = recorded.run(from_brain, source=1, target=0, path=path)
        assert torch.allclose(found.logits, expected.logits, atol=1e-6)
    assert recorded.names == ["a", "brain"]


def test_nothing_is_swapped_into_a_recording(sites, pairs):
    align = mh.Alignment([sites[0], mh.recording(RECORDED, {}, name="brain")], rank=3)
    sentence = "a swap into recording 'brain' is not supported; swap into models, as methods.unimas() does."
    assert told(UnsupportedError, lambda: align.run(pairs, source=0, target=1)) == sentence
    edit = lambda: align.edit(target=1, source=0, vectors=torch.zeros(1, 8), where=Where([0], [0]))  # noqa: E731
    assert told(UnsupportedError, edit) == sentence


# The folder


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "frame"},
        {"kind": "frame", "rank": 6},
        {"kind": "fixed", "init": "random"},
        {"kind": "rotation", "parametrization": "matrix_exp"},
        {"kind": "rotation", "parametrization": "cayley", "scale": "learned"},
        {"kind": "rotation", "parametrization": "householder", "zscore": True},
        {"kind": "frame", "scale": "learned", "centre": True, "init": "procrustes"},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saved_and_loaded_to_the_bit(models, sites, tmp_path, spec, dtype):
    align = jolt(mh.Alignment(sites, **({"rank": 3} | spec), seed=4)).to(dtype)
    align.save_pretrained(tmp_path / "one")
    back = mh.Alignment.from_pretrained(tmp_path / "one", models)
    assert (back.plan, back.seed, back.names) == (align.plan, 4, align.names)
    for (name, tensor), (other, found) in zip(align.state_dict().items(), back.state_dict().items(), strict=True):
        assert name == other
        assert found.dtype == dtype
        assert torch.equal(tensor, found)
    h_a, h_b = torch.randn(4, 8), torch.randn(4, 6)
    swapped = [one.interchange(h_a, h_b, target=0, source=1) for one in (align, back)]
    assert torch.equal(*swapped)


def test_what_the_folder_holds(sites, tmp_path):
    brain = mh.recording(RECORDED, {}, name="brain")
    align = mh.Alignment([*sites, brain], subspaces={"phase": 1, "count": 2})
    align.save_pretrained(tmp_path / "one")
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"config.json", "model.safetensors"}
    text = (tmp_path / "one" / "config.json").read_text()
    config = json.loads(text)
    assert set(config) == {"kind", "format", "plan", "sites", "seed"}
    assert config["sites"][1:] == [
        {"model": "b", "name": "state", "side": "output", "width": 6, "basis": "raw"},
        {"model": None, "name": "brain", "side": None, "width": 10, "basis": "raw"},
    ]
    assert "cpu" not in text
    assert "device" not in text
    back = mh.Alignment.from_pretrained(tmp_path / "one", [*(site.model for site in sites), brain])
    assert back.spec.block("count", 8) == slice(1, 3)
    assert back.sites == align.sites


def test_sites_on_the_input_side_come_back(models, tmp_path):
    align = mh.Alignment([models[0].at("head.0", side="input")], rank=2)
    align.save_pretrained(tmp_path / "one")
    assert str(mh.Alignment.from_pretrained(tmp_path / "one", models[:1]).sites[0]) == "a:head.0:input"


@pytest.fixture
def saved(sites, tmp_path):
    mh.Alignment(sites, rank=3).save_pretrained(tmp_path / "one")
    return tmp_path / "one"


def change(folder, **keys):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def test_a_folder_that_does_not_fit_its_models(saved, models):
    def refused(*given):
        return told(MasHooksError, lambda: mh.Alignment.from_pretrained(saved, given))

    assert refused(models[0]).endswith("one: aligns 2 sites, not 1; give one model each.")
    assert refused(*models[::-1]).endswith(
        "aligns site 'state' of width 8, the given one has 6; give the models it was fitted on."
    )
    brain = mh.recording(RECORDED, {}, name="brain")
    assert refused(models[0], brain).endswith("has a model at site 'state'; give the sites in the saved order.")
    change(saved, sites=[{"model": "a", "name": "stat", "side": "output", "width": 8}] * 2)
    assert refused(*models).startswith("a has no site 'stat'. Did you mean 'state'?")


def test_a_recording_does_not_stand_for_a_model(sites, models, tmp_path):
    brain = mh.recording(RECORDED, {}, name="brain")
    mh.Alignment([sites[0], brain], rank=3).save_pretrained(tmp_path / "two")
    message = told(CheckpointError, lambda: mh.Alignment.from_pretrained(tmp_path / "two", models))
    assert message.endswith("two: has a recording at site 'brain'; give the sites in the saved order.")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"plan": {"method": "mas", "maps": {"rank": 3, "rnk": 1}}},
            "(MapSpec has no setting 'rnk'. Did you mean 'rank'?",
        ),
        ({"plan": {"method": "mas", "intoo": "every"}}, "(Plan has no setting 'intoo'. Did you mean 'into'?"),
        ({"plan": 3}, "(Plan. is 3, but must be "),
        ({"sites": [{"name": "state"}]}, "_SavedSite.model is missing; give it a value.)"),
        ({"seed": "x"}, "_Saved.seed is 'x', but must be a valid integer"),
        (
            {"plan": {"method": "mas", "maps": {"rank": 4}}},
            "one: holds other tensors than its config asks for; write it anew.",
        ),
        (
            {"kind": "mas_hooks.model"},
            "one: holds mas_hooks.model, not mas_hooks.alignment; give a folder written by save_",
        ),
        ({"format": 99}, "one: is of format 99, but this version reads format 1; load it with"),
    ],
)
def test_a_tampered_config(saved, models, keys, message):
    change(saved, **keys)
    assert message in told(CheckpointError, lambda: mh.Alignment.from_pretrained(saved, models))


def test_a_damaged_or_missing_folder(saved, models):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    assert "one: is damaged (" in told(CheckpointError, lambda: mh.Alignment.from_pretrained(saved, models))
    weights.unlink()
    assert "holds no model.safetensors" in told(CheckpointError, lambda: mh.Alignment.from_pretrained(saved, models))
    assert "is no folder" in told(CheckpointError, lambda: mh.Alignment.from_pretrained(saved / "x", models))


def test_a_failing_save_leaves_the_old_alignment(saved, sites, models, monkeypatch):
    def crash(*_args):
        raise OSError(28, "No space left on device")

    before = mh.Alignment.from_pretrained(saved, models).state_dict()
    monkeypatch.setattr(checkpoints, "save_file", crash)
    message = told(OutputFolderError, lambda: mh.Alignment(sites, rank=2).save_pretrained(saved))
    assert message.endswith("one: no space left on device; choose another folder, or make room there.")
    after = mh.Alignment.from_pretrained(saved, models).state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_saving_over_an_alignment_replaces_it(saved, sites, models):
    mh.Alignment(sites, rank=2, seed=9).save_pretrained(saved)
    back = mh.Alignment.from_pretrained(saved, models)
    assert (back.spec.rank, back.seed) == (2, 9)


def test_one_site_needs_no_list():
    site = mh.wrap(RecurrentModel(9, 8).eval()).at("state")
    assert mh.Alignment(site, rank=2).plan.method == "das"
