"""Run a recurrent model from given states on: one fused call for the continuation, logits only where wanted.

The model's own forward is called on the continuation alone, with the recurrent module's `forward` displaced for that
one call so that it starts from the given states (patched ones, or those before the first edit below the recurrence)
and gives only the outputs that are asked for. Sequences travel packed: no step is spent on padding. This is right for
models that treat positions alike below and above the recurrence; `engine/run.py` proves that on real pairs before it
is used.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mas_hooks.hooks import recurrent
from mas_hooks.hooks.displaced import displaced
from mas_hooks.hooks.handle import HookedModel
from mas_hooks.hooks.taps import Edit, ReadTap, StopForward
from mas_hooks.sites import Site


@dataclass(frozen=True, eq=False)
class Packed:
    """Ragged continuations in time-major packed order.

    rank (n,): each row's place when sorted by length, longest first. sizes (step,): rows still running at each step.
    rows, steps (total,): which row and which step each packed input is.
    """

    rank: Int[Tensor, " n"]
    sizes: Int[Tensor, " step"]
    rows: Int[Tensor, " total"]
    steps: Int[Tensor, " total"]

    @classmethod
    def of(cls, lengths: Int[Tensor, " n"]) -> Packed:
        """The packing of rows with so many steps each (zero allowed)."""
        longest = int(lengths.max()) if len(lengths) else 0
        order = lengths.argsort(descending=True, stable=True)
        running = torch.arange(longest, device=lengths.device)[:, None] < lengths[order]
        steps, place = running.nonzero(as_tuple=True)
        return cls(order.argsort(), running.sum(1), order[place], steps)

    def place(self, rows: Tensor, steps: Tensor) -> Int[Tensor, " m"]:
        """Where (row, step) lies in the packed order."""
        begins = self.sizes.cumsum(0) - self.sizes
        return begins[steps] + self.rank[rows]


def has_tail(model: HookedModel, site: Site) -> bool:
    """Whether the site is the state of a single-layer fused recurrent module."""
    point = model.point(site.name, site.side)
    return point.kind == "fused" and recurrent.layers(model.module.get_submodule(point.path)) == 1


def only_state(model: HookedModel) -> Site | None:
    """The state of the single-layer fused module that is the only recurrence of a model; None where there is none."""
    if "state" not in model.hook_points():
        return None
    site = model.at("state")
    return site if has_tail(model, site) else None


def own_start(model: HookedModel, state: Site, below: Site, inputs: Tensor) -> Float[Tensor, "batch width"] | None:
    """The states that the model's own recurrence begins with; None where `below` has not wholly passed by then.

    inputs: some rows. Nothing above the recurrence is run.
    """
    module, read = _module(model, state), ReadTap(str(below), None)
    found: list[Tensor] = []

    def forward(input: Tensor, hx: Any = None) -> Any:  # noqa: A002 (may be called by keyword)
        if isinstance(input, Tensor):  # and no PackedSequence
            zeros = input.new_zeros(len(inputs), recurrent.parts(module) * module.hidden_size)
            found.append(zeros if hx is None else recurrent.pack(hx)[0])
        raise StopForward

    with (
        torch.no_grad(),
        suppress(StopForward),
        displaced(module, forward),
        model.tapped([(model.point(below.name, below.side), read)]),
    ):
        model.call(inputs)
    return found[0] if found and not read.missing() else None


def run_tail(
    model: HookedModel,
    site: Site,
    starts: Float[Tensor, "n width"],
    packed: Packed,
    packed_inputs: Tensor,
    cells: tuple[Int[Tensor, " m"], Int[Tensor, " m"]],
    edit: Edit | None = None,
) -> Float[Tensor, "m vocabulary"]:
    """Logits at `cells` = (row, steps after its start), 0 being the prediction from the start itself.

    site: the state. packed_inputs (total, …): the model's inputs after each start, in packed order. edit: below the
    recurrence, its cells in row 0 at their places in the packed order.
    """
    module, (rows, steps) = _module(model, site), cells
    place, later = rows.clone(), steps > 0
    place[later] = len(starts) + packed.place(rows[later], steps[later] - 1)
    time = 1 if module.batch_first else 0

    def forward(input: Tensor, hx: Any = None) -> Any:  # noqa: A002, ARG001 (may be called by keyword)
        states = starts.to(input.dtype)
        hidden, last = _continue(module, input.squeeze(1 - time), states, packed)
        return torch.cat([states[:, : module.hidden_size], hidden])[place].unsqueeze(1 - time), last

    with ExitStack() as undo:
        undo.enter_context(displaced(module, forward))
        if edit is not None:
            undo.enter_context(model.hooks(edit))
        logits = model.forward(packed_inputs[None])
    return logits[0]


def _module(model: HookedModel, site: Site) -> nn.RNNBase:
    module = model.module.get_submodule(model.point(site.name).path)
    if not isinstance(module, nn.RNNBase):  # has_tail holds the door
        raise TypeError(f"{site} is no fused recurrent module")
    return module


def _continue(module: nn.RNNBase, data: Tensor, states: Tensor, packed: Packed) -> tuple[Tensor, Any]:
    """Packed outputs of the steps after the patched states, and the last states in the rows' own order."""
    order = packed.rank.argsort()
    starts = states[order]
    if not len(data):
        return data.new_zeros(0, module.hidden_size), recurrent.unpack(module, states[None])
    weights = module.all_weights[0]
    begin = recurrent.unpack(module, starts[None, : int(packed.sizes[0])])
    train = torch.is_grad_enabled()  # cuDNN keeps what its backward needs only then; there is no dropout here
    call = recurrent.functional(module)
    out, *last = call(data, packed.sizes.cpu(), begin, weights, module.bias, 1, 0.0, train, False)
    ended = torch.cat([recurrent.pack(last[0] if len(last) == 1 else last)[0], starts[int(packed.sizes[0]) :]])
    return out, recurrent.unpack(module, ended[packed.rank][None])
