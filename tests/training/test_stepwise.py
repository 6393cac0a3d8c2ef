"""Swaps of every position up to one: the pairs, live swaps of recurrent states against a loop by hand, and a fit."""

from functools import partial

import pytest
import torch
from hooks.hook_models import HIDDEN, VOCABULARY, Cells, Fused, StepByStep
from torch import nn

from mas_hooks.alignment import methods
from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.directions import PatchedDirections
from mas_hooks.alignment.plan import Direction
from mas_hooks.core.errors import SettingError, UnsupportedError
from mas_hooks.core.sites import Where
from mas_hooks.data.pairs import Pairs
from mas_hooks.data.task_pairs import task_pairs
from mas_hooks.data.tasks import CounterfactualSettings, task
from mas_hooks.engine.batch import PatchBatch
from mas_hooks.engine.cache import ActivationCache
from mas_hooks.engine.runner import ReferenceRunner
from mas_hooks.evaluation.evaluate import evaluate
from mas_hooks.hooks.wrap import wrap
from mas_hooks.training.fit import fit
from mas_hooks.training.latent_targets import LatentTargets
from mas_hooks.training.settings import FitSettings

TASK, SINGLE = task("multi_object", max_quantity=6), task("single_object", max_quantity=6)
LENGTH = 7
MODELS = {
    "gru": lambda: Fused(nn.GRU),
    "lstm": lambda: Fused(nn.LSTM),
    "gru step by step": lambda: StepByStep(nn.GRU),
    "lstm with a given start": lambda: Fused(nn.LSTM, given=True),
    "gru cells": lambda: Cells(nn.GRUCell),
    "lstm cells": lambda: Cells(nn.LSTMCell),
}


# --- the pairs -------------------------------------------------------------------------------------------------------


def rows_of(pairs, row):
    """(swapped columns, target tokens, wanted columns) of one pair."""
    columns = pairs.target_where.columns[pairs.target_where.rows == row].tolist()
    whole = torch.cat([pairs.target_inputs[row, :1], pairs.labels[row]])
    return columns, whole, pairs.label_mask[row].nonzero()[:, 0].tolist()


@pytest.mark.parametrize("pair", [(TASK, TASK), (TASK, SINGLE)], ids=["one task", "two tasks"])
def test_pairs_swap_every_cell_up_to_the_last(pair):
    source, target = pair
    pairs = task_pairs(pair, ["full"] * 2, (40, 1, 1), stepwise=True)[0][0, 1]
    assert torch.equal(pairs.source_where.rows, pairs.target_where.rows)
    assert torch.equal(pairs.source_where.columns, pairs.target_where.columns)
    assert pairs.target_where.rows.tolist() == sorted(pairs.target_where.rows.tolist())
    for row in range(40):
        columns, whole, wanted = rows_of(pairs, row)
        given = source.vocabulary.decode(pairs.source_inputs[row])
        u = len(given) - 1
        assert columns == list(range(u + 1))
        own = target.vocabulary.decode(whole)
        assert wanted == list(range(u, len(own) - 1))
        assert own[-1] == "E"
        if source is target:
            assert source.replay(given + own[u + 1 :])
        judged = pairs.deterministic_mask[row].nonzero()[:, 0].tolist()
        assert set(judged) <= set(wanted)
        assert {own[column + 1] for column in judged} <= {"R", "E"}
    assert pairs.expected is None
    assert not pairs.single
    assert pairs.redraws == 0  # both count to 6


def test_scope_settings_and_refusals_reach_stepwise_pairs():
    wide, narrow = (
        task_pairs([TASK], ["full"], (20, 1, 1), label_scope=scope, stepwise=True)[0][0, 0]
        for scope in ("continuation", "deterministic")
    )
    assert torch.equal(narrow.label_mask, wide.deterministic_mask)
    assert wide.label_mask.sum() > narrow.label_mask.sum()
    void = CounterfactualSettings(stepwise_fill="V")
    filled = task_pairs([TASK], ["full"], (20, 1, 1), settings=void, stepwise=True)
    assert (filled[0][0, 0].target_inputs == TASK.vocabulary.ids["V"]).any()
    assert not (wide.target_inputs == TASK.vocabulary.ids["V"]).any()
    with pytest.raises(SettingError, match="the pair of variables of a stepwise swap is 'multi_object count"):
        task_pairs([TASK], ["count"], (3, 1, 1), stepwise=True)


def test_every_cell_has_the_key_of_its_own_values():
    """The same as those of single positions, so that models meet over either kind of pairs."""
    pairs = task_pairs([TASK], ["full"], (60, 1, 1), stepwise=True)[0][0, 0]
    alone = task_pairs([TASK], ["full"], (200, 1, 1))[0][0, 0]
    known = {}
    for row, key in enumerate(alone.source_key.tolist()):
        state = TASK.replay(TASK.vocabulary.decode(alone.source_inputs[row]))[-1]
        known[state.phase, state.count] = key
    seen = set()
    for row, column, key in zip(
        *(x.tolist() for x in (pairs.source_where.rows, pairs.source_where.columns, pairs.source_key)), strict=True
    ):
        state = TASK.replay(TASK.vocabulary.decode(pairs.source_inputs[row]))[column]
        known.setdefault((state.phase, state.count), key)
        assert known[state.phase, state.count] == key
        seen.add(key)
    assert len(set(known.values())) == len(known)
    assert len(seen) > 10


# --- live swaps against a loop by hand -------------------------------------------------------------------------------


def stepwise(lasts, seed):
    """Random pairs that swap the cells 0 to lasts[i] of row i, labelled from there on."""
    generator = torch.Generator().manual_seed(seed)
    source, target, labels = (torch.randint(0, VOCABULARY, (len(lasts), LENGTH), generator=generator) for _ in range(3))
    columns, last = torch.arange(LENGTH), torch.tensor(lasts)[:, None]
    where = Where.from_mask(columns <= last)
    return Pairs.from_tensors(source, where, target, where, labels, columns >= last)


def by_hand(model, tokens, swap=None):
    """Logits and states [h; c] of one sequence, step by step in the model's own cell; swap(column, state) -> state."""
    if isinstance(model.rnn, nn.ModuleList):
        cell, state = model.rnn[0], None
    else:
        cell = {nn.GRU: nn.GRUCell, nn.LSTM: nn.LSTMCell}[type(model.rnn)](HIDDEN, HIDDEN)
        cell.load_state_dict({name.removesuffix("_l0"): own for name, own in model.rnn.state_dict().items()})
        state = None if model.given is None else tuple(model.given[:, 0])
    logits, states = [], []
    for column, token in enumerate(tokens):
        after = cell(model.embedding(token[None]), state)
        packed = torch.cat(after, -1) if isinstance(after, tuple) else after
        packed = packed if swap is None else swap(column, packed)
        state = tuple(packed.chunk(2, -1)) if isinstance(after, tuple) else packed
        logits.append(model.head(packed[:, :HIDDEN])[0])
        states.append(packed[0])
    return torch.stack(logits), torch.stack(states)


def basis(own):
    q, r = torch.linalg.qr(own.weight)
    return q * torch.diagonal(r).sign()


def expected_logits(alignment, pairs, way, index):
    """Logits of the labelled cells of some pairs of a direction, one sequence and one step after the other."""
    giver, taker = (alignment.models[number].module for number in way)
    q_s, q_t = (basis(alignment.site_maps[number]) for number in way)
    found = []
    for row in index.tolist():
        with torch.no_grad():
            _, given = by_hand(giver, pairs.source_inputs[row])
        last = int(pairs.target_where.columns[pairs.target_where.rows == row].max())

        def swap(column, state, given=given, last=last):
            return state if column > last else state + (given[column] @ q_s - state @ q_t) @ q_t.T

        logits, _ = by_hand(taker, pairs.target_inputs[row], swap)
        found.append(logits[pairs.label_mask[row]])
    return torch.cat(found)


def two(name, rank, site="state", other="lstm cells"):
    """An alignment of a model with another one."""
    named = [
        wrap(MODELS[kind]().eval().requires_grad_(False), name=kind, logits=lambda out: out[0])
        for kind in (name, other)
    ]
    return Alignment([model.at(site) for model in named], rank=rank)


def swaps_of(alignment, pairs, ways, path="auto"):
    return PatchedDirections(alignment, pairs, ways, ActivationCache(alignment.sites, alignment.models), path)


@pytest.mark.parametrize("name", MODELS)
def test_live_swaps_are_those_of_a_loop_by_hand(name):
    """Ragged, two sources into one target in one pass; logits, and the gradient of both maps."""
    alignment = two(name, 3)
    into = {(0, 0): stepwise([2, 0, 6, 4, 1], 0), (1, 0): stepwise([5, 3, 1], 1)}
    ways = [Direction(*way) for way in into]
    batches = {ways[0]: torch.tensor([3, 0, 1, 2]), ways[1]: torch.tensor([2, 0])}
    ((done, found),) = swaps_of(alignment, into, ways).run(alignment.swap_operator(), batches)
    assert done == ways
    expected = torch.cat([expected_logits(alignment, into[way], way, batches[way]) for way in ways])
    torch.testing.assert_close(found.logits, expected, rtol=1e-4, atol=1e-5)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(4))
    gradients = [
        torch.autograd.grad((out * weight).sum(), list(alignment.parameters())) for out in (found.logits, expected)
    ]
    for own, by_book in zip(*gradients, strict=True):
        assert by_book.abs().max() > 1e-2
        torch.testing.assert_close(own, by_book, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_the_alignments_own_run_is_live_too(name):
    alignment, pairs = two(name, 3), stepwise([4, 0, 2], 0)
    out = alignment.run(pairs, source=1, target=0)
    expected = expected_logits(alignment, pairs, Direction(1, 0), torch.arange(3))
    torch.testing.assert_close(out.logits, expected, rtol=1e-4, atol=1e-5)
    assert out.vectors is None
    assert out.path == "reference"
    with pytest.raises(SettingError, match="path"):
        alignment.run(pairs, source=1, target=0, path="tial")
    below = two(name, 3, "embed")
    assert below.run(pairs, source=1, target=0).vectors is not None


def test_what_stays_is_not_that_of_an_unswapped_run():
    """The difference that made this live: vectors made beforehand give other logits."""
    alignment, pairs, way = two("gru", 3), stepwise([4, 3, 2], 0), Direction(1, 0)
    cache = ActivationCache(alignment.sites, alignment.models)
    ready = alignment.swap_operator().swap(way, cache.target(0, pairs), cache.source(1, pairs))
    wrong = ReferenceRunner(alignment.models[0], alignment.sites[0]).run([PatchBatch(pairs, torch.arange(3), ready)])
    right = alignment.run(pairs, source=1, target=0).logits
    assert (wrong.logits - right).abs().max() > 1e-2


def test_a_subspace_moves_its_own_dims_alone():
    """Where all subspaces together fill the width, the swap of one still leaves dims in place."""
    alignment, pairs = two("gru", 1, other="gru cells"), stepwise([4, 3, 2], 0)
    width = alignment.sites[0].width
    alignment = Alignment(alignment.sites, subspaces={"x": 2, "y": width - 2})
    found = alignment.run(pairs, source=1, target=0, subspace="x")
    swap = partial(alignment.interchange, target=0, source=1, subspace="x")
    given = ActivationCache(alignment.sites, alignment.models).source(1, pairs)
    model, site = alignment.models[0], alignment.sites[0]
    expected = ReferenceRunner(model, site).run([PatchBatch(pairs, torch.arange(3), given, swap)])
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-5)
    assert alignment.run(pairs, source=1, target=0).vectors is not None  # all of them together leave nothing


@pytest.mark.parametrize("name", ["gru", "lstm", "gru cells", "lstm cells"])
def test_with_every_dim_the_vectors_may_be_made_beforehand(name):
    alignment, pairs, way = two(name, 1, other=name), stepwise([2, 5, 0, 6], 0), Direction(1, 0)
    alignment = Alignment(alignment.sites, rank=alignment.sites[0].width)
    cache, index = ActivationCache(alignment.sites, alignment.models), torch.tensor([3, 0, 1])
    operator = alignment.swap_operator()
    ((_, ready),) = swaps_of(alignment, pairs, [way]).run(operator, {way: index})
    cells, _ = pairs.cells(index)
    part = PatchBatch(pairs, index, cache.source(1, pairs)[cells], partial(operator.swap, way))
    made = ReferenceRunner(alignment.models[0], alignment.sites[0]).run([part])
    assert alignment.run(pairs, source=1, target=0).vectors is not None
    torch.testing.assert_close(ready.logits, made.logits, rtol=1e-4, atol=1e-5)
    natural = alignment.models[0].module(pairs.target_inputs[index])[0][pairs.label_mask[index]]
    assert (ready.logits - natural).abs().max() > 1e-2


@pytest.mark.parametrize("site", ["state", "embed"])
@pytest.mark.parametrize("name", ["gru", "lstm cells"])
def test_up_to_the_first_position_is_a_swap_of_that_alone(name, site):
    alignment, pairs = two(name, 3, site), stepwise([3, 0, 6, 0], 0)
    whole = alignment.run(pairs, source=1, target=0)
    first = Where([0, 1], [0, 0])
    kept = [pairs.source_inputs[[1, 3]], first, pairs.target_inputs[[1, 3]], first, pairs.labels[[1, 3]]]
    alone = alignment.run(Pairs.from_tensors(*kept, label_mask=pairs.label_mask[[1, 3]]), source=1, target=0)
    same = torch.cat([whole.logits[whole.pair == row] for row in (1, 3)])
    torch.testing.assert_close(same, alone.logits, rtol=1e-4, atol=1e-5)
    natural = alignment.models[0].module(pairs.target_inputs[[1, 3]])[0]
    assert (alone.logits - natural[pairs.label_mask[[1, 3]]]).abs().max() > 1e-2


def test_the_floor_of_live_pairs_is_the_unswapped_forward():
    alignment, pairs, way = two("lstm", 3), stepwise([3, 0, 6, 0], 0), Direction(1, 0)
    found = swaps_of(alignment, pairs, [way]).run_unedited(way, torch.tensor([2, 0]))
    natural = alignment.models[0].module(pairs.target_inputs[[2, 0]])[0]
    torch.testing.assert_close(found.logits, natural[pairs.label_mask[[2, 0]]], rtol=1e-5, atol=1e-5)


def test_a_latent_loss_needs_to_know_what_stays():
    alignment, pairs, way = two("gru", 3), stepwise([3, 1], 0), Direction(1, 0)
    cache = ActivationCache(alignment.sites, alignment.models)
    said = (
        "a latent loss on swaps of some dims of several states of one sequence at gru:state is not supported; "
        "swap one position a row, or positions of another site such as the embeddings"
    )
    with pytest.raises(UnsupportedError, match=said):
        LatentTargets(alignment, pairs, [way], cache, {})


# --- a whole comparison ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def step_pairs(small_toys):
    return task_pairs([one.task for one in small_toys], ["full"] * 2, (256, 64, 128), stepwise=True)


@pytest.mark.parametrize(("site", "init"), [("embed", "random"), ("state", "random"), ("state", "procrustes")])
def test_a_stepwise_fit_learns(small_toys, step_pairs, site, init):
    """The floor is high: u counts the same demo tokens on both sides as long as both still show them."""
    train, valid, test = step_pairs
    sites = [wrap(one.model, name=f"gru-{index}").at(site) for index, one in enumerate(small_toys)]
    alignment = Alignment(sites, rank=8, init=init, centre=True)
    settings = FitSettings(batch_size=64, learning_rate=3e-2, epochs=15, validate_every=20)
    fit(alignment, methods.stepwise(), train, valid, settings, progress=False)
    table = evaluate(alignment, test)
    assert min(row.iia for row in table.rows) > 0.9
    assert min(row.iia - row.floor for row in table.rows) > 0.3
