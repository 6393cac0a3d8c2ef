"""What a kernel makes of the rows of one layer before any product: z (n, width), so that the kernel is z zᵀ. Torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Features:
    """Rows whose dot products, times `scale`, are the kernel; `scale` is a float64 scalar on their device or the CPU.

    The largest number in `z` is 1 at most, so that float32 neither over- nor underflows; NaN in a row makes scale NaN.
    """

    z: Float[Tensor, "n width"]
    scale: Tensor

    def __len__(self) -> int:
        return len(self.z)


def _nonzero(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, 1.0, scale)


def centred(x: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
    """Take the mean off each unit. The first row goes first: it leaves exact zeros of a constant unit."""
    x = x - x[0]
    return x.sub_(x.mean(0))


def _linear(x: Tensor) -> tuple[Tensor, Tensor]:
    z = centred(x)
    low, high = torch.aminmax(z)  # one pass and no copy, unlike abs().amax()
    scale = torch.maximum(-low, high)
    return z.div_(_nonzero(scale)), scale


def _cosine(x: Tensor) -> tuple[Tensor, Tensor]:
    z = centred(x)
    largest = z.abs().amax(0)
    z.div_(_nonzero(largest))  # first, so that no square over- or underflows
    z.div_(_nonzero(z.square().mean(0).sqrt_()))
    z.div_(_nonzero(z.norm(dim=1, keepdim=True)))
    # All kernels here are centred afterwards, and neither HSIC is changed by a shift of all rows.
    return centred(z), (largest.amax() > 0).to(x) + 0 * largest.sum()


KERNELS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {"linear": _linear, "cosine": _cosine}
"""linear: dot products of centred rows. cosine: each unit z-scored over the rows, then cosines of the angles."""


def widened(layers: Sequence[Tensor]) -> torch.dtype:
    """What many layers are computed in: float32, or float64 where one of them is."""
    return reduce(torch.promote_types, (rows.dtype for rows in layers), torch.float32)


def features(rows: Float[Tensor, "n width"], kernel: str, dtype: torch.dtype = torch.float32) -> Features:
    """Centred features of a kernel, computed in `dtype`; the rows stay as they are."""
    return Features(*KERNELS[kernel](rows.detach().to(dtype)))
