"""Taps on something else than a module's whole output: one head, a sum of two places, a flattened batch.

Each wraps another tap and shows it what that expects, (batch, position, width).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from mas_hooks.hooks.names import HookPoint
from mas_hooks.hooks.taps import AbstractTap


@dataclass(eq=False)
class BlockInput(AbstractTap):
    """Keeps what enters a block for the other taps of the same forward. Runs after all edits of that place."""

    h: Tensor = field(init=False)
    reads_only = True
    last = True

    def columns(self) -> Tensor:
        return torch.empty(0, dtype=torch.int64)

    def __call__(self, h: Tensor, offset: int) -> Tensor:  # noqa: ARG002
        self.h = h
        return h

    def check(self, seen: int) -> None:
        pass


@dataclass(eq=False)
class _AbstractPartialTap(AbstractTap):
    """A tap that hands everything but the activation itself on to the tap inside."""

    inside: AbstractTap

    def __post_init__(self) -> None:
        self.reads_only = self.inside.reads_only

    def columns(self) -> Tensor | None:
        return self.inside.columns()

    def check(self, seen: int) -> None:
        self.inside.check(seen)


@dataclass(eq=False)
class UnitsTap(_AbstractPartialTap):
    """Shows a span of the units, such as those of one head."""

    units: tuple[int, int]

    def __call__(self, h: Float[Tensor, "batch position width"], offset: int) -> Float[Tensor, "batch position width"]:
        begin, end = self.units
        span = h[..., begin:end]
        edited = self.inside(span, offset)
        return h if edited is span else torch.cat([h[..., :begin], edited, h[..., end:]], dim=-1)


@dataclass(eq=False)
class SumTap(_AbstractPartialTap):
    """Shows block input + this output. What an edit adds goes to the output; the skip branch stays as it is."""

    base: BlockInput
    last = True  # the sum follows from the output: edits and reads of the output itself come first

    def __call__(self, h: Float[Tensor, "batch position width"], offset: int) -> Float[Tensor, "batch position width"]:
        total = self.base.h.to(h.device) + h
        edited = self.inside(total, offset)
        return h if edited is total else h + (edited - total)


@dataclass(eq=False)
class FlatTap(_AbstractPartialTap):
    """Shows (batch · position, 1, width) as (batch, position, width)."""

    base: BlockInput

    def __call__(self, h: Float[Tensor, "cells 1 width"], offset: int) -> Float[Tensor, "cells 1 width"]:
        shown = h.view(*self.base.h.shape[:2], h.shape[-1])
        edited = self.inside(shown, offset)
        return h if edited is shown else edited.reshape(h.shape)


def place_partial_tap(point: HookPoint, tap: AbstractTap) -> list[tuple[HookPoint, AbstractTap]]:
    """List the points of the model, each with the tap to put there, at which a tap sees what `point` means."""
    if point.units is not None:
        return [(point, UnitsTap(tap, point.units))]
    block = point.plus or point.flat
    if block is None:
        return [(point, tap)]
    base = BlockInput()
    return [(HookPoint(block, side="input"), base), (point, (SumTap if point.plus else FlatTap)(tap, base))]
