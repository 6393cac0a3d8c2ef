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
from mas_hooks.core.sites import Site
from mas_hooks.data.pairs import Pairs
from mas_hooks.hooks.hooked_model import HookedModel


def interchange(
    target: Float[Tensor, "n width_t"],
    source: Float[Tensor, "n width_s"],
    view_t: AbstractView,
    view_s: AbstractView,
    dims: slice,
) -> Float[Tensor, "n width_t"]:
    """Replace the shared dims of `target` by those of `source` (Grant 2025, eq. 4).

    target (n, width_t), source (n, width_s), dims a block of the shared space -> (n, width_t), float32.
    Raises RankError when the block does not exist in both maps.
    """
    if len(source) != len(target):
        raise ShapeError("the source of a swap", tuple(source.shape), f"one row for each of the {len(target)} targets")
    given, own = view_s.read(source), view_t.read(target)
    shared = min(given.shape[1], own.shape[1])
    begin, end, _ = dims.indices(max(own.shape[1], dims.stop or 0))
    if end > shared:
        raise RankError(end, shared, "both maps")
    return view_t.write(target, torch.cat([own[:, :begin], given[:, begin:end], own[:, end:]], dim=1))


class AbstractSwapOperator(ABC):
    """A method's way to swap, evaluated once per optimiser step and used for every direction."""

    reads_target = True
    """Whether anything of the target's own vectors stays."""

    @abstractmethod
    def swap(
        self, way: Direction, target: Float[Tensor, "n width_t"] | None, source: Float[Tensor, "n width_s"]
    ) -> Float[Tensor, "n width_t"]:
        """What the target's cells hold after the swap, float32. target: None where it is not read."""


@dataclass(frozen=True)
class SharedDims(AbstractSwapOperator):
    """The shared dims of the source in place of the target's own (Grant 2025, eq. 4)."""

    views: Sequence[AbstractView]
    spec: MapSpec

    def swap(self, way: Direction, target: Tensor | None, source: Tensor) -> Tensor:
        assert target is not None
        dims = self.spec.block(None, target.shape[1])
        return interchange(target, source, self.views[way.target], self.views[way.source], dims)


@dataclass(frozen=True)
class FullReplacement(AbstractSwapOperator):
    """The whole vector replaced by a transport of the source; a direction without one takes the other's way back."""

    transports: Mapping[Direction, AbstractTransportView]
    reads_target = False

    def swap(self, way: Direction, target: Tensor | None, source: Tensor) -> Tensor:  # noqa: ARG002
        if way in self.transports:
            return self.transports[way].forward(source)
        back = self.transports.get(Direction(way.target, way.source))
        if back is None:
            raise UnknownNameError("direction", str(way), map(str, self.transports), "the alignment")
        return back.backward(source)


def needs_sequential_swap(model: HookedModel, site: Site, pairs: Pairs, moved: int) -> bool:
    """Whether swaps of some dims (`moved`) have to be made one by one, as a run comes by them.

    So in several recurrent states of one sequence: the dims that stay are those of a run with the earlier swaps.
    """
    several = len(pairs.target_where.rows.unique()) < len(pairs.target_where)
    return several and moved < site.width and model.point(site.name, site.side).kind != "module"
