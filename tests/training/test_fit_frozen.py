"""A further model joins a space that is already fitted, whose maps stay as they are."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mas_hooks.alignment import methods
from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.maps import MapSpec
from mas_hooks.core.errors import CheckpointError, EmptyError, RankError, SettingError, UnsupportedError
from mas_hooks.data import counterfactual_latents
from mas_hooks.data.task_pairs import task_pairs
from mas_hooks.evaluation.evaluate import evaluate
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.toys.toy_cache import load_toy
from mas_hooks.training.fit import fit
from mas_hooks.training.loop import FitLoop, FitSettings, check_frozen_sites

SETTINGS = FitSettings(batch_size=64, learning_rate=3e-2, epochs=25, validate_every=25)
QUICK = FitSettings(batch_size=64, learning_rate=3e-2, epochs=3, validate_every=3)
OLD = [(0, 0), (1, 0), (0, 1), (1, 1)]
FOUR = methods.mas(MapSpec(rank=4))
NEW = [(2, 0), (2, 1), (0, 2), (1, 2), (2, 2)]


@pytest.fixture(scope="module")
def third(small_toys, small_settings):
    found = load_toy(small_settings(0, "lstm"), progress=False)
    return wrap(found.model, name="lstm").at("state")


@pytest.fixture(scope="module")
def three_pairs(small_toys):
    """Drawn anew: calibrating on them gives other means than the pairs of two."""
    return task_pairs([small_toys[0].task] * 3, ["full"] * 3, (256, 64, 128), seed=7)


@pytest.fixture(scope="module", params=["random", "procrustes"])
def fitted(request, small_toys, small_pairs):
    sites = [wrap(one.model, name=f"gru-{index}").at("state") for index, one in enumerate(small_toys)]
    alignment = Alignment(sites, rank=8, centre=True, init=request.param)
    fit(alignment, methods.mas(), *small_pairs[:2], SETTINGS, progress=False)
    return alignment


def state(alignment, sites):
    own = [f"maps.{index}." for index in sites]
    return {name: t.clone() for name, t in alignment.state_dict().items() if name.startswith(tuple(own))}


def assert_same(one, two):
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


def test_a_third_model_joins_and_the_others_stay(fitted, third, three_pairs):
    bigger, before = fitted.extend(third), state(fitted, [0, 1])
    done = fit(bigger, methods.mas(), *three_pairs[:2], SETTINGS, frozen=[0, 1], progress=False)
    assert {(row.source, row.target) for row in done.curve} == set(NEW)
    assert done.best_step > 0
    table, old = evaluate(bigger, three_pairs[2]), evaluate(fitted, three_pairs[2])
    for way in NEW:
        assert table.of(*way).iia > table.of(*way).floor + 0.25, way
    for way in OLD:
        one, other = table.of(*way), old.of(*way)
        assert (one.iia, one.token_accuracy, one.floor) == (other.iia, other.token_accuracy, other.floor)
        found = [each.run(three_pairs[2], source=way[0], target=way[1]).logits for each in (bigger, fitted)]
        assert torch.equal(*found)
    assert_same(state(bigger, [0, 1]), before)
    assert_same(state(fitted, [0, 1]), before)
    assert all(one.requires_grad for one in bigger.parameters())
    assert all(one.grad is None for index in (0, 1) for one in bigger.site_maps[index].parameters())


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "rotation", "init": "pca"},
        {"kind": "reversible", "init": "procrustes", "zscore": True},
        {"scale": "learned", "centre": True},
    ],
)
def test_maps_of_every_kind_stay(small_sites, small_pairs, third, three_pairs, spec):
    alignment = Alignment(small_sites, rank=4, **spec)
    fit(alignment, methods.mas(), *small_pairs[:2], QUICK, progress=False)
    bigger, before = alignment.extend(third), state(alignment, [0, 1])
    start = state(bigger, [2])
    done = fit(bigger, methods.mas(), *three_pairs[:2], QUICK, frozen=(0, 1), progress=False)
    assert done.steps == 12
    assert_same(state(bigger, [0, 1]), before)
    assert all(not torch.equal(own, start[name]) for name, own in state(bigger, [2]).items() if "original" in name)


def test_a_frozen_site_may_have_any_number(small_sites, small_pairs, third, three_pairs):
    alignment = Alignment(small_sites[1], rank=4)
    plan = methods.mas(MapSpec(rank=4))
    alignment.plan = plan  # one map, to be taken into a method of several
    bigger = alignment.extend([third, small_sites[0]])
    before = state(bigger, [0])
    done = fit(bigger, plan, *three_pairs[:2], QUICK, frozen=iter([0]), progress=False)
    assert len({(row.source, row.target) for row in done.curve}) == 8
    assert_same(state(bigger, [0]), before)


def test_directions_between_frozen_sites_have_no_part(small_sites, small_toys, third, three_pairs):
    """Neither in the behaviour loss, nor in the latent loss, nor in what chooses."""
    cells = {index: counterfactual_latents.natural_cells(small_toys[0].task, 200) for index in range(3)}
    plans = {
        methods.mas: (NEW, [], NEW),
        lambda: methods.unimas(0): ([(2, 0)], [], [(2, 0)]),
        lambda: methods.clmas(2): ([(0, 2), (1, 2), (2, 2)], [(2, 0), (2, 1)], [(0, 2), (1, 2), (2, 2)]),
        lambda: methods.clmas(0): ([(2, 0)], [(2, 1), (0, 2), (1, 2), (2, 2)], [(2, 0)]),
        lambda: methods.unimas(0).model_copy(update={"select_on": "no_access"}): ([(2, 0)], [], NEW[1:]),
    }
    for make, (behaviour, latent, chosen) in plans.items():
        alignment = Alignment([*small_sites, third], rank=4)
        loop = FitLoop(alignment, make(), three_pairs[:2], QUICK, cells, frozen=frozenset({0, 1}))
        assert sorted(loop.train.directions) == sorted(behaviour)
        assert sorted(loop.latent.directions) == sorted(latent)
        assert sorted(loop.valid.directions) == sorted(chosen)
        assert [id(one) for one in loop.optimizer.param_groups[0]["params"]] == [id(alignment.maps[2].weight)]


class Interrupted(Exception):
    pass


def test_an_interrupted_fit_goes_on_to_the_same_numbers(fitted, third, three_pairs, tmp_path, monkeypatch):
    def run(folder):
        bigger = fitted.extend(third)
        told = {"frozen": [0, 1], "progress": False, "folder": folder}
        return bigger, fit(bigger, methods.mas(), *three_pairs[:2], QUICK, **told)

    whole, done = run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        step = FitLoop.step

        def broken(self):
            if self.state.step == 7:
                raise Interrupted
            step(self)

        patch.setattr(FitLoop, "step", broken)
        with pytest.raises(Interrupted):
            run(tmp_path / "broken")
    again, resumed = run(tmp_path / "broken")
    assert_same(state(again, [0, 1, 2]), state(whole, [0, 1, 2]))
    assert resumed.curve == done.curve
    assert resumed.steps == done.steps == 12


def test_frozen_maps_that_changed_are_another_fit(small_sites, small_pairs, tmp_path):
    for scale in (1.0, 1.0 + 1e-6):
        alignment = Alignment(small_sites, rank=4)
        with torch.no_grad():
            alignment.maps[0].weight[3, 2] *= scale
        told = {"frozen": [0], "progress": False, "folder": tmp_path}
        if scale == 1.0:
            fit(alignment, methods.mas(), *small_pairs[:2], QUICK, **told)
            continue
        with pytest.raises(CheckpointError, match=r"a fit with other settings \(frozen\); repeat"):
            fit(alignment, methods.mas(), *small_pairs[:2], QUICK, **told)


@pytest.mark.parametrize(
    ("plan", "frozen", "error", "sentence"),
    [
        (FOUR, [0, 2], SettingError, "a number in frozen is 2, but must be that of a site, 0 to 1."),
        (FOUR, [-1], SettingError, "a number in frozen is -1, but must be that of a site, 0 to 1."),
        (FOUR, ["0"], SettingError, "a number in frozen is '0', but must be that of a site, 0 to 1."),
        (FOUR, 5, SettingError, "a number in frozen is 5, but must be that of a site, 0 to 1."),
        (
            FOUR,
            [1, 0, 1],
            SettingError,
            "frozen is [0, 1, 1], but must be fewer than all 2 sites: some map has to learn.",
        ),
        (
            methods.stitch(),
            [0],
            UnsupportedError,
            "freezing sites of stitching is not supported; fit all of it, or align by a method with one map per site, "
            "such as methods.mas().",
        ),
    ],
)
def test_what_cannot_be_frozen(small_sites, small_pairs, tmp_path, plan, frozen, error, sentence):
    alignment = Alignment.from_plan(plan, small_sites)
    with pytest.raises(error) as caught:
        fit(alignment, plan, *small_pairs[:2], QUICK, frozen=frozen, folder=tmp_path / "none", progress=False)
    assert str(caught.value) == sentence
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("given", [np.array([1]), torch.tensor([1]), {1}, range(1, 2)])
def test_frozen_may_be_given_in_any_way(small_sites, given):
    assert check_frozen_sites(Alignment(small_sites, rank=4), given) == frozenset({1})


# The bigger alignment


def test_extended_copies_what_is_there_and_starts_the_rest(fitted, third):
    bigger = fitted.extend(third)
    assert bigger.sites == (*fitted.sites, third)
    assert (bigger.plan, bigger.seed) == (fitted.plan, fitted.seed)
    assert_same(state(bigger, [0, 1]), state(fitted, [0, 1]))
    assert any(bool(tensor.any()) for name, tensor in state(bigger, [0, 1]).items() if name.endswith("mean"))
    fresh = Alignment([*fitted.sites, third], rank=8, centre=True, init=fitted.init)
    assert_same(state(bigger, [2]), state(fresh, [2]))
    assert not torch.equal(bigger.maps[2].weight, bigger.maps[0].weight)
    other = fitted.extend([third], seed=5)
    assert other.seed == 5
    assert not torch.equal(other.maps[2].weight, bigger.maps[2].weight)
    with torch.no_grad():
        bigger.maps[0].weight.zero_()
    assert fitted.maps[0].weight.any()


def test_extended_keeps_precision_and_transports(small_sites, third):
    doubled = Alignment(small_sites, rank=3).double()
    assert {tensor.dtype for tensor in doubled.extend(third).state_dict().values()} == {torch.float64}
    stitched = Alignment.from_plan(methods.stitch(), small_sites, seed=3)
    bigger = stitched.extend(third)
    assert len(bigger.transports) == 6
    for name, tensor in stitched.state_dict().items():
        assert torch.equal(bigger.state_dict()[name], tensor), name


def test_what_cannot_be_extended(small_sites, third):
    with pytest.raises(SettingError, match="the number of sites for das is 2, but must be 1"):
        Alignment(small_sites[0], rank=3).extend(third)
    with pytest.raises(EmptyError, match="the list of further sites is empty; give at least one"):
        Alignment(small_sites, rank=3).extend([])
    narrow = Alignment(small_sites, rank=16)
    with pytest.raises(RankError, match=r"rank 16 does not fit gru-0:embed: choose 1 to 8 dims"):
        narrow.extend(replace(small_sites[0], name="embed", width=8))
