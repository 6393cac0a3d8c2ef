"""The swap itself, as pure tensor functions: no model, no hook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mas_hooks.alignment.maps import AbstractView, MapSpec
from mas_hooks.alignment.plan import Direction
from mas_hooks.alignment.transports import AbstractTransportView
from mas_hooks.core.errors import RankError, ShapeError, UnknownNameError


def interchange(
    target: Float[Tensor, "n width_t"],
    source: Float[Tensor, "n width_s"],
    view_t: AbstractView,
    view_s: AbstractView,
    dims: slice,
) -> Float[Tensor, "n width_t"]:
    """Replace the shared dims of `target` by those of `source` (Grant 2025, eq. 4).

    Args:
        target: vectors that receive, (n, width_t).
        source: vectors that give, (n, width_s), one for each of the target's.
        view_t: the evaluated map of the target's site.
        view_s: the evaluated map of the source's site.
        dims: a block of the shared space.

    Returns:
        The vectors of `target` with that block taken from `source`, (n, width_t), float32.

    Raises:
        ShapeError: the two have different numbers of rows.
        RankError: the block does not exist in both maps.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> view = mh.MapSpec(rank=1).make(2, "a site").view()  # starts at the first unit
        >>> mh.interchange(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]), view, view, slice(0, 1)).tolist()
        [[3.0, 2.0]]
    """
    if len(source) != len(target):
        raise ShapeError("the source of a swap", tuple(source.shape), f"one row for each of the {len(target)} targets")
    given, kept = view_s.read(source), view_t.read(target)
    shared = min(given.shape[1], kept.shape[1])
    begin, end, _ = dims.indices(max(kept.shape[1], dims.stop or 0))
    if end > shared:
        raise RankError(end, shared, "both maps")
    return view_t.write(target, torch.cat([kept[:, :begin], given[:, begin:end], kept[:, end:]], dim=1))


class AbstractSwapOperator(ABC):
    """A method's way to swap, evaluated once per optimiser step and used for every direction."""

    reads_target = True
    """Whether anything of the target's own vectors stays."""

    @abstractmethod
    def swap(
        self, direction: Direction, target: Float[Tensor, "n width_t"] | None, source: Float[Tensor, "n width_s"]
    ) -> Float[Tensor, "n width_t"]:
        """Compute what the target's cells hold after the swap.

        Args:
            direction: the numbers of the two sites.
            target: the vectors that the cells hold before; None where they are not read.
            source: the vectors that are given.

        Returns:
            The swapped vectors, float32.
        """


@dataclass(frozen=True)
class SharedDims(AbstractSwapOperator):
    """The shared dims of the source in place of the target's own (Grant 2025, eq. 4)."""

    views: Sequence[AbstractView]
    spec: MapSpec

    def swap(self, direction: Direction, target: Tensor | None, source: Tensor) -> Tensor:
        assert target is not None
        dims = self.spec.block(None, target.shape[1])
        return interchange(target, source, self.views[direction.target], self.views[direction.source], dims)


@dataclass(frozen=True)
class FullReplacement(AbstractSwapOperator):
    """The whole vector replaced by a transport of the source; a direction without one takes the other's way back."""

    transports: Mapping[Direction, AbstractTransportView]
    reads_target = False

    def swap(self, direction: Direction, target: Tensor | None, source: Tensor) -> Tensor:  # noqa: ARG002
        if direction in self.transports:
            return self.transports[direction].forward(source)
        back = self.transports.get(Direction(direction.target, direction.source))
        if back is None:
            raise UnknownNameError("direction", str(direction), map(str, self.transports), "the alignment")
        return back.backward(source)
