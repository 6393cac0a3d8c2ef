"""The Hilbert-Schmidt independence criterion of two kernels, in NumPy. Pure functions of (n, n) matrices.

`similarity.layers.hsic` has the same two estimators of many layers at once, in torch.
"""

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


def unbiased_hsic(left: Matrix, right: Matrix) -> float:
    """HSIC₁ (Nguyen 2021; Brown 2023, App. C) of two symmetric kernels (n, n), n ≥ 4; 0 on average if unrelated."""
    n = len(left)
    # No row counts as its own pair: that is where the bias of the other estimator comes from.
    left, right = (kernel - np.diag(kernel.diagonal()) for kernel in (left, right))
    rows_left, rows_right = left.sum(axis=0), right.sum(axis=0)
    whole = rows_left.sum() * rows_right.sum() / ((n - 1) * (n - 2))
    return float(np.vdot(left, right) + whole - 2 / (n - 2) * (rows_left @ rows_right)) / (n * (n - 3))
