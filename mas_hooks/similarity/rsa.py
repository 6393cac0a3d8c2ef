"""Representational similarity analysis: do two networks order the distances between inputs alike?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mas_hooks.core.errors import UnsupportedError
from mas_hooks.similarity.kernel import cosine_kernel
from mas_hooks.similarity.resampling import Measure, Sampling, resample
from mas_hooks.similarity.rows import Matrix, Rows, check_rows

# Equal rows (one token, many positions) have equal distances, yet rounding makes them differ by 1e-16, and ranks would
# make that noise count: two rotations of three repeated rows came to 0.94 instead of 1. Ties are made at this digit.
DIGITS = 12


def _distances(x: Matrix) -> Matrix:
    return 1.0 - cosine_kernel(x)


def rdm(x: Rows) -> Matrix:
    """Representational dissimilarity matrix, 1 − cosine between rows (Grant 2025, A.3).

    x (n, d) -> (n, n) float64, in [0, 2]. A zero row counts as orthogonal: distance 1 to all rows, itself included.
    Raises ShapeError, EmptyError, UnsupportedError, NotFiniteError.

    Example:
        >>> import torch
        >>> from mas_hooks.similarity import rdm
        >>> rdm(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]]))
        array([[0., 1., 2.],
               [1., 0., 1.],
               [2., 1., 0.]])
    """
    return _distances(check_rows(x, "x").astype(np.float64))


def _centred_ranks(values: Matrix) -> Matrix:
    """Centred ranks, (m,) -> (m,), ties sharing their average; their mean is exactly 0."""
    from scipy.stats import rankdata  # here, because importing it takes longer than all else of this room

    return rankdata(values) - (len(values) + 1) / 2


def _ranked_distances(x: Matrix, name: str) -> Matrix:
    """Centred ranks of the RDM's strict lower triangle; (n, d) -> (n(n−1)/2,)."""
    triangle = _distances(x)[np.tri(len(x), k=-1, dtype=bool)]
    ranks = _centred_ranks(np.round(triangle, DIGITS))
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

    Unchanged by rotations and by a positive scale for each row; changed by shifts and by a scale for each unit.

    Args:
        x: (n, d), a row for each input.
        y: (n, d'), row i of it belongs to row i of x.
        samples: rows of a sample; with n ≤ samples, all rows are measured once.
        resamples: how many samples are drawn.
        seed: of the draws.

    Returns:
        A Measure named `rsa_cosine_spearman`, in [−1, 1].

    Raises:
        ShapeError, EmptyError, NotFiniteError, SettingError: the rows do not match, or a setting is out of range.
        UnsupportedError: the distances of a side are all equal.

    Example:
        >>> import torch
        >>> from mas_hooks.similarity import rsa
        >>> x = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
        >>> print(rsa(x, 3 * x.flip(1)))
        rsa_cosine_spearman 1.000 (1 sample)
    """
    return Measure.over("rsa_cosine_spearman", resample(x, y, _spearman, Sampling(samples, resamples, seed)))
