"""Pairs whose cells in one model are looked up: a recorded model is trained on as if it were there."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sentences import refused

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.engine.cache import ActivationCache, gather_site
from mas_hooks.core.errors import EmptyError, UnsupportedError
from mas_hooks.hooks.wrap import wrap
from mas_hooks.alignment.interchange import interchange
from mas_hooks.data.counterfactual_latents import match_values, natural_cells, cells_of_recording
from mas_hooks.training.losses import latent_losses
from mas_hooks.data.pairs import Pairs
from mas_hooks.data.counterfactual_latents import look_up_cells
from mas_hooks.core.sites import Where
from mas_hooks.data.task_pairs import task_pairs
from mas_hooks.data.tasks import task
from mas_hooks.models.toys.recurrent import RecurrentModel

TASKS = [task("multi_object", max_quantity=6), task("single_object", max_quantity=6)]
WAYS = [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    own = zip(TASKS, (8, 10), strict=True)
    return [wrap(RecurrentModel(len(one.vocabulary), width).eval().requires_grad_(False)) for one, width in own]


@pytest.fixture(scope="module")
def pairs():
    return task_pairs(TASKS, ["count", "count"], (60, 1, 1))[0]


@pytest.fixture(scope="module")
def natural():
    return natural_cells(TASKS[1], 120)


@pytest.fixture(scope="module")
def brain(models, natural):
    """A recording of model 1 at its natural cells."""
    vectors = gather_site(models[1], models[1].at("state"), natural.inputs, natural.where)
    return natural.to_recording(vectors, "area V4")


def full(own, inputs, where):
    """Phase and count at the cells of token sequences."""
    states = [
        own.replay(own.vocabulary.decode(inputs[row]))[column]
        for row, column in zip(where.rows.tolist(), where.columns.tolist(), strict=True)
    ]
    return [(state.phase, state.count) for state in states]


def before_the_swap(own, pairs):
    """Phase and count at the target cells, told by the tokens up to them."""
    cut = zip(pairs.target_inputs, pairs.target_where.columns.tolist(), strict=True)
    states = [own.replay(own.vocabulary.decode(ids[: column + 1]))[-1] for ids, column in cut]
    return [(state.phase, state.count) for state in states]


def test_the_cells_found_have_the_variables_of_those_replaced(pairs, natural):
    moved = look_up_cells(pairs, 1, TASKS[1], natural)
    assert list(moved) == list(pairs)
    assert moved[0, 0] is pairs[0, 0]
    for way, own in moved.items():
        assert len(own) == len(pairs[way]) == 60
        assert own.redraws == pairs[way].redraws
        giver, receiver = (TASKS[index] for index in way)
        assert full(giver, own.source_inputs, own.source_where) == full(
            giver, pairs[way].source_inputs, pairs[way].source_where
        )
        if way[1] == 1:
            assert full(receiver, own.target_inputs, own.target_where) == before_the_swap(receiver, pairs[way])
            assert own.labels.shape == own.label_mask.shape == own.deterministic_mask.shape == (60, 0)
        else:
            assert own.target_inputs is pairs[way].target_inputs or torch.equal(
                own.target_inputs, pairs[way].target_inputs
            )
            assert torch.equal(own.labels, pairs[way].labels)
        assert {name: list(values) for name, values in own.expected.items()} == {
            name: list(values) for name, values in pairs[way].expected.items()
        }


def test_a_recording_gives_what_its_model_gives(models, pairs, natural, brain):
    here, there = (
        look_up_cells(pairs, 1, TASKS[1], natural, 3),
        look_up_cells(pairs, 1, TASKS[1], cells_of_recording(brain), 3),
    )
    sites = [model.at("state") for model in models]
    present = ActivationCache(sites, models)
    absent = ActivationCache([sites[0], brain], [models[0], None])
    for way in WAYS:
        torch.testing.assert_close(present.source(way[0], here[way]), absent.source(way[0], there[way]))
        torch.testing.assert_close(present.target(way[1], here[way]), absent.target(way[1], there[way]))
    assert there[1, 0].source_inputs is None
    assert there[0, 1].target_inputs is None
    other = look_up_cells(pairs, 1, TASKS[1], cells_of_recording(brain), 4)[1, 0]
    assert not torch.equal(other.source_where.rows, there[1, 0].source_where.rows)


def descend(sites, models, pairs, cells, rows):
    """Ten steps down the latent loss of the directions into site 1; its values, and the maps at the end."""
    alignment = Alignment(sites, rank=3, seed=2)
    cache = ActivationCache(sites, models)
    latents = {way: match_values(pairs[way], cells, (0, *way)) for way in ((0, 1), (1, 1))}
    optimizer = torch.optim.SGD(alignment.parameters(), lr=0.1)
    values = []
    for step in range(10):
        index = torch.arange(30) + step
        views, swapped, wanted, sizes = alignment.swap_operator().views, [], [], []
        for (source, target), found in latents.items():
            own = pairs[source, target]
            given, taken = cache.source(source, own)[index], cache.target(target, own)[index]
            places, cell = found.of(index)
            dims = alignment.spec.block(None, taken.shape[1])
            swapped.append(interchange(taken, given, views[target], views[source], dims)[places])
            wanted.append(rows[cell])
            sizes.append(len(cell))
        loss = latent_losses(torch.cat(swapped), torch.cat(wanted), sizes).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    return values, [own.weight.detach() for own in alignment.site_maps]


def test_training_on_the_recording_is_training_on_the_model(models, pairs, natural, brain):
    sites = [model.at("state") for model in models]
    rows = gather_site(models[1], sites[1], natural.inputs, natural.where)
    recorded = cells_of_recording(brain)
    present = descend(sites, models, look_up_cells(pairs, 1, TASKS[1], natural), natural, rows)
    absent = descend(
        [sites[0], brain],
        [models[0], None],
        look_up_cells(pairs, 1, TASKS[1], recorded),
        recorded,
        recorded.where.gather(brain.activations),
    )
    assert present[0] == pytest.approx(absent[0], rel=1e-5)
    assert present[0][-1] < present[0][0]
    for one, other in zip(present[1], absent[1], strict=True):
        torch.testing.assert_close(one, other)


def without(cells, counts):
    """The same cells with some counts unknown."""
    left = np.array([None if count in counts else count for count in cells.variables["count"].tolist()], dtype=object)
    return replace(cells, variables={**cells.variables, "count": left})


def test_pairs_without_a_cell_are_left_out_and_counted(pairs, natural):
    with refused(EmptyError, "is empty; give cells with the values", "phase="):
        look_up_cells(pairs, 1, TASKS[1], without(natural, range(7)))
    moved = look_up_cells(pairs, 1, TASKS[1], without(natural, [3]))
    for way in ((1, 0), (0, 1), (1, 1)):
        old = pairs[way]
        gone = [False] * len(old)
        if way[0] == 1:
            gone = [value[1] == 3 for value in full(TASKS[1], old.source_inputs, old.source_where)]
        if way[1] == 1:
            gone = [lost or value[1] == 3 for lost, value in zip(gone, before_the_swap(TASKS[1], old), strict=True)]
        left = [row for row, lost in enumerate(gone) if not lost]
        assert 0 < len(left) < 60
        assert len(moved[way]) == len(left)
        assert moved[way].redraws == old.redraws + 60 - len(left)
        assert torch.equal(moved[way].source_key, old.source_key[left])
        assert moved[way].expected["count"].tolist() == old.expected["count"][left].tolist()
        assert moved[way].single
        if way[1] == 0:
            assert torch.equal(moved[way].target_inputs, old.target_inputs[left])
            assert torch.equal(moved[way].target_where.columns, old.target_where.columns[left])
            assert torch.equal(moved[way].labels, old.labels[left])


def test_refuses_pairs_that_are_no_tokens_of_a_task(pairs, natural):
    whole = pairs[1, 0]
    named = replace(whole, source_inputs={"input_ids": whole.source_inputs})
    with refused(UnsupportedError, "looking up the source cells of these pairs", "give pairs from"):
        look_up_cells({(1, 0): named}, 1, TASKS[1], natural)
    ids, where = whole.target_inputs[:2], Where([0, 0, 1], [1, 0, 1])
    several = Pairs.from_tensors(ids, where, ids, where, whole.labels[:2], torch.ones_like(ids))
    with refused(UnsupportedError, "looking up the target cells"):
        look_up_cells({(0, 1): several}, 1, TASKS[1], natural)
    turned = replace(whole, target_where=Where(torch.arange(59, -1, -1), [1] * 60))
    with refused(UnsupportedError, "looking up the source cells"):
        look_up_cells({(1, 0): turned}, 1, TASKS[1], natural)
