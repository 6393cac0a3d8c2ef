"""States of recurrent modules, read and edited, against a slow loop over time."""

import pytest
import torch
from hooks.hook_models import BATCH, HIDDEN, LENGTH, Cells, Fused, InPieces, StepByStep, ids, reference, values
from torch import nn

from mas_hooks.core.sites import Where
from mas_hooks.hooks.read import read_site
from mas_hooks.hooks.taps import Edit
from mas_hooks.hooks.wrap import wrap

KINDS = {
    "gru": lambda make, **options: make(nn.GRU, **options),
    "lstm": lambda make, **options: make(nn.LSTM, **options),
    "tanh": lambda make, **options: make(nn.RNN, **options),
    "relu": lambda make, **options: make(nn.RNN, nonlinearity="relu", **options),
}
CELLS = {"gru": nn.GRUCell, "lstm": nn.LSTMCell, "tanh": nn.RNNCell}
LAYOUTS = {
    "plain": (Fused, {}),
    "time first": (Fused, {"batch_first": False, "given": True}),
    "no bias": (Fused, {"bias": False}),
    "given start": (Fused, {"given": True}),
    "two layers": (Fused, {"layers": 2}),
    "three layers": (Fused, {"layers": 3, "given": True}),
    "two layers, time first": (Fused, {"layers": 2, "batch_first": False}),
    "step by step": (StepByStep, {"given": True}),
    "two layers, step by step": (StepByStep, {"layers": 2}),
    "in pieces": (InPieces, {}),
}
MODELS = {
    f"{kind}, {layout}": (lambda make=make, kind=kind, options=options: KINDS[kind](make, **options))
    for kind in KINDS
    for layout, (make, options) in LAYOUTS.items()
} | {
    f"{kind} cells, {layers}": (lambda kind=kind, layers=layers: Cells(CELLS[kind], layers))
    for kind in CELLS
    for layers in (1, 2)
}
CELL_SETS = {
    "first": [(row, 0) for row in range(BATCH)],
    "last": [(row, LENGTH - 1) for row in range(BATCH)],
    "one row": [(1, 2)],
    "ragged": [(2, 4), (0, 1), (1, 3)],
    "several a row": [(0, 5), (1, 0), (0, 2), (2, 3), (1, 4), (0, 0)],
    "all": [(row, column) for column in reversed(range(LENGTH)) for row in range(BATCH)],
}


def build(name):
    """A model with its handle, which keeps the last states of each forward, and its number of state sites."""
    model, seen = MODELS[name]().eval(), {}

    def logits(out):
        seen["last"] = out[1]
        return out[0]

    handle = wrap(model, logits=logits)
    states = [point for point in handle.hook_points() if point.startswith("state")]
    return model, handle, seen, states


def replace(site, cells, seed):
    vectors = values(len(cells), site.width, seed=seed).requires_grad_()
    rows, columns = zip(*cells, strict=True)
    return Edit(site, lambda _h, given: given, Where(rows, columns), vectors)


def patches(edits):
    where = [
        (layer, edit.where.rows.tolist(), edit.where.columns.tolist(), edit.vectors) for layer, edit in edits.items()
    ]
    return {
        (layer, row, column): vectors[index]
        for layer, rows, columns, vectors in where
        for index, (row, column) in enumerate(zip(rows, columns, strict=True))
    }


def assert_same_run(model, found, expected, leaves):
    """Logits, last states and every gradient agree."""
    leaves = [*leaves, *model.parameters()]
    weighted = []
    for run in (found, expected):
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
        total = sum((part * torch.linspace(-1, 1, part.numel()).view_as(part)).sum() for part in run)
        weighted.append(torch.autograd.grad(total, leaves, materialize_grads=True))
    for one, other in zip(*weighted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cells", CELL_SETS)
@pytest.mark.parametrize("name", MODELS)
def test_edits_equal_the_slow_loop(name, cells):
    """Outputs, last states and gradients, with every layer's state edited in turn, and all of them together."""
    model, handle, seen, states = build(name)
    each = {layer: replace(handle.at(state), CELL_SETS[cells], layer) for layer, state in enumerate(states)}
    for chosen in [{layer: edit} for layer, edit in each.items()] + [each] * (len(each) > 1):
        logits = handle.run_with_hooks(ids(), list(chosen.values()))
        expected = reference(model, ids(), patches(chosen))[:2]
        assert_same_run(model, (logits, seen["last"]), expected, [edit.vectors for edit in chosen.values()])


@pytest.mark.parametrize("name", MODELS)
def test_reads_equal_the_slow_loop(name):
    model, handle, _, states = build(name)
    _, _, expected = reference(model, ids(), {})
    where = Where([2, 0, 2, 1], [0, 5, 3, 3])
    for layer, state in enumerate(states):
        _, whole = handle.run_with_cache(ids(), state)
        torch.testing.assert_close(whole[state], expected[layer], rtol=1e-5, atol=1e-5)
        for read in (
            handle.run_with_cache(ids(), state, where)[1][state],
            read_site(handle, handle.at(state), ids(), where),
        ):
            torch.testing.assert_close(read, where.gather(expected[layer]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_reads_inside_an_edit_see_it_and_what_follows(name):
    model, handle, _, states = build(name)
    edit = replace(handle.at(states[0]), [(0, 1), (2, 3)], 0)
    _, _, expected = reference(model, ids(), patches({0: edit}))
    with handle.hooks([edit]):
        _, cache = handle.run_with_cache(ids(), states)
    for layer, state in enumerate(states):
        torch.testing.assert_close(cache[state], expected[layer], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_an_edit_that_changes_nothing_is_bit_equal(name, frozen, batch):
    model, handle, seen, states = build(name)
    model.requires_grad_(not frozen)
    plain, last = handle.forward(ids(batch)), seen["last"]
    where = Where([0, batch - 1, 0], [1, 3, 5])
    for state in states:
        for hook in (Edit(handle.at(state), torch.clone, where), (state, torch.clone), (state, lambda h: h)):
            assert torch.equal(handle.run_with_hooks(ids(batch), [hook]), plain)
            assert torch.equal(seen["last"], last)


@pytest.mark.parametrize("name", ["gru, plain", "lstm, plain", "lstm, two layers", "gru cells, 1"])
def test_an_edit_to_the_very_same_values_still_has_its_gradient(name):
    """So that a map that starts as the identity can learn, whether the model is frozen or not."""
    model, handle, seen, states = build(name)
    where = Where([0, 1, 2], [2, 0, 4])
    for state in states:
        own = handle.run_with_cache(ids(), state, where)[1][state].detach().requires_grad_()
        edit = Edit(handle.at(state), lambda h, given: torch.where(h == given, given, given), where, own)
        logits = handle.run_with_hooks(ids(), [edit])
        expected = reference(model, ids(), patches({int(state.partition(".")[2] or 0): edit}))[:2]
        assert_same_run(model, (logits, seen["last"]), expected, [own])
        scale = torch.ones((), requires_grad=True)
        frozen = handle.run_with_hooks(ids(), [(state, lambda h, scale=scale: h * scale)])
        assert torch.equal(frozen, handle.forward(ids()))
        assert torch.autograd.grad(frozen.square().sum(), scale)[0].abs() > 1e-3


@pytest.mark.parametrize("name", ["gru, plain", "lstm, plain", "lstm, two layers", "gru cells, 2", "lstm cells, 1"])
def test_a_whole_hook_sees_each_step_and_may_write_into_it(name):
    _, handle, _, states = build(name)
    shapes = []

    def into(h):
        shapes.append(tuple(h.shape))
        h[:, :, 0] = 0.5
        return h

    logits = handle.run_with_hooks(ids(), [(states[0], into)])
    assert shapes == [(BATCH, 1, handle.at(states[0]).width)] * LENGTH
    outside = handle.run_with_hooks(ids(), [(states[0], lambda h: torch.cat([h[..., :1] * 0 + 0.5, h[..., 1:]], -1))])
    assert torch.equal(logits, outside)
    assert not torch.allclose(logits, handle.forward(ids()))


@pytest.mark.parametrize("name", ["gru, plain", "gru, time first", "lstm, plain", "gru cells, 1", "lstm cells, 1"])
def test_the_output_of_a_module_comes_after_its_state(name):
    """Whatever the order they are named in, and on the batch whichever way the module counts."""
    _, handle, _, _ = build(name)
    path = "rnn" if "cells" not in name else "rnn.0"
    edit = replace(handle.at("state"), [(0, 2), (2, 4)], 3)
    shift = (path, lambda h: h + 1)
    one, other = (handle.run_with_hooks(ids(), hooks) for hooks in ([edit, shift], [shift, edit]))
    assert torch.equal(one, other)
    _, cache = handle.run_with_cache(ids(), ["state", path])
    torch.testing.assert_close(cache[path], cache["state"][..., :HIDDEN])


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", ["gru, plain", "lstm, plain", "tanh, time first", "lstm, two layers"])
def test_before_the_first_edit_every_bit_stays(name, batch):
    """A rerun of a few steps differs from the module's own run in the last bits, most of all in a batch of one."""
    _, handle, _, states = build(name)
    plain = handle.forward(ids(batch))
    for column in range(LENGTH):
        edited = handle.run_with_hooks(ids(batch), [Edit(handle.at(states[-1]), torch.neg, Where([0], [column]))])
        assert torch.equal(edited[:, :column], plain[:, :column])
        assert not torch.equal(edited[:, column:], plain[:, column:])


def test_reruns_are_as_cudnn_wants_them(monkeypatch):
    """Contiguous states, and in training mode where gradients are wanted, though the model is in eval mode."""
    _, handle, _, _ = build("lstm, plain")
    calls, own = [], torch.lstm

    def recorded(x, start, *rest):
        calls.append((all(part.is_contiguous() for part in start), rest[3], rest[4]))
        return own(x, start, *rest)

    monkeypatch.setattr(torch, "lstm", recorded)
    edit = Edit(handle.at("state"), torch.neg, Where([0, 1], [2, 3]))
    handle.run_with_hooks(ids(), [edit])
    assert set(calls) == {(True, 0.0, True)}
    calls.clear()
    with torch.no_grad():
        handle.run_with_hooks(ids(), [edit])
    assert set(calls) == {(True, 0.0, False)}
