"""Every row of the table of methods: what is trained, by which loss, and what the methods have in common."""

import pytest
import torch

from mas_hooks.alignment import methods
from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.maps import MapSpec
from mas_hooks.alignment.plan import Direction
from mas_hooks.alignment.transports import TransportSpec
from mas_hooks.core.errors import EmptyError, SettingError, UnsupportedError
from mas_hooks.core.sites import recording
from mas_hooks.data import counterfactual_latents
from mas_hooks.data.counterfactual_latents import look_up_cells
from mas_hooks.data.task_pairs import task_pairs
from mas_hooks.engine.cache import gather_site
from mas_hooks.evaluation.evaluate import evaluate
from mas_hooks.hooks.wrap import wrap
from mas_hooks.training.fit import fit
from mas_hooks.training.loop import FitLoop, FitSettings

QUICK = FitSettings(batch_size=64, learning_rate=2e-2, epochs=4)
RANK = MapSpec(rank=8)
BOTH = [(0, 0), (0, 1), (1, 0), (1, 1)]

ROWS = {
    "das": (methods.das(RANK), [(0, 0)], []),
    "mas": (methods.mas(RANK), BOTH, []),
    "stepwise_mas": (methods.stepwise(RANK), BOTH, []),
    "unimas": (methods.unimas(0, RANK), [(0, 0), (1, 0)], []),
    "clmas": (methods.clmas(0, RANK), [(0, 0), (1, 0)], [(0, 1), (1, 1)]),
    "linear_map": (methods.linear_map(0, RANK), [(1, 0)], []),
    "stitching": (methods.stitch(), [(0, 1), (1, 0)], []),
    "orthogonal_stitching": (methods.stitch(0, kind="orthogonal"), [(1, 0)], []),
    "affine_stitching": (methods.stitch(1, kind="affine", layer_norm="after"), [(0, 1)], []),
    "identity_stitching": (methods.identity_stitch(), [(0, 1), (1, 0)], []),
    "latent_fit": (methods.latent_fit(0), [], [(0, 1)]),
}


@pytest.mark.parametrize("name", ROWS)
def test_which_directions_a_method_trains(name):
    plan, behaviour, latent = ROWS[name]
    count = 1 if plan.models == "one" else 2
    assert plan.method == name
    assert sorted(plan.directions(count)) == behaviour
    assert sorted(plan.latent_directions(count)) == latent
    assert type(plan).model_validate_json(plan.model_dump_json()) == plan


@pytest.fixture
def cells(small_toys):
    return {1: counterfactual_latents.natural_cells(small_toys[0].task, 300)}


def made(plan, sites, seed=0):
    return Alignment.from_plan(plan, sites[:1] if plan.models == "one" else sites, seed)


@pytest.fixture(scope="module")
def step_pairs(small_toys):
    """Pairs that swap every position up to the intervened one."""
    return task_pairs([one.task for one in small_toys], ["full"] * 2, (64, 32, 32), stepwise=True)


@pytest.mark.parametrize("name", [name for name in ROWS if name != "identity_stitching"])
def test_which_parameters_receive_gradient(name, small_sites, small_pairs, step_pairs, cells):
    plan = ROWS[name][0]
    alignment = made(plan, small_sites)
    given = step_pairs if name == "stepwise_mas" else small_pairs
    loop = FitLoop(alignment, plan, given[:2], QUICK, cells)
    loop.loss(0).backward()
    moved = {key for key, one in alignment.named_parameters() if one.grad is not None and one.grad.abs().max() > 0}
    assert moved == {key for key, _ in alignment.named_parameters()}
    expected = (
        {f"transports.{way.source}_{way.target}" for way in plan.trained_directions(2)} if plan.transport else None
    )
    assert expected is None or {key.rsplit(".", 1)[0][: len("transports.0_1")] for key in moved} == expected


def test_a_stitch_replaces_the_whole_vector(small_sites):
    alignment = made(methods.stitch(), small_sites)
    one = alignment.direction_transports[Direction(0, 1)]
    h_t, h_s = torch.randn(5, 16), torch.randn(5, 16)
    found = alignment.interchange(h_t, h_s, target=1, source=0)
    torch.testing.assert_close(found, one.forward(h_s))
    assert alignment.directions() == [Direction(0, 1), Direction(1, 0)]
    back = made(methods.stitch(0, kind="orthogonal"), small_sites)
    assert back.directions() == [Direction(0, 1), Direction(1, 0)]  # there by the transpose
    turned = back.interchange(h_t, back.interchange(h_t, h_s, target=0, source=1), target=1, source=0)
    torch.testing.assert_close(turned, h_s, rtol=1e-4, atol=1e-5)
    assert made(methods.stitch(0, kind="affine", layer_norm="after"), small_sites).directions() == [Direction(1, 0)]
    with pytest.raises(UnsupportedError, match="naming the shared dims of stitching is not supported"):
        alignment.interchange(h_t, h_s, target=1, source=0, subspace="count")


def test_identity_stitching_of_a_model_with_itself_is_the_swap_of_its_own_vectors(small_toys, small_pairs):
    sites = [wrap(small_toys[0].model, name=name).at("state") for name in ("one", "same")]
    table = evaluate(made(methods.identity_stitch(), sites), small_pairs[2])
    assert [(row.source, row.target) for row in table.rows] == [(0, 1), (1, 0)]
    assert not list(made(methods.identity_stitch(), sites).parameters())
    assert all(row.iia > 0.97 for row in table.rows)  # what the toy itself makes of the source's state
    with pytest.raises(SettingError, match="the kind of map is 'identity', but must be 'linear' or another"):
        fit(made(methods.identity_stitch(), sites), methods.identity_stitch(), *small_pairs[:2], progress=False)


@pytest.mark.parametrize(
    "transport", [{}, {"rank": 4}, {"kind": "orthogonal", "init": "procrustes"}, {"kind": "affine"}]
)
def test_stitching_learns(small_sites, small_pairs, transport):
    plan = methods.stitch(0, **transport)
    alignment = made(plan, small_sites)
    done = fit(alignment, plan, *small_pairs[:2], QUICK.model_copy(update={"epochs": 30}), progress=False)
    table = evaluate(alignment, small_pairs[2])
    assert table.worst.iia > 0.5
    assert table.worst.floor < 0.3
    assert (table.worst.k, table.worst.init) == (transport.get("rank"), transport.get("init", "random"))
    assert done.path == "tail"


def test_stitches_are_saved_and_loaded(small_sites, small_pairs, tmp_path):
    alignment = made(methods.stitch(rank=5), small_sites)
    alignment.save_pretrained(tmp_path / "stitch")
    back = Alignment.from_pretrained(tmp_path / "stitch", [site.model for site in small_sites])
    assert back.plan == alignment.plan
    assert evaluate(back, small_pairs[2]).rows == evaluate(alignment, small_pairs[2]).rows


def test_cross_directions_of_mas_with_all_dims_are_orthogonal_stitching(small_sites):
    """k = d: W = U_tᵀ U_s (Grant 2025, §3.3)."""
    mas = made(methods.mas(MapSpec(rank=16)), small_sites)
    frames = [view.frame.detach() for view in mas.swap_operator().views]
    stitched = made(methods.stitch(1, kind="orthogonal"), small_sites)
    stitched.direction_transports[Direction(0, 1)].start(frames[1] @ frames[0].T)
    h_t, h_s = torch.randn(9, 16), torch.randn(9, 16)
    swaps = [one.interchange(h_t, h_s, target=1, source=0) for one in (mas, stitched)]
    torch.testing.assert_close(*swaps, rtol=1e-4, atol=1e-5)


def curve(sites, pairs, plan, natural=None, **settings):
    alignment = made(plan, sites)
    own = QUICK.model_copy(update=settings)
    done = fit(alignment, plan, *pairs[:2], own, latents=natural, progress=False)
    return alignment, done


def test_clmas_without_weight_on_latents_is_unimas(small_sites, small_pairs, cells):
    one, _ = curve(small_sites, small_pairs, methods.unimas(0, RANK))
    other, done = curve(small_sites, small_pairs, methods.clmas(0, RANK, latent_weight=0.0), cells)
    assert done.best_step > 0
    for own, same in zip(one.site_maps, other.site_maps, strict=True):
        torch.testing.assert_close(own.weight, same.weight)
    third, _ = curve(small_sites, small_pairs, methods.clmas(0, RANK, latent_weight=0.5), cells)
    assert not torch.allclose(third.site_maps[1].weight, one.site_maps[1].weight)


def test_latents_move_the_inaccessible_direction(small_sites, small_pairs, cells):
    """Trained without the behaviour of model 1, swaps into it come out right far more often."""
    found = {}
    for plan in (methods.unimas(0, RANK), methods.clmas(0, RANK), methods.latent_fit(0)):
        alignment, done = curve(small_sites, small_pairs, plan, cells, epochs=40)
        found[plan.method] = evaluate(alignment, small_pairs[2]).of(0, 1).iia
        assert done.latents_dropped == 0
    assert found["clmas"] > found["unimas"] + 0.2
    assert found["latent_fit"] > found["unimas"]


def test_a_recording_gives_the_same_fit_as_the_model(small_sites, small_toys, small_pairs, cells):
    """CLMAS where model 1 exists only as its activations at natural cells."""
    task, natural = small_toys[0].task, cells[1]
    rows = gather_site(small_sites[1].model, small_sites[1], natural.inputs, natural.where)
    brain = natural.to_recording(rows, "brain")
    present = [look_up_cells(pairs, 1, task, natural, split) for split, pairs in enumerate(small_pairs[:2])]
    recorded = [
        look_up_cells(pairs, 1, task, counterfactual_latents.cells_of_recording(brain), split)
        for split, pairs in enumerate(small_pairs[:2])
    ]
    one, _ = curve(small_sites, present, methods.clmas(0, RANK), cells)
    other, _ = curve([small_sites[0], brain], recorded, methods.clmas(0, RANK))
    for own, same in zip(one.site_maps, other.site_maps, strict=True):
        torch.testing.assert_close(own.weight, same.weight, rtol=1e-3, atol=1e-4)


def test_what_a_latent_loss_needs(small_sites, small_pairs):
    with pytest.raises(
        EmptyError, match=r"^the set of natural cells of gru-1:state is empty; give them for model 1, as"
    ):
        curve(small_sites, small_pairs, methods.clmas(0, RANK))
    bare = recording(torch.randn(3, 16), {"count": [1, 2, 3], "phase": ["demo"] * 3}, "r")
    with pytest.raises(UnsupportedError, match="cells with inputs, as the model has to read them"):
        curve(small_sites, small_pairs, methods.clmas(0, RANK), {1: counterfactual_latents.cells_of_recording(bare)})


def test_maps_or_a_transport():
    with pytest.raises(
        UnsupportedError, match=r"^a plan with both maps and a transport \('both'\) is not supported; give"
    ):
        methods.Plan(method="both", maps=RANK, transport=TransportSpec())


def test_the_checkpoint_may_be_chosen_where_nothing_was_trained(small_sites, small_pairs):
    """`no_access` looks at the behaviour of the inaccessible model; it says so in the plan."""
    plan = methods.unimas(0, RANK).model_copy(update={"select_on": "no_access"})
    alignment, done = curve(small_sites, small_pairs, plan)
    assert {(row.source, row.target) for row in done.curve} == {(0, 1), (1, 1)}
    rows = [*done.curve, *evaluate(alignment, small_pairs[2]).rows]
    assert {row.selected_on for row in rows} == {"no_access"}


def test_more_than_three_models(small_sites, small_settings, small_toys):
    from mas_hooks.models.toys.toy_cache import load_toy

    third = wrap(load_toy(small_settings(0, "lstm"), progress=False).model, name="lstm").at("state")
    sites = [*small_sites, third, small_sites[0]]
    pairs = task_pairs([small_toys[0].task] * 4, ["full"] * 4, (128, 32, 32))
    alignment = made(methods.mas(RANK), sites)
    done = fit(alignment, methods.mas(), *pairs[:2], QUICK.model_copy(update={"epochs": 1}), progress=False)
    assert len({(row.source, row.target) for row in done.curve}) == 16
    assert len(alignment.site_maps) == 4
