"""Where the maps begin: random, identity, principal or Procrustes frames. All return orthonormal (width, rank)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mas_hooks.alignment.maps.frame import orthonormal


def random_frame(width: int, rank: int, generator: torch.Generator) -> Float[Tensor, "width rank"]:
    """Draw a frame, uniform over orthonormal ones (QR of a Gaussian matrix with fixed signs).

    Args:
        width: units of the site.
        rank: columns of the frame, at most `width`.
        generator: of the draw; the frame lies on its device.

    Returns:
        Orthonormal columns, float32.

    Example:
        >>> import torch
        >>> from mas_hooks.alignment import random_frame
        >>> frame = random_frame(4, 2, torch.Generator().manual_seed(0))
        >>> torch.allclose(frame.T @ frame, torch.eye(2), atol=1e-6)
        True
    """
    return orthonormal(torch.randn(width, rank, generator=generator, device=generator.device, dtype=torch.float32))


def identity_frame(width: int, rank: int) -> Float[Tensor, "width rank"]:
    """The first `rank` units themselves."""
    return torch.eye(width, rank, dtype=torch.float32)


def pca_frame(x: Float[Tensor, "n width"], rank: int) -> Float[Tensor, "width rank"]:
    """The `rank` directions of most variance of `x`, which is centred here."""
    centred = (x - x.mean(0)).double()
    _, directions = torch.linalg.eigh(centred.mT @ centred)  # least variance first, all of them however few the rows
    return directions.flip(1)[:, :rank].to(x.dtype).contiguous()


def procrustes_frames(
    means: Sequence[Float[Tensor, "m _width"]], rank: int, sweeps: int = 20
) -> list[Float[Tensor, "_width rank"]]:
    """Find one frame per model such that matched rows get nearly the same coordinates.

    Starts from the principal scores of all models side by side, then alternates: each frame is the orthogonal
    Procrustes solution onto the mean scores (Schönemann 1966; Gower 1975 for more than two models).

    Args:
        means: matched rows (per causal state or input row), one matrix a model, centred here.
        rank: columns of each frame.
        sweeps: how often all frames are solved for.

    Returns:
        The frames, in the order and dtype of `means`.
    """
    centred = [(m - m.mean(0)).double() for m in means]
    left, sizes, _ = torch.linalg.svd(torch.cat(centred, dim=1), full_matrices=False)
    shared = left[:, :rank] * sizes[:rank]
    if shared.shape[1] < rank:  # fewer matched rows than dims: the rest of each frame is free
        shared = torch.cat([shared, shared.new_zeros(len(shared), rank - shared.shape[1])], dim=1)
    frames: list[Tensor] = []
    for _ in range(sweeps):
        frames = [_nearest_frame(m.mT @ shared) for m in centred]
        shared = torch.stack([m @ frame for m, frame in zip(centred, frames, strict=True)]).mean(0)
    return [frame.to(m.dtype) for frame, m in zip(frames, means, strict=True)]


def frame_onto(means: Float[Tensor, "m width"], shared: Float[Tensor, "m rank"]) -> Float[Tensor, "width rank"]:
    """The frame whose coordinates of `means` come nearest to `shared` (Schönemann 1966); both are centred here."""
    frame = _nearest_frame((means - means.mean(0)).double().mT @ shared.double())
    return frame.to(means.dtype)


def _nearest_frame(matrix: Float[Tensor, "width rank"]) -> Float[Tensor, "width rank"]:
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u @ vh
