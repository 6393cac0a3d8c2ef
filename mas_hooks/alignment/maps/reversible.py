"""An invertible nonlinear map: a rotation followed by additive coupling blocks (Dinh et al. 2014, NICE)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mas_hooks.alignment.maps.base import AbstractMap, AbstractView, complete_basis
from mas_hooks.alignment.maps.linear import LinearView
from mas_hooks.alignment.maps.orthogonal import OrthogonalMatrix, Parametrization
from mas_hooks.alignment.maps.standardise import Calibration


class Shift(nn.Module):
    """How far one half moves, read from the other half: two layers with tanh, zero at the start.

    tanh bounds the shift, so that far-off coordinates can be undone to rounding; z-score a site of large activations.
    """

    def __init__(self, given: int, moved: int, hidden: int, seed: int) -> None:
        super().__init__()
        draw = torch.randn(hidden, given, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
        self.inner = nn.Parameter(draw / given**0.5)
        self.bias = nn.Parameter(torch.zeros(hidden, dtype=torch.float32))
        self.outer = nn.Parameter(torch.zeros(moved, hidden, dtype=torch.float32))

    def forward(self, x: Float[Tensor, "n given"]) -> Float[Tensor, "n moved"]:
        """The shift of every row."""
        return torch.tanh(functional.linear(x, self.inner, self.bias)) @ self.outer.mT

    def reset(self) -> None:
        """Back to no shift at all."""
        with torch.no_grad():
            self.outer.zero_()


@dataclass(frozen=True, eq=False)
class ReversibleView(AbstractView):
    """z = the first `rank` coordinates of g(s Uᵀ x), with g the coupling blocks; the others stay when writing.

    write(h, read(h)) is h to the bit; the other two laws hold to the rounding of g and its inverse.
    """

    linear: LinearView
    shifts: tuple[Shift, ...]
    rank: int

    def read(self, h: Float[Tensor, "n width"]) -> Float[Tensor, "n rank"]:
        with torch.autocast(self.linear.frame.device.type, enabled=False):
            return self._couple(self.linear.read(h))[:, : self.rank]

    def write(self, h: Float[Tensor, "n width"], z: Float[Tensor, "n rank"]) -> Float[Tensor, "n width"]:
        with torch.autocast(self.linear.frame.device.type, enabled=False):
            x = self.linear.read(h)
            y = self._couple(x)
            moved = self._uncouple(torch.cat([z.to(y), y[:, self.rank :]], dim=1))
            with torch.no_grad():  # the inverse's rounding at h itself is taken off, so that a no-op is exact
                home = self._uncouple(y)
            return self.linear.write(h, x.detach() + (moved - home))

    def _halves(self, x: Tensor) -> list[Tensor]:
        return list(x.split([(x.shape[1] + 1) // 2, x.shape[1] // 2], dim=1))

    def _couple(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        """Move the first half by the second, the second by the new first, and so on."""
        halves = self._halves(x)
        for index, shift in enumerate(self.shifts):
            moved = index % 2
            halves[moved] = halves[moved] + shift(halves[1 - moved])
        return torch.cat(halves, dim=1)

    def _uncouple(self, y: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        """The inverse: the same shifts taken off in reverse order."""
        halves = self._halves(y)
        for index in reversed(range(len(self.shifts))):
            moved = index % 2
            halves[moved] = halves[moved] - self.shifts[index](halves[1 - moved])
        return torch.cat(halves, dim=1)


class Reversible(AbstractMap):
    """A map whose aligned coordinates may be nonlinear functions of the site; at its start it is the frame map.

    A site of width 1 has no halves and is only rotated. The hidden layers begin the same in every map (fixed seeds);
    the chance of a random start is in its rotation.

    Args:
        width: units of the site.
        rank: shared dims.
        calibration: what centres and z-scores the site.
        depth: coupling blocks, which move the two halves of the rotated activation in turn.
        hidden: units of each block's one hidden layer.
        learn_scale: whether a positive number per map is learned.
        parametrization: of the rotation.
    """

    def __init__(
        self,
        width: int,
        rank: int,
        calibration: Calibration,
        depth: int,
        hidden: int,
        learn_scale: bool = False,
        parametrization: Parametrization = "matrix_exp",
    ) -> None:
        super().__init__(width, rank, calibration)
        self.rotation = OrthogonalMatrix(width, width, parametrization)
        self.log_scale = nn.Parameter(torch.zeros((), dtype=torch.float32)) if learn_scale else None
        sizes = ((width + 1) // 2, width // 2)
        blocks = range(depth if width > 1 else 0)
        self.shifts = nn.ModuleList(
            Shift(sizes[1 - index % 2], sizes[index % 2], hidden, seed=index) for index in blocks
        )

    def view(self) -> ReversibleView:
        scale = None if self.log_scale is None else self.log_scale.exp()
        linear = LinearView(self.rotation.matrix().mT, scale, self.calibration)
        return ReversibleView(linear, self._typed_shifts(), self.rank)

    def start(self, frame: Float[Tensor, "width rank"]) -> None:
        self.rotation.start(complete_basis(frame.detach().cpu().double()).mT)
        for shift in self._typed_shifts():
            shift.reset()

    def _typed_shifts(self) -> tuple[Shift, ...]:
        return tuple(shift for shift in self.shifts if isinstance(shift, Shift))
