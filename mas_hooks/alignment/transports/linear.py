"""Transports that are a matrix: free, of low rank, orthogonal, or the identity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mas_hooks.alignment.maps.orthogonal import OrthogonalMatrix, Parametrization
from mas_hooks.alignment.maps.standardise import Calibration
from mas_hooks.alignment.transports.base import (
    AbstractTransport,
    AbstractTransportView,
    restore,
    standardise,
    without_autocast,
)
from mas_hooks.core.errors import UnsupportedError


@dataclass(frozen=True, eq=False)
class MatrixView(AbstractTransportView):
    """x → the matrices of `steps` one after the other, + shift; backwards the pseudo-inverse.

    orthogonal: the one step has orthonormal columns or rows, so that its pseudo-inverse is its transpose.
    """

    steps: tuple[Float[Tensor, "_to _from"], ...]
    shift: Float[Tensor, " width_t"] | None
    source: Calibration
    target: Calibration
    orthogonal: bool = False

    def forward(self, h: Float[Tensor, "n width_s"]) -> Float[Tensor, "n width_t"]:
        with without_autocast(self.source):
            x = standardise(self.source, h)
            for step in self.steps:
                x = x @ step.mT
            return restore(self.target, x if self.shift is None else x + self.shift)

    def backward(self, h: Float[Tensor, "n width_t"]) -> Float[Tensor, "n width_s"]:
        with without_autocast(self.source):
            x = standardise(self.target, h)
            x = (x if self.shift is None else x - self.shift) @ self._inverse.mT
            return restore(self.source, x)

    @cached_property
    def _inverse(self) -> Float[Tensor, "width_s width_t"]:
        return self.steps[0].mT if self.orthogonal else pseudo_inverse(self.steps)


@dataclass(frozen=True, eq=False)
class IdentityView(AbstractTransportView):
    """The source's activation as it is."""

    source: Calibration

    def forward(self, h: Float[Tensor, "n width_s"]) -> Float[Tensor, "n width_t"]:
        return standardise(self.source, h)

    def backward(self, h: Float[Tensor, "n width_t"]) -> Float[Tensor, "n width_s"]:
        return standardise(self.source, h)


class Linear(AbstractTransport):
    """A free matrix W (width_t, width_s): h Wᵀ (Lenc & Vedaldi 2015; Bansal et al. 2021)."""

    def __init__(self, source: Calibration, target: Calibration) -> None:
        super().__init__(source, target)
        self.weight = nn.Parameter(torch.eye(self.width_t, self.width_s, dtype=torch.float32))

    def view(self) -> MatrixView:
        return MatrixView((self.weight,), None, self.source, self.target)

    def start(self, matrix: Tensor, shift: Tensor | None = None) -> None:
        _refuse_shift(shift)
        with torch.no_grad():
            self.weight.copy_(matrix)


class LowRank(AbstractTransport):
    """W = B A with A (rank, width_s) and B (width_t, rank): at most `rank` directions of the source are read."""

    def __init__(self, source: Calibration, target: Calibration, rank: int) -> None:
        super().__init__(source, target)
        self.first = nn.Parameter(torch.eye(rank, self.width_s, dtype=torch.float32))
        self.second = nn.Parameter(torch.eye(self.width_t, rank, dtype=torch.float32))

    def view(self) -> MatrixView:
        return MatrixView((self.first, self.second), None, self.source, self.target)

    def start(self, matrix: Tensor, shift: Tensor | None = None) -> None:
        """Begin at the best approximation of that rank, its singular values shared equally by both factors."""
        _refuse_shift(shift)
        rank = len(self.first)
        u, sizes, vh = torch.linalg.svd(matrix.detach().double(), full_matrices=False)
        root = sizes[:rank].sqrt()
        with torch.no_grad():
            self.first.copy_(root[:, None] * vh[:rank])
            self.second.copy_(u[:, :rank] * root)


class Orthogonal(AbstractTransport):
    """W with orthonormal columns (width_t ≥ width_s) or rows (width_t < width_s); backwards is the transpose.

    Wider target: backward(forward(h)) = h. Narrower target: forward(backward(h)) = h, and backward(forward(h)) keeps
    of h what W reads.
    """

    def __init__(self, source: Calibration, target: Calibration, parametrization: Parametrization) -> None:
        super().__init__(source, target)
        self.weight = OrthogonalMatrix(self.width_t, self.width_s, parametrization)

    def view(self) -> MatrixView:
        return MatrixView((self.weight.matrix(),), None, self.source, self.target, orthogonal=True)

    def start(self, matrix: Tensor, shift: Tensor | None = None) -> None:
        _refuse_shift(shift)
        self.weight.start(matrix)


class Identity(AbstractTransport):
    """No parameters: identity stitching. Two sites of one width."""

    def view(self) -> IdentityView:
        return IdentityView(self.source)

    def start(self, matrix: Tensor, shift: Tensor | None = None) -> None:
        """Nothing: it is where it starts. Raises UnsupportedError for any other matrix."""
        _refuse_shift(shift)
        if not torch.equal(matrix, torch.eye(self.width_t, self.width_s).to(matrix)):
            raise UnsupportedError("another start of an identity transport", "use kind='linear'")


def _refuse_shift(shift: Tensor | None) -> None:
    if shift is not None:
        raise UnsupportedError("a shift of a transport that is a matrix alone", "use kind='affine'")


def pseudo_inverse(steps: tuple[Float[Tensor, "_to _from"], ...]) -> Float[Tensor, "width_s width_t"]:
    """The Moore–Penrose inverse of the product of one or two matrices, applied in that order.

    In float64, by thin QR of the factors, so that a product of rank r is inverted on its r dims and not on rounding
    noise. Singular values below float32 rounding of the largest count as zero.
    """
    if len(steps) == 1:
        left, core, right = None, steps[0].double(), None
    else:
        right, r_first = torch.linalg.qr(steps[0].double().mT)
        left, r_second = torch.linalg.qr(steps[1].double())
        core = r_second @ r_first.mT
    floor = max(reduce(max, (step.shape for step in steps))) * torch.finfo(torch.float32).eps
    inverse = torch.linalg.pinv(core, rtol=floor)
    if left is not None and right is not None:
        inverse = right @ inverse @ left.mT
    return inverse.to(steps[0].dtype)
