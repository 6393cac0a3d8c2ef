"""Recurrent modules: one position is one time step, `state` is what a layer carries on (LSTM: [h; c]).

A fused `nn.GRU`/`nn.LSTM`/`nn.RNN` is rerun from the state at each edited column, layer by layer; a cell
(`nn.GRUCell`, …) already passes one step at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mas_hooks.core.errors import ShapeError, UnsupportedError
from mas_hooks.hooks.taps import AbstractTap

States: TypeAlias = Float[Tensor, "batch width"]
Run: TypeAlias = Callable[[Tensor, States], tuple[Tensor, States]]

FUSED = (nn.GRU, nn.LSTM, nn.RNN)
CELLS = (nn.GRUCell, nn.LSTMCell, nn.RNNCell)


def count_state_vectors(module: nn.Module) -> int:
    """How many vectors the state has: 2 for an LSTM ([h; c]), else 1."""
    return 2 if isinstance(module, nn.LSTM | nn.LSTMCell) else 1


def count_layers(module: nn.Module) -> int:
    """How many states a module carries: the layers of a fused module, 1 for a cell."""
    return module.num_layers if isinstance(module, nn.RNNBase) else 1


def explain_refusal(module: nn.Module) -> UnsupportedError | None:
    """Why the state of a module cannot be a site, as the error to raise; None where it can."""
    if not isinstance(module, nn.RNNBase):
        return None
    name = type(module).__name__
    if module.bidirectional:
        return UnsupportedError(f"the state of a bidirectional {name}", "hook its input or output by path instead")
    if module.proj_size:
        return UnsupportedError(f"the state of a projected {name} (proj_size)", "hook its output by path instead")
    return None


def pack_state(state: Any) -> Tensor:
    """(h, c) -> [h; c], h -> h."""
    return state if isinstance(state, Tensor) else torch.cat(tuple(state), dim=-1)


def unpack_state(module: nn.Module, state: Tensor) -> Any:
    """[h; c] -> (h, c) for an LSTM, h -> h else."""
    if count_state_vectors(module) == 1:
        return state
    return tuple(part.contiguous() for part in state.chunk(2, dim=-1))  # cuDNN takes no strided state


def torch_function(module: nn.RNNBase) -> Callable[..., tuple[Tensor, ...]]:
    """The torch function that a fused module calls: it takes sequences, or packed data with batch sizes."""
    return {"GRU": torch.gru, "LSTM": torch.lstm, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu}[module.mode]


def run_layer(module: nn.RNNBase, layer: int, x: Tensor, state: States) -> tuple[Tensor, States]:
    """Run one layer of a fused module.

    Args:
        module: The fused module.
        layer: The number of the layer.
        x: What the layer reads, (batch, position, input).
        state: The state it starts from.

    Returns:
        Its outputs, and the state after them.
    """
    start = unpack_state(module, state[None].contiguous())
    train = torch.is_grad_enabled()  # cuDNN keeps what its backward needs only then; there is no dropout here
    weights = module.all_weights[layer]
    out, *after = torch_function(module)(x, start, weights, module.bias, 1, 0.0, train, False, True)
    return out, pack_state(after[0] if len(after) == 1 else after)[0]


def tap_fused(
    module: nn.RNNBase, taps: Mapping[int, Sequence[AbstractTap]], call: tuple[Any, ...], output: Any, offset: int
) -> tuple[int, Any]:
    """Let the taps of each layer of a fused module see its states: what a forward hook on the module does.

    Args:
        module: The fused module.
        taps: The taps of each layer.
        call: The positional arguments of the module.
        output: What it gave.
        offset: The column at which this call starts.

    Returns:
        The number of positions that passed, and the output to go on with. Where no edit changed a bit that is bit-equal
        to `output`, as a layer that runs again gives the same only up to rounding.

    Raises:
        UnsupportedError: The module was called on a packed sequence, or drops units at random.
        ShapeError: It was called without a batch axis.
    """
    _check_call(module, call[0], type(module).__name__)
    x = _batch_first(module, call[0])
    natural, natural_last, positions = _batch_first(module, output[0]), pack_state(output[1]), x.shape[1]
    finals, edited, moved = [], False, False
    for layer, start in enumerate(_starts(module, x, call[1] if len(call) > 1 else None)):
        x_next, final = (natural, natural_last[0]) if module.num_layers == 1 else run_layer(module, layer, x, start)
        instead = _tap_layer(module, layer, x, x_next, start, taps.get(layer, ()), offset)
        if instead is not None:
            x_next, final, changed = instead
            edited, moved = True, moved or changed
        finals.append(final)
        x = x_next
    if not edited:
        return positions, output
    last = torch.stack(finals)
    if not moved:
        x, last = _with_gradient_of(natural, x), _with_gradient_of(natural_last, last)
    return positions, (_batch_first(module, x), unpack_state(module, last))


def tap_cell(module: nn.Module, taps: Sequence[AbstractTap], output: Any, offset: int) -> tuple[int, Any]:
    """Let the taps of a cell see its state, one position: what a forward hook on the cell does.

    Args:
        module: The cell.
        taps: Its taps.
        output: What it gave, which is its state.
        offset: The column of this call.

    Returns:
        The number of positions that passed, and the output to go on with.

    Raises:
        ShapeError: The cell was called without a batch axis.
    """
    state = pack_state(output)
    if state.ndim != 2:
        raise ShapeError(f"the state of {type(module).__name__}", tuple(state.shape), "(batch, width)")
    before = after = state[:, None]
    for tap in taps:
        after = tap(after, offset)
    return 1, output if after is before else unpack_state(module, after[:, 0])


def _batch_first(module: nn.RNNBase, x: Tensor) -> Tensor:
    return x if module.batch_first else x.transpose(0, 1)


def _starts(module: nn.RNNBase, x: Tensor, given: Any) -> list[States]:
    """The state that each layer starts from: the one in the call, or zeros."""
    if given is None:
        return [x.new_zeros(len(x), count_state_vectors(module) * module.hidden_size)] * module.num_layers
    return list(pack_state(given))


def _stop_columns(taps: Sequence[AbstractTap], offset: int, positions: int) -> list[int]:
    """The local columns after which some tap wants to see the state, ascending."""
    every = torch.arange(offset, offset + positions)
    stops = [every if (columns := tap.columns()) is None else columns.cpu() for tap in taps]
    return [int(stop) for stop in torch.cat(stops).unique() - offset if 0 <= stop < positions]


def _rerun_layer(
    run: Run, x: Tensor, natural: Tensor, start: States, taps: Sequence[AbstractTap], offset: int
) -> tuple[Tensor, States, bool] | None:
    """Run a layer again, so that the taps see, and may edit, its state after each column that one asks for.

    Returns its outputs (batch position hidden), its last state, and whether any edit changed a bit. Returns None where
    no edit changed a bit or can have a gradient: the module's own result then stands.
    """
    hidden, state, begun, pieces, edited, moved = natural.shape[-1], start, 0, [], False, False
    for stop in _stop_columns(taps, offset, x.shape[1]):
        piece, state = run(x[:, begun : stop + 1], state)
        if not edited:
            piece = natural[:, begun : stop + 1]
            state = torch.cat([piece[:, -1], state[:, hidden:]], dim=-1)
        before = after = state[:, None]
        for tap in taps:
            after = tap(after, offset + stop)
        moved = moved or not torch.equal(after, before)
        edited = edited or moved or (after is not before and (after.requires_grad or before.requires_grad))
        if edited:
            state = after[:, 0]
            piece = torch.cat([piece[:, :-1], after[:, :, :hidden]], dim=1)
        pieces.append(piece)
        begun = stop + 1
    if not edited:
        return None
    if begun < x.shape[1]:
        rest, state = run(x[:, begun:], state)
        pieces.append(rest)
    return torch.cat(pieces, dim=1), state, moved


def _tap_layer(
    module: nn.RNNBase, layer: int, x: Tensor, natural: Tensor, start: States, taps: Sequence[AbstractTap], offset: int
) -> tuple[Tensor, States, bool] | None:
    """Let the taps of one layer see its states. Returns what replaces `natural`, or None (as `_rerun_layer`)."""
    if not taps or (count_state_vectors(module) == 1 and all(tap.reads_only for tap in taps)):
        for tap in taps:
            tap(natural, offset)
        return None
    return _rerun_layer(lambda piece, state: run_layer(module, layer, piece, state), x, natural, start, taps, offset)


def _check_call(module: nn.RNNBase, x: Any, site: str) -> None:
    if not isinstance(x, Tensor):
        raise UnsupportedError(
            "a packed sequence at a state site", "pass the padded batch and let Where name the cells"
        )
    if x.ndim != 3:
        raise ShapeError(f"the input of {site}", tuple(x.shape), "(batch, position, width)")
    if module.training and module.dropout and module.num_layers > 1:
        raise UnsupportedError("a state site of a stacked module in train mode with dropout", "call .eval() first")


def _with_gradient_of(values: Tensor, graph: Tensor) -> Tensor:
    """The exact values of one tensor, with the gradient of another that is equal up to rounding."""
    return values.detach() + (graph - graph.detach())
