"""How far apart two sets of matched rows stay under the best rotation: distances in the strict sense."""

from __future__ import annotations

import numpy as np

from mas_hooks.core.errors import UnsupportedError
from mas_hooks.similarity.kernel import centre_rows
from mas_hooks.similarity.resampling import Measure, Sampling, resample
from mas_hooks.similarity.rows import Matrix, Rows


def _of_norm_one(x: Matrix, name: str) -> Matrix:
    z = centre_rows(x)
    if not z.any():
        raise UnsupportedError(f"a shape distance of {name}, whose rows are all alike,", "pass rows that differ")
    return z / np.linalg.norm(z)


def _overlap(x: Matrix, y: Matrix) -> float:
    """max over rotations Q of tr(Xᵀ Y Q) = ‖Xᵀ Y‖_*, of centred rows of Frobenius norm 1; in [0, 1].

    The narrower side is as if filled up with zero units.
    """
    # scipy.spatial.procrustes and scipy.linalg.orthogonal_procrustes want equal widths, and also build the rotation.
    product = _of_norm_one(x, "x").T @ _of_norm_one(y, "y")
    return float(np.clip(np.linalg.svd(product, compute_uv=False).sum(), 0.0, 1.0))


def _angle(x: Matrix, y: Matrix) -> float:
    return float(np.arccos(_overlap(x, y)))


def _euclidean(x: Matrix, y: Matrix) -> float:
    return float(np.sqrt(2 - 2 * _overlap(x, y)))


def shape_distance(x: Rows, y: Rows, samples: int = 1000, resamples: int = 10, seed: int = 0) -> Measure:
    """The angle left between two shapes after the best rotation, in radians (Williams 2021).

    A metric between shapes: unchanged by shifts, rotations, reflections and one scale for all of either side.

    Args:
        x: (n, d), a row for each input.
        y: (n, d'), row i of it belongs to row i of x.
        samples: rows of a sample; with n ≤ samples, all rows are measured once.
        resamples: how many samples are drawn.
        seed: of the draws.

    Returns:
        A Measure named `procrustes_angular`, in [0, π/2].

    Raises:
        ShapeError, EmptyError, NotFiniteError, SettingError: the rows do not match, or a setting is out of range.
        UnsupportedError: the rows of a side are all alike.

    Example:
        >>> import torch
        >>> from mas_hooks.similarity import shape_distance
        >>> x, y = torch.randn(2, 200, 8, generator=torch.Generator().manual_seed(0))
        >>> print(shape_distance(x, y))
        procrustes_angular 1.399 (1 sample)
        >>> shape_distance(x, 3 * x.flip(1)).value < 1e-6
        True
    """
    return Measure.over("procrustes_angular", resample(x, y, _angle, Sampling(samples, resamples, seed)))


def procrustes(x: Rows, y: Rows, samples: int = 1000, resamples: int = 10, seed: int = 0) -> Measure:
    """min over rotations Q of ‖X − Y Q‖ with both sides centred and of norm 1 (Ding 2021).

    It is 2 sin(half of `shape_distance`): the chord where that is the arc.

    Args:
        x: (n, d), a row for each input.
        y: (n, d'), row i of it belongs to row i of x.
        samples: rows of a sample; with n ≤ samples, all rows are measured once.
        resamples: how many samples are drawn.
        seed: of the draws.

    Returns:
        A Measure named `procrustes_euclidean`, in [0, √2].

    Raises:
        ShapeError, EmptyError, NotFiniteError, SettingError: the rows do not match, or a setting is out of range.
        UnsupportedError: the rows of a side are all alike.

    Example:
        >>> import math
        >>> import torch
        >>> from mas_hooks.similarity import procrustes, shape_distance
        >>> x, y = torch.randn(2, 200, 8, generator=torch.Generator().manual_seed(0))
        >>> math.isclose(procrustes(x, y).value, 2 * math.sin(shape_distance(x, y).value / 2))
        True
    """
    return Measure.over("procrustes_euclidean", resample(x, y, _euclidean, Sampling(samples, resamples, seed)))
