"""Centred kernel alignment: do two networks find the same inputs alike?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from mas_hooks.core.errors import UnknownNameError, UnsupportedError
from mas_hooks.similarity.hsic import biased_hsic
from mas_hooks.similarity.kernel import centre_rows, cosine_kernel, linear_kernel, zscore_rows
from mas_hooks.similarity.resampling import Measure, Sampling, resample
from mas_hooks.similarity.rows import Matrix, Rows


def _cosine_of_zscores(x: Matrix) -> Matrix:
    return cosine_kernel(zscore_rows(x))


def _linear_of_centred(x: Matrix) -> Matrix:
    return linear_kernel(centre_rows(x))


# What each kernel makes of the sampled rows; a further kernel is a further row.
KERNELS: dict[str, Callable[[Matrix], Matrix]] = {"cosine": _cosine_of_zscores, "linear": _linear_of_centred}


def _kernel_of(x: Matrix, kernel: str, name: str) -> Matrix:
    k = KERNELS[kernel](x)
    if not k.any():
        raise UnsupportedError(f"cka of {name}, whose every unit is constant over the sample,", "pass rows that differ")
    return k


def _kernel_alignment(x: Matrix, y: Matrix, kernel: str) -> float:
    """Biased CKA (Grant 2025, eq. 15), in [0, 1]."""
    kernel_x, kernel_y = _kernel_of(x, kernel, "x"), _kernel_of(y, kernel, "y")
    norms = np.sqrt(biased_hsic(kernel_x, kernel_x)) * np.sqrt(biased_hsic(kernel_y, kernel_y))
    return float(np.clip(biased_hsic(kernel_x, kernel_y) / norms, 0.0, 1.0))


def cka(x: Rows, y: Rows, kernel: str = "cosine", samples: int = 1000, resamples: int = 10, seed: int = 0) -> Measure:
    """Centred kernel alignment with biased HSIC, averaged over samples of rows (Grant 2025, A.4; Kornblith 2019).

    x (n, d), y (n, d'), matched rows -> Measure in [0, 1]; with n ≤ samples, one evaluation on all rows.
    kernel="cosine" z-scores each unit over the sample: unchanged by a shift and a scale per unit, not by rotations.
    kernel="linear" only centres: unchanged by shifts, rotations and one scale for all, not by a scale per unit.
    Biased: unrelated rows do not give 0, and with few rows of wide activations come near 1; compare at equal n.
    Raises ShapeError, EmptyError, NotFiniteError, SettingError, UnknownNameError; UnsupportedError for constant rows.
    """
    if kernel not in KERNELS:
        raise UnknownNameError("kernel", kernel, KERNELS, "cka")
    values = resample(x, y, partial(_kernel_alignment, kernel=kernel), Sampling(samples, resamples, seed))
    return Measure.over(f"cka_{kernel}", values)
