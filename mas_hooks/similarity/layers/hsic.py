"""HSIC of every layer of one model with every layer of another, over one set of matched rows. Torch.

First `make_features` turns the rows of one layer into z (n, width), so that its kernel is z zᵀ; then
`hsic_of_all_pairs` multiplies all kernels piece by piece. `similarity.hsic` has the same estimators of two kernels, in
NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

TILE = {"cpu": 128, "cuda": 2048}
"""Rows and columns of the piece of all kernels that is held at a time: on a CPU, what stays in its cache."""


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


def centre_features(x: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
    """Take the mean off each unit. The first row goes first: it leaves exact zeros of a constant unit."""
    x = x - x[0]
    return x.sub_(x.mean(0))


def _linear(x: Tensor) -> tuple[Tensor, Tensor]:
    z = centre_features(x)
    low, high = torch.aminmax(z)  # one pass and no copy, unlike abs().amax()
    scale = torch.maximum(-low, high)
    return z.div_(_nonzero(scale)), scale


def _cosine(x: Tensor) -> tuple[Tensor, Tensor]:
    z = centre_features(x)
    largest = z.abs().amax(0)
    z.div_(_nonzero(largest))  # first, so that no square over- or underflows
    z.div_(_nonzero(z.square().mean(0).sqrt_()))
    z.div_(_nonzero(z.norm(dim=1, keepdim=True)))
    # All kernels here are centred afterwards, and neither HSIC is changed by a shift of all rows.
    return centre_features(z), (largest.amax() > 0).to(x) + 0 * largest.sum()


KERNELS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {"linear": _linear, "cosine": _cosine}
"""linear: dot products of centred rows. cosine: each unit z-scored over the rows, then cosines of the angles."""


def widen_features(layers: Sequence[Tensor]) -> torch.dtype:
    """What many layers are computed in: float32, or float64 where one of them is."""
    return reduce(torch.promote_types, (rows.dtype for rows in layers), torch.float32)


def make_features(rows: Float[Tensor, "n width"], kernel: str, dtype: torch.dtype = torch.float32) -> Features:
    """The centred features of a kernel.

    Args:
        rows: (n, width), of any float dtype; they stay as they are.
        kernel: a name of `KERNELS`.
        dtype: what is computed in.

    Returns:
        Features whose dot products, times their scale, are the kernel.
    """
    return Features(*KERNELS[kernel](rows.detach().to(dtype)))


@dataclass(frozen=True, eq=False)
class Hsic:
    """float64 on the CPU: `cross` of every two layers, `a` and `b` of each layer with itself."""

    cross: Float[Tensor, "layers_a layers_b"]
    a: Float[Tensor, " layers_a"]
    b: Float[Tensor, " layers_b"]


def _tiles(n: int, size: int) -> Iterator[tuple[slice, slice]]:
    """The pieces of an (n, n) kernel on its diagonal and above: a kernel is symmetric."""
    for row in range(0, n, size):
        for column in range(row, n, size):
            yield slice(row, row + size), slice(column, column + size)


def _kernels(layers: Sequence[Features], rows: slice, columns: slice, into: Tensor, zero_diagonal: bool) -> Tensor:
    """One piece of the kernel of each layer, flattened, (layers, rows · columns), written into a buffer."""
    height, width = (len(layers[0].z[part]) for part in (rows, columns))
    held = into[: len(layers) * height * width].view(len(layers), height, width)
    for piece, layer in zip(held, layers, strict=True):
        torch.mm(layer.z[rows], layer.z[columns].T, out=piece)
    if zero_diagonal:
        held.diagonal(dim1=1, dim2=2).zero_()
    return held.flatten(1)


def _to_float64(tensors: Sequence[Tensor]) -> Tensor:
    """Stacked on the CPU, where float64 is always to be had."""
    return torch.stack(list(tensors)).cpu().double()


def _products(a: Sequence[Features], b: Sequence[Features], unbiased: bool) -> Hsic:
    """Σ K∘L over all entries (unbiased: all but the diagonal) of every two kernels, piece by piece."""
    n, like = len(a[0]), a[0].z
    size = min(n, TILE.get(like.device.type, TILE["cuda"]))
    buffers = [like.new_empty(len(layers) * size * size) for layers in ([a] if b is a else [a, b])]
    crosses, selves_a, selves_b = [], [], []
    for rows, columns in _tiles(n, size):
        weight, on_diagonal = (1, True) if rows == columns else (2, False)
        left = _kernels(a, rows, columns, buffers[0], unbiased and on_diagonal)
        right = left if b is a else _kernels(b, rows, columns, buffers[1], unbiased and on_diagonal)
        crosses.append(weight * (left @ right.T))
        # By the same product as the pairs: float32 then rounds equal layers alike, and a model is 1 with its copy.
        selves_a.append(weight * (left @ left.T).diagonal())
        selves_b.append(weight * (right @ right.T).diagonal())
    return Hsic(*(_to_float64(sums).sum(0) for sums in (crosses, selves_a, selves_b)))


def _row_sums(layers: Sequence[Features]) -> Float[Tensor, "layers n"]:
    """The row sums of every kernel with a zero diagonal."""
    return _to_float64([layer.z @ layer.z.sum(0) - layer.z.square().sum(1) for layer in layers])


def _debias(products: Hsic, a: Tensor, b: Tensor) -> Hsic:
    """HSIC₁ (Nguyen 2021; Brown 2023, App. C) from the sums of products and the row sums, (layers, n) each."""
    n = a.shape[1]
    whole_a, whole_b = a.sum(1), b.sum(1)

    def correct_hsic(product: Tensor, sums: Tensor, rows: Tensor) -> Tensor:
        return (product + sums / ((n - 1) * (n - 2)) - rows * 2 / (n - 2)) / (n * (n - 3))

    return Hsic(
        correct_hsic(products.cross, whole_a[:, None] * whole_b, a @ b.T),
        correct_hsic(products.a, whole_a**2, a.square().sum(1)),
        correct_hsic(products.b, whole_b**2, b.square().sum(1)),
    )


def hsic_of_all_pairs(a: Sequence[Features], b: Sequence[Features], unbiased: bool = True) -> Hsic:
    """HSIC of all layer pairs over one set of n matched rows: HSIC₁ (n ≥ 4), or the biased trace(KHLH)/(n − 1)².

    One product of all flattened kernels of a with those of b gives every pair; sums are float64.

    Args:
        a: the layers of one model, (n, any width).
        b: the layers of the other. With `b is a` kernels are made once.
        unbiased: HSIC₁, or the biased estimator.

    Returns:
        HSIC of every two layers, and of each layer with itself.
    """
    n = len(a[0])
    # Autocast would round the kernels to bfloat16; gradients would keep them all.
    with torch.no_grad(), torch.autocast(a[0].z.device.type, enabled=False):
        products = _products(a, b, unbiased)
        if unbiased:
            products = _debias(products, _row_sums(a), _row_sums(b))
        else:  # the features are centred: K is HKH already
            products = Hsic(*(sums / (n - 1) ** 2 for sums in (products.cross, products.a, products.b)))
        scale_a, scale_b = (_to_float64([layer.scale for layer in layers]) ** 2 for layers in (a, b))
    return Hsic(products.cross * (scale_a[:, None] * scale_b), products.a * scale_a**2, products.b * scale_b**2)
