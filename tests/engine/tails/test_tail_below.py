"""Swaps below a recurrence: from the first swapped cell on, the same numbers as the whole forward."""

import pytest
import torch
from engine import odd_models
from engine.tail_cases import LONG, PARTS, SHORT, VOCABULARY, assert_same, every_cell, handle, part, with_cells
from torch import nn

from mas_hooks.core.errors import UnsupportedError
from mas_hooks.core.sites import Where
from mas_hooks.data.pairs import Pairs
from mas_hooks.engine import runner as run
from mas_hooks.engine.runner import ReferenceRunner, choose_runner
from mas_hooks.engine.tails.recurrent import StateTailRunner
from mas_hooks.models.toys.recurrent import RecurrentModel

CELLS = {
    "one cell": lambda pairs: pairs,
    "all cells from the first column on": every_cell,
    "all cells from the fourth column on": lambda pairs: every_cell(pairs, 3),
    "the first column": lambda pairs: with_cells(pairs, Where.one_per_row(torch.zeros(len(pairs)))),
    "one before and one behind": lambda pairs: with_cells(
        pairs,
        Where(
            torch.arange(len(pairs)).repeat(2),
            torch.cat([pairs.target_where.columns, pairs.target_where.columns * 0 + pairs.labels.shape[1] - 1]),
        ),
    ),
}
SETS = {name: {id(pairs): make(pairs) for pairs in (LONG, SHORT)} for name, make in CELLS.items()}


class Tanh(odd_models.Base):
    def __init__(self, vocabulary):
        super().__init__(vocabulary, 12)
        self.rnn = nn.RNN(12, 12, batch_first=True)


MODELS = {
    "gru": lambda: RecurrentModel(VOCABULARY, 12),
    "lstm": lambda: RecurrentModel(VOCABULARY, 12, "lstm"),
    "tanh": lambda: Tanh(VOCABULARY),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("cells", CELLS)
@pytest.mark.parametrize("named", PARTS)
def test_tail_equals_reference(kind, cells, named):
    model, site = handle(MODELS[kind](), "embedding")
    chosen = choose_runner(model, site, SETS[cells][id(LONG)])
    assert isinstance(chosen, StateTailRunner)
    parts = [part(SETS[cells][id(pairs)], index, 12, seed) for seed, (pairs, index) in enumerate(PARTS[named])]
    assert_same(chosen, ReferenceRunner(model, site), parts)


@pytest.mark.parametrize(("kind", "path"), [("OwnStart", "tail"), ("StartOfTheFirstToken", "reference")])
def test_the_start_of_the_recurrence_is_the_models_own(kind, path):
    model, site = handle(getattr(odd_models, kind)(VOCABULARY), "embedding")
    pairs = every_cell(LONG)
    chosen = choose_runner(model, site, pairs)
    assert chosen.name == path
    assert_same(chosen, ReferenceRunner(model, site), [part(pairs, [5, 0, 20], 10)])


def test_the_input_of_the_recurrence_is_below_it():
    model, site = handle(odd_models.BelowTheInput(VOCABULARY), "rnn", "input")
    chosen = choose_runner(model, site, LONG)
    assert chosen.name == "tail"
    assert_same(chosen, ReferenceRunner(model, site), [part(LONG, [5, 0, 20], 10)])


def counted(monkeypatch):
    """How many steps each packed call runs, and how many positions each whole one."""
    steps, own = [], torch.gru

    def gru(data, second, *rest):
        steps.append(("packed", len(data)) if second.ndim == 1 else ("whole", data.shape[:2].numel()))
        return own(data, second, *rest)

    monkeypatch.setattr(torch, "gru", gru)
    return steps


@pytest.mark.parametrize("least", [0, 4])
def test_no_step_before_the_first_swap_nor_on_padding(monkeypatch, least):
    model, site = handle(MODELS["gru"](), "embed")
    pairs, tail = every_cell(LONG, least), StateTailRunner(model, site)
    tail.run([part(pairs, [0], 12)])
    steps = counted(monkeypatch)
    tail.run([part(pairs, [3, 8, 21], 12), part(pairs, [8], 12)])
    columns = torch.arange(pairs.labels.shape[1])
    last = (columns * (pairs.label_mask | pairs.deterministic_mask)).amax(1)
    first = LONG.target_where.columns.clamp(max=least)
    assert steps == [("packed", int((last - first + 1)[[3, 8, 21, 8]].sum()))]


def test_unedited_states_are_computed_once_and_one_a_row():
    model, site = handle(MODELS["lstm"](), "embed")
    tail, seen = StateTailRunner(model, site), []
    with model.module.embedding.register_forward_hook(lambda _module, args, _out: seen.append(tuple(args[0].shape))):
        for index in ([3, 8], [8, 1], list(range(30))):
            tail.run([part(LONG, index, 12)])
    whole = [shape for shape in seen if shape[0] > 1]
    assert whole == [(30, LONG.labels.shape[1])]
    (_, states), *rest = tail.starts.values()
    assert states.shape == (30, 12)
    assert not rest
    begin = LONG.target_where.columns - 1
    _, own = model.run_with_cache(LONG.target_inputs, "state", Where.one_per_row(begin.clamp(min=0)))
    torch.testing.assert_close(states, torch.where(begin[:, None] < 0, 0.0, own["state"]))


def test_a_swap_that_nothing_wanted_comes_after_changes_nothing():
    model, site = handle(MODELS["gru"](), "embed")
    pairs = SETS["one before and one behind"][id(LONG)]
    given = part(pairs, list(range(30)), 12)
    for one in (StateTailRunner(model, site), ReferenceRunner(model, site)):
        (gradient,) = torch.autograd.grad(one.run([given]).logits.square().sum(), given.vectors)
        behind = pairs.target_where.columns > (torch.arange(pairs.labels.shape[1]) * pairs.label_mask).amax(1).repeat(2)
        assert behind.sum() > 10
        assert gradient[behind].abs().max() == 0
        assert gradient[~behind].abs().amax(1).min() > 0


def test_reference_where_pairs_do_not_suit():
    model, site = handle(MODELS["gru"](), "embed")
    ids, where, labels, mask = LONG.target_inputs, LONG.target_where, LONG.labels, LONG.label_mask
    assert choose_runner(model, site, LONG).name == "tail"
    assert choose_runner(model, site, LONG, "tail").name == "tail"
    assert choose_runner(model, site, LONG, "reference").name == "reference"
    early, late = mask.clone(), int(where.columns.argmax())
    early[late, int(where.columns[late]) - 1] = True
    one_less = Where(where.rows[1:], where.columns[1:])
    others = [
        Pairs.from_tensors(ids, where, ids, where, labels, early),
        Pairs.from_tensors(ids, one_less, ids, one_less, labels, mask),
        Pairs.from_tensors(ids, where, {"ids": ids}, where, labels, mask),
    ]
    assert [choose_runner(model, site, pairs).name for pairs in others] == ["reference"] * 3


def test_no_tail_without_a_recurrence_to_go_on_from():
    model, site = handle(odd_models.Stacked(VOCABULARY), "embedding")
    with pytest.raises(UnsupportedError, match=r"a tail from Stacked:embedding .*path='reference'"):
        StateTailRunner(model, site).run([part(LONG, [0], 10)])


def test_a_proof_changes_vectors_that_are_all_alike():
    """Else a swap that ends up at another cell would not be seen."""
    vectors = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert run._exchange_vectors(vectors).tolist() == [[4, 5, 6], [3, 1, 2], [1, 2, 3]]
    assert run._exchange_vectors(vectors[:1]).tolist() == [[3, 1, 2]]


def test_a_tail_that_puts_a_swap_elsewhere_is_not_taken(monkeypatch):
    model, site = handle(MODELS["gru"](), "embed")
    alike, where = LONG.target_inputs.clone(), LONG.target_where
    alike[where.rows, where.columns] = 3  # one token at every swapped cell
    pairs = Pairs.from_tensors(alike, where, alike, where, LONG.labels, LONG.label_mask)
    assert choose_runner(model, site, pairs).name == "tail"
    monkeypatch.setattr(StateTailRunner, "_edit", lambda *_: None)
    assert choose_runner(model, site, pairs).name == "reference"
