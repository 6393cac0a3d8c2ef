"""Counterfactual latents: which natural cells there are, and which of them stands in for a swapped vector."""

import numpy as np
import pytest
import torch
from sentences import refused

from mas_hooks.engine.cache import gather_site
from mas_hooks.core.errors import EmptyError, SettingError, ShapeError
from mas_hooks.hooks.wrap import wrap
from mas_hooks.data.counterfactual_latents import (
    Matches,
    NaturalCells,
    look_up,
    match_values,
    natural_cells,
    cells_of_recording,
)
from mas_hooks.data.pairs import Pairs
from mas_hooks.core.sites import Where, recording
from mas_hooks.data.task_pairs import task_pairs
from mas_hooks.data.tasks import task
from mas_hooks.models.toys.recurrent import RecurrentModel

COUNTING = task("multi_object", max_quantity=6)
TASKS = [
    COUNTING,
    task("same_object", max_quantity=4),
    task("modulo", max_quantity=6),
    task("arithmetic", max_operations=3, max_value=5),
]


@pytest.mark.parametrize("own", TASKS, ids=lambda own: own.name)
def test_natural_cells_are_those_where_swaps_are_allowed(own):
    found = natural_cells(own, trials=30, seed=1)
    seen = set(zip(found.where.rows.tolist(), found.where.columns.tolist(), strict=True))
    allowed = set()
    for row, ids in enumerate(found.inputs):
        tokens = own.vocabulary.decode(ids)
        allowed |= {(row, column) for column in own.swap_positions(tokens)}
        assert tokens[-1] == "E"
    assert seen == allowed
    assert len(seen) == len(found) > 30


@pytest.mark.parametrize("own", TASKS, ids=lambda own: own.name)
def test_natural_cells_know_the_variables_of_their_program(own):
    found = natural_cells(own, trials=20, seed=2)
    assert set(found.variables) == set(own.program.names)
    for cell, (row, column) in enumerate(zip(found.where.rows, found.where.columns, strict=True)):
        state = own.replay(own.vocabulary.decode(found.inputs[row]))[column]
        for name in own.program.names:
            assert found.variables[name][cell] == getattr(state, name)


def test_natural_cells_repeat_by_seed():
    one, same, other = (natural_cells(COUNTING, 20, seed) for seed in (0, 0, 1))
    assert torch.equal(one.inputs, same.inputs)
    assert one.inputs.shape != other.inputs.shape or not torch.equal(one.inputs, other.inputs)
    with refused(EmptyError, "natural trials of multi_object", "at least one"):
        natural_cells(COUNTING, 0)


def test_natural_cells_are_drawn_as_in_evaluation():
    """No void tokens, and the quantities held out of training too."""
    own = task("multi_object", max_quantity=3, void_probability=0.5, hold_outs=[2])
    found = natural_cells(own, 60)
    assert own.vocabulary.ids["V"] not in found.inputs
    assert {tokens.count("R") for tokens in map(own.vocabulary.decode, found.inputs)} == {1, 2, 3}


def several(expected):
    """One pair that swaps two cells, before one that swaps one."""
    ids, where = torch.tensor([[1, 2, 3], [1, 2, 3]]), Where([0, 0, 1], [0, 1, 1])
    return Pairs.from_tensors(ids, where, ids, where, ids, torch.ones_like(ids), expected=expected)


def test_pairs_of_several_cells_have_a_match_for_each():
    pairs = several({"count": [3, 9, 4]})
    natural = NaturalCells("some cells", None, Where([0, 1], [0, 0]), {"count": np.array([4, 3])})
    found = match_values(pairs, natural)
    assert found.cell.tolist() == [1, -1, 0]
    own, _ = pairs.cells(torch.tensor([1, 0]))
    assert own.tolist() == [0, 1, 2]
    places, cell = found.of(own)
    assert (places.tolist(), cell.tolist()) == ([0, 2], [1, 0])


def test_pairs_must_say_what_is_expected():
    with refused(SettingError, "expected of the pairs is None", "variables after the swap"):
        match_values(several(None), natural_cells(COUNTING, 5))


def test_matches_of_a_batch():
    found = Matches(torch.tensor([5, -1, 7, -1, 2]))
    places, cell = found.of(torch.tensor([4, 3, 0]))
    assert (places.tolist(), cell.tolist()) == ([0, 2], [2, 5])
    places, cell = found.of(torch.tensor([1, 3]))
    assert len(places) == len(cell) == 0
    assert (len(found), found.dropped) == (5, 2)


@pytest.mark.parametrize("own", TASKS, ids=lambda own: own.name)
def test_a_latent_is_in_the_state_that_the_swap_should_leave(own):
    """Told by the tokens alone: the target's program with the source's values put in, against the natural trial's."""
    pairs, found = task_pairs([own], ["full"], (60, 1, 1))[0][0, 0], natural_cells(own, 200)
    matches = match_values(pairs, found)
    assert matches.dropped < 20
    for row in matches.index.tolist():
        source = own.replay(own.vocabulary.decode(pairs.source_inputs[row]))[-1]
        swapped = {name: getattr(source, name) for name in own.variables["full"]}
        at = int(pairs.target_where.columns[row])
        after = own.replay(own.vocabulary.decode(pairs.target_inputs[row, : at + 1]), {at: swapped})[-1]
        cell = matches.cell[row]
        natural = own.replay(own.vocabulary.decode(found.inputs[found.where.rows[cell]]))
        state = natural[found.where.columns[cell]]
        assert [getattr(state, name) for name in swapped] == [getattr(after, name) for name in swapped]


def test_what_no_natural_cell_holds_is_dropped():
    """After a demo token the count is 1 or more, after a response token below the most."""
    pairs, found = task_pairs([COUNTING], ["count"], (400, 1, 1))[0][0, 0], natural_cells(COUNTING, 200)
    matches = match_values(pairs, found)
    phase, count = pairs.expected["phase"], pairs.expected["count"]
    nowhere = ((phase == "demo") & (count == 0)) | ((phase == "response") & (count == 6))
    assert (matches.cell.numpy() == -1).tolist() == nowhere.tolist()
    assert 0 < matches.dropped < 60


def test_last_values_match_by_themselves():
    pairs, found = task_pairs([COUNTING], ["last_value"], (50, 1, 1))[0][0, 0], natural_cells(COUNTING, 50)
    matches = match_values(pairs, found)
    assert matches.dropped == 0
    assert (found.variables["last_value"][matches.cell] == pairs.expected["last_value"]).all()


def test_a_recording_of_the_natural_cells_gives_the_same_latents():
    model = wrap(RecurrentModel(len(COUNTING.vocabulary), 8).eval())
    found = natural_cells(COUNTING, 60)
    vectors = gather_site(model, model.at("state"), found.inputs, found.where).detach()
    brain = found.to_recording(vectors, "area V4")
    again = cells_of_recording(brain)
    assert again.inputs is None
    assert torch.equal(again.where.gather(brain.activations), vectors)
    pairs = task_pairs([COUNTING], ["count"], (90, 1, 1))[0][0, 0]
    assert torch.equal(match_values(pairs, found, (4, 0, 1)).cell, match_values(pairs, again, (4, 0, 1)).cell)
    assert not torch.equal(match_values(pairs, found, (4, 0, 1)).cell, match_values(pairs, found, (4, 1, 1)).cell)
    with refused(ShapeError, "what was measured has shape (3, 8)", f"each of the {len(found)} cells"):
        found.to_recording(vectors[:3], "area V4")


def test_recorded_sequences_give_all_their_cells():
    site = recording(torch.arange(12.0).view(2, 3, 2), {"count": [[0, 1, 2], [3, 4, None]]}, "area V4")
    found = cells_of_recording(site)
    cell = look_up({"count": np.array([4, 2, 5])}, found).cell
    assert cell.tolist() == [4, 2, -1]
    assert found.where.gather(site.activations)[cell[:2]].tolist() == [[8.0, 9.0], [4.0, 5.0]]
