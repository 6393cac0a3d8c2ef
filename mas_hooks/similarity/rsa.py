"""Representational similarity analysis: do two networks order the distances between inputs alike?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mas_hooks.core.errors import UnsupportedError
from mas_hooks.similarity.kernel import cosine_kernel
from mas_hooks.similarity.resampling import Measure, Sampling, resample
from mas_hooks.similarity.rows import Matrix, Rows, check_rows

# Equal rows (one token, many positions) have equal distances, yet rounding tells them apart by 1e-16, and ranks would
# make that noise count: two rotations of three repeated rows came to 0.94 instead of 1. Ties are made at this digit.
DIGITS = 12


def _distances(x: Matrix) -> Matrix:
    return 1.0 - cosine_kernel(x)


def dissimilarity_matrix(x: Rows) -> Matrix:
    """Representational dissimilarity matrix, 1 − cosine between rows (Grant 2025, A.3).

    x (n, d) -> (n, n) float64, in [0, 2]. A zero row counts as orthogonal: distance 1 to all rows, itself included.
    Raises ShapeError, EmptyError, UnsupportedError, NotFiniteError.
    """
    return _distances(check_rows(x, "x").astype(np.float64))


def _ranks(values: Matrix) -> Matrix:
    """Centred ranks, (m,) -> (m,), ties sharing their average; their mean is exactly 0."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + len(values)) / 2)[which]


def _ranked_distances(x: Matrix, name: str) -> Matrix:
    """Centred ranks of the RDM's strict lower triangle; (n, d) -> (n(n−1)/2,)."""
    triangle = _distances(x)[np.tri(len(x), k=-1, dtype=bool)]
    ranks = _ranks(np.round(triangle, DIGITS))
    if not ranks.any():
        raise UnsupportedError(f"rsa of {name}, all of whose rows lie equally far apart,", "pass rows that differ")
    return ranks


def rank_distances(layers: Sequence[Rows], names: Sequence[str]) -> Matrix:
    """Centred ranks of the RDM's strict lower triangle of every layer; (n, any width) each -> (layers, n(n−1)/2).

    Raises ShapeError, EmptyError, NotFiniteError and UnsupportedError that name the layer.
    """
    rows = zip(layers, names, strict=True)
    return np.stack([_ranked_distances(check_rows(x, name).astype(np.float64), name) for x, name in rows])


def _spearman(x: Matrix, y: Matrix) -> float:
    a, b = _ranked_distances(x, "x"), _ranked_distances(y, "y")
    return float(np.clip(a @ b / (np.sqrt(a @ a) * np.sqrt(b @ b)), -1.0, 1.0))


def rsa(x: Rows, y: Rows, samples: int = 1000, resamples: int = 10, seed: int = 0) -> Measure:
    """Spearman correlation of the two RDMs' strict lower triangles, averaged over samples of rows (Grant 2025, A.3).

    x (n, d), y (n, d'), matched rows -> Measure in [−1, 1]; with n ≤ samples, one evaluation on all rows.
    Unchanged by rotations and by a positive scale for each row; changed by shifts and by a scale for each unit.
    Raises ShapeError, EmptyError, NotFiniteError, SettingError; UnsupportedError when a side's distances are all equal.
    """
    return Measure.over("rsa", resample(x, y, _spearman, Sampling(samples, resamples, seed)))
