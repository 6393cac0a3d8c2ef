"""Recurrent modules: one position = one time step, `state` = what a layer carries on (LSTM: [h; c]).

A fused `nn.GRU`/`nn.LSTM`/`nn.RNN` is rerun from the state at each edited column, layer by layer; a cell
(`nn.GRUCell`, …) already passes one step at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mas_hooks.errors import NoTensorError, UnsupportedError
from mas_hooks.hooks.outputs import describe
from mas_hooks.hooks.taps import AbstractTap

States: TypeAlias = Float[Tensor, "batch width"]
Run: TypeAlias = Callable[[Tensor, States], tuple[Tensor, States]]

FUSED = (nn.GRU, nn.LSTM, nn.RNN)
CELLS = (nn.GRUCell, nn.LSTMCell, nn.RNNCell)


def parts(module: nn.Module) -> int:
    """How many vectors the state has: 2 for an LSTM ([h; c]), else 1."""
    return 2 if isinstance(module, nn.LSTM | nn.LSTMCell) else 1


def layers(module: nn.Module) -> int:
    """How many states a module carries: the layers of a fused module, 1 for a cell."""
    return module.num_layers if isinstance(module, nn.RNNBase) else 1


def refusal(module: nn.Module) -> UnsupportedError | None:
    """Why the state of this module cannot be a site, or None."""
    if not isinstance(module, nn.RNNBase):
        return None
    name = type(module).__name__
    if module.bidirectional:
        return UnsupportedError(f"the state of a bidirectional {name}", "hook its input or output by path instead")
    if module.proj_size:
        return UnsupportedError(f"the state of a projected {name} (proj_size)", "hook its output by path instead")
    return None


def pack(state: Any) -> States:
    """(h, c) -> [h; c], h -> h, with any leading layer axis of 1 dropped."""
    flat = torch.cat(state, dim=-1) if isinstance(state, tuple) else state
    return flat[0] if flat.ndim == 3 else flat


def unpack(module: nn.Module, state: Tensor) -> Any:
    """[h; c] -> (h, c) for an LSTM, h -> h else."""
    return state.chunk(2, dim=-1) if parts(module) == 2 else state


def functional(module: nn.RNNBase) -> Callable[..., tuple[Tensor, ...]]:
    """The torch function a fused module calls: it takes sequences, or packed data with batch sizes."""
    return {"GRU": torch.gru, "LSTM": torch.lstm, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu}[module.mode]


def run_layer(module: nn.RNNBase, layer: int, x: Tensor, state: States) -> tuple[Tensor, States]:
    """One layer of a fused module over x (batch position input) from `state`; its outputs and the state after them."""
    start = unpack(module, state[None])
    weights = module.all_weights[layer]
    out, *after = functional(module)(x, start, weights, module.bias, 1, 0.0, module.training, False, True)
    return out, pack(tuple(after) if len(after) == 2 else after[0])


def _batch_first(module: nn.RNNBase, x: Tensor) -> Tensor:
    return x if module.batch_first else x.transpose(0, 1)


def _starts(module: nn.RNNBase, x: Tensor, given: Any) -> list[States]:
    """The state that each layer starts from: the caller's, or zeros."""
    if given is None:
        return [x.new_zeros(len(x), parts(module) * module.hidden_size)] * module.num_layers
    each = zip(*given, strict=True) if isinstance(given, tuple) else given
    return [pack(state) for state in each]


def _stops(taps: Sequence[AbstractTap], offset: int, positions: int) -> list[int]:
    """The local columns after which some tap wants to see the state, ascending."""
    every = torch.arange(offset, offset + positions)
    wanted = [every if (columns := tap.columns()) is None else columns.cpu() for tap in taps]
    return [int(stop) for stop in torch.cat(wanted).unique() - offset if 0 <= stop < positions]


def _walk(
    run: Run, x: Tensor, natural: Tensor, start: States, taps: Sequence[AbstractTap], offset: int
) -> tuple[Tensor, States] | None:
    """Rerun a layer so that the taps see, and may edit, its state after each asked column.

    Returns its outputs (batch position hidden) and last state, or None where no edit changed a bit: then the
    module's own result stands, so that an identity edit is bit-equal.
    """
    hidden, state, begun, pieces, changed = natural.shape[-1], start, 0, [], False
    for stop in _stops(taps, offset, x.shape[1]):
        piece, state = run(x[:, begun : stop + 1], state)
        if not changed:
            piece = natural[:, begun : stop + 1]
            state = torch.cat([piece[:, -1], state[:, hidden:]], dim=-1)
        edited = state[:, None]
        for tap in taps:
            edited = tap(edited, offset + stop)
        edited = edited[:, 0]
        if changed or edited.requires_grad != state.requires_grad or not torch.equal(edited, state):
            changed, state = True, edited
            piece = torch.cat([piece[:, :-1], edited[:, None, :hidden]], dim=1)
        pieces.append(piece)
        begun = stop + 1
    if not changed:
        return None
    if begun < x.shape[1]:
        rest, state = run(x[:, begun:], state)
        pieces.append(rest)
    return torch.cat(pieces, dim=1), state


def _tapped(
    module: nn.RNNBase, layer: int, x: Tensor, natural: Tensor, start: States, taps: Sequence[AbstractTap], offset: int
) -> tuple[Tensor, States] | None:
    """Let the taps of one layer see its states; what the layer gives instead of `natural`, or None."""
    if parts(module) == 1 and all(tap.reads_only for tap in taps):
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
        raise NoTensorError(site, f"an unbatched call on {describe(x)}")
    if module.training and module.dropout and module.num_layers > 1:
        raise UnsupportedError("a state site of a stacked module in train mode with dropout", "call .eval() first")


def _together(module: nn.RNNBase, states: Sequence[States]) -> Any:
    """The states of all layers as the module returns them: (layers batch hidden), a pair of them for an LSTM."""
    return unpack(module, torch.stack(list(states)))


def tap_fused(
    module: nn.RNNBase, taps: dict[int, list[AbstractTap]], call: tuple[Any, ...], output: Any, offset: int
) -> tuple[int, Any]:
    """What a forward hook on a fused module does: let the taps of each layer see its states.

    `call` are the positional arguments of the module. Returns the number of positions seen, and the new output, or
    None where no edit changed a bit.
    """
    _check_call(module, call[0], type(module).__name__)
    x = _batch_first(module, call[0])
    own, positions, changed = _batch_first(module, output[0]), x.shape[1], False
    finals = []
    for layer, start in enumerate(_starts(module, x, call[1] if len(call) > 1 else None)):
        natural, final = (own, None) if module.num_layers == 1 else run_layer(module, layer, x, start)
        instead = _tapped(module, layer, x, natural, start, taps.get(layer, []), offset)
        changed = changed or instead is not None
        x, final = instead or (natural, final)
        finals.append(final)
    return positions, ((_batch_first(module, x), _together(module, finals)) if changed else None)
