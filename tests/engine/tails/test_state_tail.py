"""The tail: the same numbers as a whole forward with a hook, from one fused call on the continuation alone."""

import pytest
import torch
from hooks.hook_models import BATCH, HIDDEN, LENGTH, Cells, Fused, Positionwise, ids, values
from torch import nn

from mas_hooks.core.sites import Where
from mas_hooks.engine.tails.recurrent import (
    Packed,
    find_only_state,
    find_state_start,
    is_single_layer_state,
    run_state_tail,
)
from mas_hooks.hooks.taps import Edit
from mas_hooks.hooks.wrap import wrap

KINDS = {"gru": (nn.GRU, {}), "lstm": (nn.LSTM, {}), "tanh": (nn.RNN, {}), "relu": (nn.RNN, {"nonlinearity": "relu"})}


class TimeFirst(Fused):
    """Calls its time-first module by keyword."""

    def __init__(self, kind, **options):
        super().__init__(kind, batch_first=False, **options)

    def states(self, x):
        out, last = self.rnn(input=x.transpose(0, 1), hx=self.start(len(x)))
        return out.transpose(0, 1), last


FUNCTIONS = {"gru": "gru", "lstm": "lstm", "tanh": "rnn_tanh", "relu": "rnn_relu"}
LENGTHS = {  # steps each row goes on for after the patched state, at column LENGTH - 1 - steps or before
    "ragged": [2, 4, 1],
    "some end at once": [0, 3, 0],
    "all end at once": [0, 0, 0],
    "equal": [2, 2, 2],
    "descending": [5, 3, 0],
}


def build(kind, make=Fused):
    module, options = KINDS[kind]
    model = make(module, given=True, **options).eval()
    return model, wrap(model, logits=lambda out: out[0])


def continuation(lengths):
    """The inputs after the swaps in packed order, where the swaps are, and every wanted cell, shuffled."""
    lengths = torch.tensor(lengths)
    packed, columns = Packed.of(lengths), LENGTH - 1 - lengths
    inputs = ids()[packed.rows, columns[packed.rows] + 1 + packed.steps]
    cells = torch.tensor([(row, step) for row, most in enumerate(lengths) for step in range(most + 1)])
    row, step = cells[torch.randperm(len(cells), generator=torch.Generator().manual_seed(0))].T
    return packed, inputs, columns, (row, step)


def vectors(site):
    return values(BATCH, site.width, seed=3).requires_grad_()


@pytest.mark.parametrize("make", [Fused, TimeFirst])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_equals_a_whole_forward(kind, make, lengths):
    model, handle = build(kind, make)
    site = handle.at("state")
    packed, inputs, columns, (row, step) = continuation(LENGTHS[lengths])
    states = vectors(site)
    whole = handle.run_with_hooks(ids(), [Edit(site, lambda _h, v: v, Where.one_per_row(columns), states)])
    whole = whole[row, columns[row] + step]
    tail = run_state_tail(handle, site, states, packed, inputs, (row, step))
    torch.testing.assert_close(tail, whole, rtol=1e-5, atol=1e-5)
    weight, leaves = torch.linspace(-1, 1, whole.numel()).view_as(whole), [states, *model.head.parameters()]
    for one, other in zip(*(torch.autograd.grad((out * weight).sum(), leaves) for out in (tail, whole)), strict=True):
        assert one.abs().max() > 1e-3
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_one_fused_call_and_no_step_on_padding(kind, monkeypatch):
    _, handle = build(kind)
    site, calls = handle.at("state"), []
    packed, inputs, _, cells = continuation([2, 4, 0])
    for name in FUNCTIONS.values():
        own = getattr(torch, name)

        def counted(data, sizes, *rest, own=own, name=name):
            calls.append((name, len(data), sizes.tolist()))
            return own(data, sizes, *rest)

        monkeypatch.setattr(torch, name, counted)
    run_state_tail(handle, site, vectors(site), packed, inputs, cells)
    assert calls == [(FUNCTIONS[kind], 6, [2, 2, 1, 1])]


def test_nothing_runs_where_every_row_ends_at_once(monkeypatch):
    _, handle = build("gru")
    packed, inputs, _, cells = continuation([0, 0, 0])
    monkeypatch.setattr(torch, "gru", None)
    assert run_state_tail(handle, handle.at("state"), vectors(handle.at("state")), packed, inputs, cells).shape == (
        3,
        7,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_last_states_are_those_of_the_rows(kind):
    """In the rows' own order, also of rows that end at once, for a model that looks at them."""
    model, handle = build(kind)
    site, seen = handle.at("state"), []
    watcher = model.rnn.register_forward_hook(lambda _module, _args, out: seen.append(out[1]))
    packed, inputs, columns, cells = continuation([2, 0, 4])
    states = vectors(site)
    run_state_tail(handle, site, states, packed, inputs, cells)
    handle.run_with_hooks(ids(), [Edit(site, lambda _h, v: v, Where.one_per_row(columns), states)])
    watcher.remove()
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-5, atol=1e-5)


def test_forward_slot_is_restored():
    model, handle = build("gru")
    site, rest = handle.at("state"), continuation([2, 4, 1])
    packed, inputs, _, cells = rest
    before = dict(model.rnn.__dict__)
    run_state_tail(handle, site, vectors(site), packed, inputs, cells)
    assert model.rnn.__dict__ == before
    assert "forward" not in model.rnn.__dict__
    with pytest.raises(IndexError):
        run_state_tail(handle, site, vectors(site), packed, inputs + 100, cells)
    with pytest.raises(RuntimeError):
        run_state_tail(handle, site, values(BATCH, 2), packed, inputs, cells)
    assert "forward" not in model.rnn.__dict__

    def other(*args):
        return type(model.rnn).forward(model.rnn, *args)

    model.rnn.forward = other
    run_state_tail(handle, site, vectors(site), packed, inputs, cells)
    assert model.rnn.__dict__["forward"] is other
    with pytest.raises(RuntimeError):
        run_state_tail(handle, site, values(BATCH, 2), packed, inputs, cells)
    assert model.rnn.__dict__["forward"] is other


def test_who_has_a_tail():
    def has(module, name="state", side="output"):
        handle = wrap(module)
        return is_single_layer_state(handle, handle.at(name, side))

    assert has(Fused(nn.GRU))
    assert has(Fused(nn.LSTM))
    assert not has(Fused(nn.GRU, layers=2), "state.1")
    assert not has(Cells(nn.GRUCell))
    assert not has(Fused(nn.GRU), "rnn")
    assert not has(Fused(nn.GRU), "head", "input")
    positionwise = wrap(Positionwise())
    assert not is_single_layer_state(positionwise, positionwise.at("embed"))
    with pytest.raises(TypeError, match="embed is no fused recurrent module"):
        run_state_tail(
            positionwise, positionwise.at("embed"), values(1, 4), Packed.of(torch.tensor([1])), ids(1, 1)[0], (0, 0)
        )


@pytest.mark.parametrize("lengths", ["ragged", "some end at once", "equal", "descending"])
@pytest.mark.parametrize("make", [Fused, TimeFirst])
@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_below_equals_a_whole_forward(kind, make, lengths):
    """At two columns of every row that runs on, from the unedited states before them."""
    _, handle = build(kind, make)
    site, state = handle.at("embedding"), handle.at("state")
    packed, inputs, columns, (row, step) = continuation(LENGTHS[lengths])
    _, natural = handle.run_with_cache(ids(), "state", Where.one_per_row(columns))
    edited = (packed.steps == 0) | (packed.steps == 2)
    place, given = edited.nonzero()[:, 0], values(int(edited.sum()), HIDDEN, seed=4).requires_grad_()
    cells = Where(packed.rows[edited], columns[packed.rows[edited]] + 1 + packed.steps[edited])
    whole = handle.run_with_hooks(ids(), [Edit(site, lambda _h, v: v, cells, given)])[row, columns[row] + step]
    below = Edit(site, lambda _h, v: v, Where(torch.zeros_like(place), place), given)
    tail = run_state_tail(handle, state, natural["state"], packed, inputs, (row, step), below)
    torch.testing.assert_close(tail, whole, rtol=1e-5, atol=1e-5)
    weight = torch.linspace(-1, 1, whole.numel()).view_as(whole)
    one, other = (torch.autograd.grad((out * weight).sum(), given)[0] for out in (tail, whole))
    assert one.abs().amax(1).min() > 1e-4
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("make", [Fused, TimeFirst])
@pytest.mark.parametrize("kind", KINDS)
def test_own_start_is_what_the_module_is_given(kind, make, given):
    model, above = make(KINDS[kind][0], given=given, **KINDS[kind][1]), []
    handle = wrap(model, logits=lambda out: out[0])
    state = handle.at("state")
    with model.head.register_forward_hook(lambda *_: above.append(1)):
        start = find_state_start(handle, state, handle.at("embedding"), ids())
        assert find_state_start(handle, state, handle.at("rnn", "input"), ids()) is not None
        assert find_state_start(handle, state, handle.at("rnn"), ids()) is None
        assert find_state_start(handle, state, handle.at("head"), ids()) is None
    assert not above
    expected = torch.cat([*model.given[:, 0]], -1) if given else torch.zeros(1, state.width)
    assert torch.equal(start, expected.expand(BATCH, -1))
    assert "forward" not in model.rnn.__dict__


def test_the_only_state():
    handle = wrap(Fused(nn.LSTM))
    assert find_only_state(handle) == handle.at("state")
    for other in (Fused(nn.GRU, layers=2), Cells(nn.GRUCell), Positionwise()):
        assert find_only_state(wrap(other)) is None


@pytest.mark.parametrize("lengths", [*LENGTHS.values(), [], [3], [1, 5, 5, 0, 2]])
def test_packing_by_the_book(lengths):
    packed = Packed.of(torch.tensor(lengths, dtype=torch.int64))
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    expected = [(row, step) for step in range(max(lengths, default=0)) for row in order if lengths[row] > step]
    assert list(zip(packed.rows.tolist(), packed.steps.tolist(), strict=True)) == expected
    assert packed.sizes.tolist() == [sum(most > step for most in lengths) for step in range(max(lengths, default=0))]
    assert packed.rank.tolist() == [order.index(row) for row in range(len(lengths))]
    assert packed.place(packed.rows, packed.steps).tolist() == list(range(len(expected)))
    if sum(lengths):
        running = sorted((most for most in lengths if most), reverse=True)
        own = nn.utils.rnn.pack_padded_sequence(torch.zeros(len(running), max(running), HIDDEN), running, True)
        assert torch.equal(own.batch_sizes, packed.sizes)
