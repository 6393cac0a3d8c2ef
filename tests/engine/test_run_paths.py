"""The tail and the whole forward give the same numbers, and the tail is taken only where it is proven."""

import pytest
import torch
from engine import odd_models
from engine.tail_cases import LONG, PARTS, SHORT, TASK, assert_same, handle, part

from mas_hooks.core.sites import Where
from mas_hooks.data.pairs import Pairs
from mas_hooks.engine.batch import PatchBatch, labelled_positions
from mas_hooks.engine.runner import ReferenceRunner, choose_runner
from mas_hooks.engine.tails.recurrent import StateTailRunner as TailRunner
from mas_hooks.models.toys.recurrent import RecurrentModel


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("named", PARTS)
def test_tail_equals_reference(cell, named):
    model, site = handle(RecurrentModel(len(TASK.vocabulary), 12, cell))
    parts = [part(pairs, index, 12, seed) for seed, (pairs, index) in enumerate(PARTS[named])]
    assert_same(TailRunner(model, site), ReferenceRunner(model, site), parts)


@pytest.mark.parametrize("run", [TailRunner, ReferenceRunner])
@pytest.mark.parametrize(("named", "passes"), [("the same pairs twice", 1), ("pairs of different lengths", 3)])
def test_all_sources_of_a_target_go_through_in_one_pass(run, named, passes):
    """Also by the whole forward, where the sequences are equally long."""
    model, site = handle(RecurrentModel(len(TASK.vocabulary), 12))
    parts = [part(pairs, index, 12) for pairs, index in PARTS[named]]
    calls = []
    with model.module.register_forward_hook(lambda *_: calls.append(1)):
        run(model, site).run(parts)
    assert len(calls) == (1 if run is TailRunner else passes)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_reference_gives_each_row_its_own_vector(cell):
    model, site = handle(RecurrentModel(len(TASK.vocabulary), 12, cell))
    whole = part(LONG, [7, 3, 29], 12)
    together = ReferenceRunner(model, site).run([whole])
    for row, index in enumerate([7, 3, 29]):
        alone = ReferenceRunner(model, site).run(
            [PatchBatch(LONG, torch.tensor([index]), whole.vectors[row : row + 1])]
        )
        torch.testing.assert_close(together.logits[together.row == row], alone.logits)
        assert torch.equal(together.labels[together.row == row], alone.labels)


def test_logits_are_those_of_the_wanted_cells():
    model, site = handle(RecurrentModel(len(TASK.vocabulary), 12))
    own, _ = model.run_with_cache(LONG.target_inputs, "state", LONG.target_where)
    states = model.run_with_cache(LONG.target_inputs, "state", LONG.target_where)[1]["state"]
    out = TailRunner(model, site).run([PatchBatch(LONG, torch.arange(30), states)])
    rows, columns = labelled_positions(LONG).nonzero(as_tuple=True)
    torch.testing.assert_close(out.logits, own[rows, columns], rtol=1e-5, atol=1e-5)
    assert torch.equal(out.labels, LONG.labels[rows, columns])
    assert torch.equal(out.deterministic, LONG.deterministic_mask[rows, columns])
    assert torch.equal(out.scored, LONG.label_mask[rows, columns])


@pytest.mark.parametrize(
    ("kind", "site", "path"),
    [
        ("Plain", "state", "tail"),
        ("TimeFirst", "state", "tail"),
        ("PlaceBelow", "state", "reference"),
        ("PlaceAbove", "state", "reference"),
        ("MeanAbove", "state", "reference"),
        ("SkipAbove", "state", "reference"),
        ("ReverseBeside", "state", "reference"),
        ("CellLoop", "state", "reference"),
        ("Stacked", "state.0", "reference"),
        ("Stacked", "state.1", "reference"),
        ("Plain", "embedding", "tail"),
        ("TimeFirst", "embedding", "tail"),
        ("BelowTheInput", "lift", "tail"),
        ("PlaceBelow", "embedding", "reference"),
        ("PlaceAbove", "embedding", "reference"),
        ("MeanAbove", "embedding", "reference"),
        ("SkipAbove", "embedding", "reference"),
        ("ReverseBeside", "embedding", "reference"),
        ("CellLoop", "embedding", "reference"),
        ("Stacked", "embedding", "reference"),
        ("TwoRecurrences", "embedding", "reference"),
        ("PackedInside", "embedding", "reference"),
        ("Plain", "rnn", "reference"),
        ("Plain", "head", "reference"),
    ],
)
def test_tail_only_where_proven(kind, site, path):
    model, place = handle(getattr(odd_models, kind)(len(TASK.vocabulary)), site)
    chosen = choose_runner(model, place, LONG)
    assert chosen.name == path
    parts = [part(LONG, [5, 0, 20], place.width), part(SHORT, [1, 8], place.width)]
    assert_same(chosen, ReferenceRunner(model, place), parts)
    assert model.module(LONG.target_inputs).shape[:2] == LONG.labels.shape  # nothing of the displaced forward is left


def test_cell_loop_equals_fused():
    fused, cells = odd_models.Plain(len(TASK.vocabulary)), odd_models.CellLoop(len(TASK.vocabulary))
    (model, site), (other, place) = handle(fused), handle(cells)
    cells.load_state_dict({name.replace("_l0", ""): value for name, value in fused.state_dict().items()})
    given = [part(LONG, [5, 0, 20], 10)]
    expected = choose_runner(model, site, LONG).run(given)
    torch.testing.assert_close(
        choose_runner(other, place, LONG).run(given).logits, expected.logits, rtol=1e-5, atol=1e-5
    )


def test_reference_where_pairs_do_not_suit_a_tail():
    model, site = handle(RecurrentModel(len(TASK.vocabulary), 12))
    assert choose_runner(model, site, LONG).name == "tail"
    assert choose_runner(model, site, LONG, "reference").name == "reference"
    ids = LONG.target_inputs
    early, where = torch.ones_like(LONG.label_mask), LONG.target_where
    mapping = {"ids": ids}
    assert (
        choose_runner(model, site, Pairs.from_tensors(ids, where, ids, where, LONG.labels, early)).name == "reference"
    )
    twice = Where(torch.arange(30).repeat(2), torch.cat([where.columns, where.columns - 1]))
    several = Pairs.from_tensors(ids, twice, ids, twice, LONG.labels, LONG.label_mask)
    assert choose_runner(model, site, several).name == "reference"
    assert choose_runner(
        model, site, Pairs.from_tensors(ids, where, mapping, where, LONG.labels, LONG.label_mask)
    ).name == ("reference")


def test_reference_where_one_short_pair_is_judged_before_its_swap():
    model, site = handle(RecurrentModel(len(TASK.vocabulary), 12))
    where, mask = LONG.target_where, LONG.label_mask.clone()
    late = (where.columns > 0).nonzero()[:, 0]
    mask[late[mask[late].sum(1).argmin()], 0] = True
    given = (LONG.source_inputs, LONG.source_where, LONG.target_inputs, where, LONG.labels)
    assert choose_runner(model, site, Pairs.from_tensors(*given, mask)).name == "reference"


def test_tail_of_pairs_that_end_where_they_are_swapped():
    model, site = handle(RecurrentModel(len(TASK.vocabulary), 12))
    last = LONG.target_where.columns
    only = torch.arange(LONG.labels.shape[1]) == last[:, None]
    ended = Pairs.from_tensors(
        LONG.source_inputs, LONG.source_where, LONG.target_inputs, LONG.target_where, LONG.labels, only
    )
    assert_same(TailRunner(model, site), ReferenceRunner(model, site), [part(ended, [3, 1], 12)])
    assert_same(TailRunner(model, site), ReferenceRunner(model, site), [part(ended, [3, 1], 12), part(LONG, [2], 12)])
    assert_same(choose_runner(model, site, ended), ReferenceRunner(model, site), [part(ended, [0], 12)])
