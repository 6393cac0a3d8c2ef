"""Kernels: how alike each row of one matrix is to each other row, and what is done to units before. Pure functions."""

from __future__ import annotations

import numpy as np

from mas_hooks.similarity.rows import Matrix

# Below this share of a unit's largest value a difference is float64 rounding. Without it, a constant 0.1 has a standard
# deviation near 1e-17 and its z-scores are noise of size 1. No two numbers of float32 are that close.
ROUNDING = 1e-12


def _nonzero(scale: Matrix) -> Matrix:
    """A scale to divide by; where nothing varies, 1, so that zeros stay zeros instead of NaN."""
    return np.where(scale == 0, 1.0, scale)


def _unit_sized(x: Matrix) -> Matrix:
    """Scale all by one power of two (no digit changes), largest below 1: products neither over- nor underflow."""
    return np.ldexp(x, -np.frexp(np.abs(x).max())[1])


def centre_rows(x: Matrix) -> Matrix:
    """Take the mean off each unit, up to one scale for all, which no CKA sees; (n, d) -> (n, d).

    Differences of rounding size become exact zeros.
    """
    x = _unit_sized(x)
    differences = x - x.mean(axis=0)
    return _unit_sized(np.where(np.abs(differences) <= ROUNDING * np.abs(x).max(axis=0), 0.0, differences))


def zscore_rows(x: Matrix) -> Matrix:
    """Give each unit mean 0 and standard deviation 1; a constant unit is centred and left at zero. (n, d) -> (n, d)."""
    differences = centre_rows(x)
    differences = differences / _nonzero(np.abs(differences).max(axis=0))
    return differences / _nonzero(differences.std(axis=0))


def linear_kernel(x: Matrix) -> Matrix:
    """Dot products of rows; (n, d) -> (n, n)."""
    return x @ x.T


def cosine_kernel(x: Matrix) -> Matrix:
    """Cosines of the angles between rows; a zero row has no angle and gets 0 with every row, itself included.

    (n, d) -> (n, n), in [−1, 1] up to rounding.
    """
    # Not scipy.spatial.distance "cosine": it gives NaN for a zero row, and overflows where this does not.
    x = x / _nonzero(np.abs(x).max(axis=1, keepdims=True))  # first, so that no square over- or underflows
    return linear_kernel(x / _nonzero(np.linalg.norm(x, axis=1, keepdims=True)))
