"""What a swap puts at the target cells, with the parameters evaluated once: shared dims exchanged, or all replaced."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from mas_hooks.errors import UnknownNameError
from mas_hooks.hooks.handle import HookedModel
from mas_hooks.interventions import interchange
from mas_hooks.maps import AbstractTransportView, AbstractView, MapSpec
from mas_hooks.pairs import Pairs
from mas_hooks.plan import Direction
from mas_hooks.sites import Site


class AbstractExchange(ABC):
    """A method's way to swap, evaluated once per optimiser step and used for every direction."""

    reads_target = True
    """Whether anything of the target's own vectors stays."""

    @abstractmethod
    def swap(
        self, way: Direction, target: Float[Tensor, "n width_t"] | None, source: Float[Tensor, "n width_s"]
    ) -> Float[Tensor, "n width_t"]:
        """What the target's cells hold after the swap, float32. target: None where it is not read."""


@dataclass(frozen=True)
class SharedDims(AbstractExchange):
    """The shared dims of the source in place of the target's own (Grant 2025, eq. 4)."""

    views: Sequence[AbstractView]
    spec: MapSpec

    def swap(self, way: Direction, target: Tensor | None, source: Tensor) -> Tensor:
        assert target is not None
        dims = self.spec.block(None, target.shape[1])
        return interchange(target, source, self.views[way.target], self.views[way.source], dims)


@dataclass(frozen=True)
class Replaced(AbstractExchange):
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


def live(model: HookedModel, site: Site, pairs: Pairs, moved: int) -> bool:
    """Whether swaps of some dims (`moved`) have to be made one by one, as a run comes by them.

    So in several recurrent states of one sequence: the dims that stay are those of a run with the earlier swaps.
    """
    several = len(pairs.target_where.rows.unique()) < len(pairs.target_where)
    return several and moved < site.width and model.point(site.name, site.side).kind != "module"
