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
    product = _of_norm_one(x, "x").T @ _of_norm_one(y, "y")
    return float(np.clip(np.linalg.svd(product, compute_uv=False).sum(), 0.0, 1.0))


def _angle(x: Matrix, y: Matrix) -> float:
    return float(np.arccos(_overlap(x, y)))


def _euclidean(x: Matrix, y: Matrix) -> float:
    return float(np.sqrt(2 - 2 * _overlap(x, y)))


def shape_distance(x: Rows, y: Rows, samples: int = 1000, resamples: int = 10, seed: int = 0) -> Measure:
    """The angle left between two shapes after the best rotation, in radians (Williams 2021).

    x (n, d), y (n, d'), matched rows -> Measure in [0, π/2]; with n ≤ samples, one evaluation on all rows.
    A metric between shapes: unchanged by shifts, rotations, reflections and one scale for all of either side.
    Raises ShapeError, EmptyError, NotFiniteError, SettingError; UnsupportedError for rows that are all alike.
    """
    return Measure.over("shape_distance", resample(x, y, _angle, Sampling(samples, resamples, seed)))


def procrustes(x: Rows, y: Rows, samples: int = 1000, resamples: int = 10, seed: int = 0) -> Measure:
    """min over rotations Q of ‖X − Y Q‖ with both sides centred and of norm 1 (Ding 2021), in [0, √2].

    As `shape_distance`, of which it is 2 sin(half): the chord where that is the arc.
    """
    return Measure.over("procrustes", resample(x, y, _euclidean, Sampling(samples, resamples, seed)))
