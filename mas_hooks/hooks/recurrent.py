"""Recurrent modules: one position = one time step, `state` = what a layer carries on (LSTM: [h; c]).

A fused `nn.GRU`/`nn.LSTM`/`nn.RNN` is rerun from the state at each edited column, layer by layer; a cell
(`nn.GRUCell`, …) already passes one step at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mas_hooks.core.errors import NoTensorError, UnsupportedError
from mas_hooks.hooks.outputs import describe_output
from mas_hooks.hooks.taps import AbstractTap

States: TypeAlias = Float[Tensor, "batch width"]
Run: TypeAlias = Callable[[Tensor, States], tuple[Tensor, States]]

FUSED = (nn.GRU, nn.LSTM, nn.RNN)
CELLS = (nn.GRUCell, nn.LSTMCell, nn.RNNCell)


def split_weights(module: nn.Module) -> int:
    """How many vectors the state has: 2 for an LSTM ([h; c]), else 1."""
    return 2 if isinstance(module, nn.LSTM | nn.LSTMCell) else 1


def layer_count(module: nn.Module) -> int:
    """How many states a module carries: the layers of a fused module, 1 for a cell."""
    return module.num_layers if isinstance(module, nn.RNNBase) else 1


def refuse_reason(module: nn.Module) -> UnsupportedError | None:
    """Why the state of this module cannot be a site, or None."""
    if not isinstance(module, nn.RNNBase):
        return None
    name = type(module).__name__
    if module.bidirectional:
        return UnsupportedError(f"the state of a bidirectional {name}", "hook its input or output by path instead")
    if module.proj_size:
        return UnsupportedError(f"the state of a projected {name} (proj_size)", "hook its output by path instead")
    return None


def pack(state: Any) -> Tensor:
    """(h, c) -> [h; c], h -> h."""
    return state if isinstance(state, Tensor) else torch.cat(tuple(state), dim=-1)


def unpack(module: nn.Module, state: Tensor) -> Any:
    """[h; c] -> (h, c) for an LSTM, h -> h else."""
    if split_weights(module) == 1:
        return state
    return tuple(part.contiguous() for part in state.chunk(2, dim=-1))  # cuDNN takes no strided state


def functional(module: nn.RNNBase) -> Callable[..., tuple[Tensor, ...]]:
    """The torch function a fused module calls: it takes sequences, or packed data with batch sizes."""
    return {"GRU": torch.gru, "LSTM": torch.lstm, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu}[module.mode]


def run_layer(module: nn.RNNBase, layer: int, x: Tensor, state: States) -> tuple[Tensor, States]:
    """One layer of a fused module over x (batch position input) from `state`; its outputs and the state after them."""
    start = unpack(module, state[None].contiguous())
    train = torch.is_grad_enabled()  # cuDNN keeps what its backward needs only then; there is no dropout here
    weights = module.all_weights[layer]
    out, *after = functional(module)(x, start, weights, module.bias, 1, 0.0, train, False, True)
    return out, pack(after[0] if len(after) == 1 else after)[0]


def _batch_first(module: nn.RNNBase, x: Tensor) -> Tensor:
    return x if module.batch_first else x.transpose(0, 1)


def _starts(module: nn.RNNBase, x: Tensor, given: Any) -> list[States]:
    """The state that each layer starts from: the caller's, or zeros."""
    if given is None:
        return [x.new_zeros(len(x), split_weights(module) * module.hidden_size)] * module.num_layers
    return list(pack(given))


def _stops(taps: Sequence[AbstractTap], offset: int, positions: int) -> list[int]:
    """The local columns after which some tap wants to see the state, ascending."""
    every = torch.arange(offset, offset + positions)
    wanted = [every if (columns := tap.columns()) is None else columns.cpu() for tap in taps]
    return [int(stop) for stop in torch.cat(wanted).unique() - offset if 0 <= stop < positions]


def _walk(
    run: Run, x: Tensor, natural: Tensor, start: States, taps: Sequence[AbstractTap], offset: int
) -> tuple[Tensor, States, bool] | None:
    """Rerun a layer so that the taps see, and may edit, its state after each asked column.

    Returns its outputs (batch position hidden), its last state, and whether any edit changed a bit; None where none
    changed a bit nor can have a gradient, so that nothing is to be put in place of the module's own result.
    """
    hidden, state, begun, pieces, edited, moved = natural.shape[-1], start, 0, [], False, False
    for stop in _stops(taps, offset, x.shape[1]):
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


def _run_tapped(
    module: nn.RNNBase, layer: int, x: Tensor, natural: Tensor, start: States, taps: Sequence[AbstractTap], offset: int
) -> tuple[Tensor, States, bool] | None:
    """Let the taps of one layer see its states; what the layer gives instead of `natural`, or None (as `_walk`)."""
    if not taps or (split_weights(module) == 1 and all(tap.reads_only for tap in taps)):
        for tap in taps:
            tap(natural, offset)
        return None
    return _walk(lambda piece, state: run_layer(module, layer, piece, state), x, natural, start, taps, offset)


def _check_call(module: nn.RNNBase, x: Any, site: str) -> None:
    if not isinstance(x, Tensor):
        raise UnsupportedError(
            "a packed sequence at a state site", "pass the padded batch and let Where name the cells"
        )
    if x.ndim != 3:
        raise NoTensorError(site, f"an unbatched call on {describe_output(x)}")
    if module.training and module.dropout and module.num_layers > 1:
        raise UnsupportedError("a state site of a stacked module in train mode with dropout", "call .eval() first")


def _check_values(values: Tensor, graph: Tensor) -> Tensor:
    """The exact values of one tensor with the gradient of another, which is the same up to rounding."""
    return values.detach() + (graph - graph.detach())


def tap_fused(
    module: nn.RNNBase, taps: Mapping[int, Sequence[AbstractTap]], call: tuple[Any, ...], output: Any, offset: int
) -> tuple[int, Any]:
    """What a forward hook on a fused module does: let the taps of each layer see its states.

    `call` are the positional arguments of the module. Returns the number of positions seen, and the output to go on
    with: where no edit changed a bit it is bit-equal, as rerunning is so only up to rounding.
    """
    _check_call(module, call[0], type(module).__name__)
    x = _batch_first(module, call[0])
    own, own_last, positions = _batch_first(module, output[0]), pack(output[1]), x.shape[1]
    finals, edited, moved = [], False, False
    for layer, start in enumerate(_starts(module, x, call[1] if len(call) > 1 else None)):
        x_next, final = (own, own_last[0]) if module.num_layers == 1 else run_layer(module, layer, x, start)
        instead = _run_tapped(module, layer, x, x_next, start, taps.get(layer, ()), offset)
        if instead is not None:
            x_next, final, changed = instead
            edited, moved = True, moved or changed
        finals.append(final)
        x = x_next
    if not edited:
        return positions, output
    last = torch.stack(finals)
    if not moved:
        x, last = _check_values(own, x), _check_values(own_last, last)
    return positions, (_batch_first(module, x), unpack(module, last))


def tap_cell(module: nn.Module, taps: Sequence[AbstractTap], output: Any, offset: int) -> tuple[int, Any]:
    """What a forward hook on a cell does: one position passes, its output is its state."""
    state = pack(output)
    if state.ndim != 2:
        raise NoTensorError(type(module).__name__, f"an unbatched state, {describe_output(state)}")
    before = after = state[:, None]
    for tap in taps:
        after = tap(after, offset)
    return 1, output if after is before else unpack(module, after[:, 0])
