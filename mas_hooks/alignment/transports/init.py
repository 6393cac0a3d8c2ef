"""Where transports begin: random or identity matrices, or the closed-form fit to matched rows."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mas_hooks.alignment.maps.init import random_frame
from mas_hooks.alignment.maps.orthogonal import nearest_orthonormal
from mas_hooks.core.errors import EmptyError, NotFiniteError, ShapeError


def random_matrix(
    width_t: int, width_s: int, rank: int | None, generator: torch.Generator
) -> Float[Tensor, "width_t width_s"]:
    """Draw normal entries of variance 1 / width_s, which keep a row's length on average.

    Args:
        width_t: rows.
        width_s: columns.
        rank: of the matrix; None for a full one.
        generator: of the draw; the matrix lies on its device.

    Returns:
        The matrix, float32.
    """

    def normal(rows: int, columns: int) -> Tensor:
        entries = torch.randn(rows, columns, generator=generator, device=generator.device, dtype=torch.float32)
        return entries / columns**0.5

    return normal(width_t, width_s) if rank is None else normal(width_t, rank) @ normal(rank, width_s)


def random_orthonormal(width_t: int, width_s: int, generator: torch.Generator) -> Float[Tensor, "width_t width_s"]:
    """Draw uniformly from the matrices with orthonormal columns, or rows where it is wider than tall.

    Args:
        width_t: rows.
        width_s: columns.
        generator: of the draw; the matrix lies on its device.

    Returns:
        The matrix, float32.
    """
    tall = random_frame(max(width_t, width_s), min(width_t, width_s), generator)
    return tall if width_t >= width_s else tall.mT


def identity_matrix(width: int, rank: int | None) -> Float[Tensor, "width width"]:
    """The identity, on the first `rank` units alone if a rank is given."""
    ones = (torch.arange(width) < (width if rank is None else rank)).float()
    return torch.diag(ones)


def least_squares(
    x_s: Float[Tensor, "m width_s"], x_t: Float[Tensor, "m width_t"], rank: int | None = None
) -> Float[Tensor, "width_t width_s"]:
    """Find W of least Σ‖W x_s − x_t‖² (of least norm where several are), in float64.

    Args:
        x_s: the source's rows.
        x_t: the target's rows, matched to those.
        rank: None, or that of the best W of a rank, by reduced-rank regression (Izenman 1975).

    Returns:
        W, in the dtype of `x_s`.

    Raises:
        ShapeError: the two have different numbers of rows.
        EmptyError: there are no rows.
        NotFiniteError: some values are NaN or infinite.
    """
    _check_rows(x_s, x_t)
    given, received = x_s.double(), x_t.double()
    weight = (torch.linalg.pinv(given) @ received).mT
    if rank is not None and rank < min(weight.shape):
        _, _, directions = torch.linalg.svd(given @ weight.mT, full_matrices=False)
        strongest = directions[:rank]
        weight = strongest.mT @ strongest @ weight
    return weight.to(x_s.dtype)


def least_squares_affine(
    x_s: Float[Tensor, "m width_s"], x_t: Float[Tensor, "m width_t"]
) -> tuple[Float[Tensor, "width_t width_s"], Float[Tensor, " width_t"]]:
    """W and b of least Σ‖W x_s + b − x_t‖²."""
    _check_rows(x_s, x_t)
    mean_s, mean_t = x_s.double().mean(0), x_t.double().mean(0)
    weight = least_squares(x_s.double() - mean_s, x_t.double() - mean_t)
    return weight.to(x_s.dtype), (mean_t - weight @ mean_s).to(x_s.dtype)


def procrustes_matrix(
    x_s: Float[Tensor, "m width_s"], x_t: Float[Tensor, "m width_t"]
) -> Float[Tensor, "width_t width_s"]:
    """The orthonormal W of least Σ‖W x_s − x_t‖² (Schönemann 1966), without centring.

    For a narrower target it is the W of least Σ‖x_s − Wᵀ x_t‖², the way back: forwards there is no closed form.
    """
    _check_rows(x_s, x_t)
    return nearest_orthonormal(x_t.double().mT @ x_s.double()).to(x_s.dtype)


def _check_rows(x_s: Tensor, x_t: Tensor) -> None:
    if len(x_s) != len(x_t):
        raise ShapeError(
            "the target's rows of a start", tuple(x_t.shape), f"one row for each of the source's {len(x_s)}"
        )
    if not len(x_s):
        raise EmptyError("the set of matched rows", "use init='random' for this transport")
    for name, x in (("the source's rows of a start", x_s), ("the target's rows of a start", x_t)):
        bad = int((~torch.isfinite(x)).sum())
        if bad:
            raise NotFiniteError(name, bad)
