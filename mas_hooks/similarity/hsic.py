"""The Hilbert-Schmidt independence criterion of two kernels. Pure functions of (n, n) matrices."""

from __future__ import annotations

import numpy as np

from mas_hooks.similarity.rows import Matrix


def double_centre(kernel: Matrix) -> Matrix:
    """H K H with H = I − J/n (Grant 2025, eq. 13) for a symmetric kernel, without building H; (n, n) -> (n, n)."""
    means = kernel.mean(axis=0)
    return kernel - means - means[:, None] + means.mean()


def biased_hsic(left: Matrix, right: Matrix) -> float:
    """trace(K H L H) / (n − 1)² (Grant 2025, eq. 14) of two symmetric kernels (n, n)."""
    # trace(H K H · L) is the same number: to centre one side is enough.
    return float(np.vdot(double_centre(left), right)) / (len(left) - 1) ** 2
