"""Centred kernel alignment: do two networks find the same inputs alike?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import numpy as np

from mas_hooks.core.errors import ShapeError, UnknownNameError, UnsupportedError
from mas_hooks.similarity.hsic import biased_hsic, unbiased_hsic
from mas_hooks.similarity.kernel import ROUNDING, centre_rows, cosine_kernel, linear_kernel, zscore_rows
from mas_hooks.similarity.registry import MEASURES
from mas_hooks.similarity.resampling import Measure, Sampling, resample
from mas_hooks.similarity.rows import Matrix, Rows

Estimator = Literal["biased", "unbiased"]


def _cosine_of_zscores(x: Matrix) -> Matrix:
    return cosine_kernel(zscore_rows(x))


def _linear_of_centred(x: Matrix) -> Matrix:
    return linear_kernel(centre_rows(x))


# What each kernel makes of the sampled rows. A further kernel is a further row here and in the registry.
KERNELS: dict[str, Callable[[Matrix], Matrix]] = {"cosine": _cosine_of_zscores, "linear": _linear_of_centred}


def _kernel_of(x: Matrix, kernel: str, name: str) -> Matrix:
    k = KERNELS[kernel](x)
    if not k.any():
        raise UnsupportedError(f"cka of {name}, whose every unit is constant over the sample,", "pass rows that differ")
    return k


def _biased_alignment(x: Matrix, y: Matrix, kernel: str) -> float:
    """Biased CKA (Grant 2025, eq. 15), in [0, 1]."""
    kernel_x, kernel_y = _kernel_of(x, kernel, "x"), _kernel_of(y, kernel, "y")
    norms = np.sqrt(biased_hsic(kernel_x, kernel_x)) * np.sqrt(biased_hsic(kernel_y, kernel_y))
    return float(np.clip(biased_hsic(kernel_x, kernel_y) / norms, 0.0, 1.0))


def _unbiased_alignment(x: Matrix, y: Matrix, kernel: str) -> float:
    """CKA of HSIC₁ (Nguyen 2021), in [−1, 1]."""
    fewest = MEASURES[f"cka_{kernel}_unbiased"].fewest
    if len(x) < fewest:
        raise ShapeError("a sample of x", x.shape, f"(n, d) with n of {fewest} or more for the unbiased estimator")
    kernels, norms = {"x": _kernel_of(x, kernel, "x"), "y": _kernel_of(y, kernel, "y")}, 1.0
    for name, k in kernels.items():
        hsic = unbiased_hsic(k, k)
        # Without its diagonal, the kernel of rows that all lie equally far apart is constant, and HSIC₁ sees nothing.
        if hsic <= ROUNDING * np.vdot(k, k) / len(k) ** 2:
            raise UnsupportedError(
                f"unbiased cka of {name}, all of whose rows are equally alike,", "pass rows that differ"
            )
        norms *= np.sqrt(hsic)
    return float(np.clip(unbiased_hsic(kernels["x"], kernels["y"]) / norms, -1.0, 1.0))


_ALIGNMENTS: dict[str, Callable[..., float]] = {
    "biased": _biased_alignment,
    "unbiased": _unbiased_alignment,
}


def cka(
    x: Rows,
    y: Rows,
    kernel: str = "cosine",
    samples: int = 1000,
    resamples: int = 10,
    seed: int = 0,
    *,
    estimator: Estimator = "biased",
) -> Measure:
    """Centred kernel alignment, averaged over samples of rows (Grant 2025, A.4; Kornblith 2019; Nguyen 2021).

    Args:
        x: (n, d), a row for each input.
        y: (n, d'), row i of it belongs to row i of x.
        kernel: `cosine` z-scores each unit over the sample: unchanged by a shift and a scale per unit, not by
            rotations. `linear` only centres: unchanged by shifts, rotations and one scale for all, not by a scale per
            unit.
        samples: rows of a sample; with n ≤ samples, all rows are measured once.
        resamples: how many samples are drawn.
        seed: of the draws.
        estimator: `biased` is that of Grant and Kornblith: unrelated rows do not give 0, and few rows of wide
            activations come near 1, so compare at equal n. `unbiased` takes HSIC₁, which is 0 on average for unrelated
            rows, may fall below 0 and needs 4 rows; `compare_layers` takes it by default, over minibatches.

    Returns:
        A Measure named `cka_KERNEL_ESTIMATOR`, in [0, 1] if biased and [−1, 1] if unbiased.

    Raises:
        UnknownNameError: there is no such kernel or estimator.
        ShapeError, EmptyError, NotFiniteError, SettingError: the rows do not match, or a setting is out of range.
        UnsupportedError: all rows of a side are alike.

    Example:
        >>> import torch
        >>> from mas_hooks.similarity import cka
        >>> x, noise = torch.randn(2, 200, 8, generator=torch.Generator().manual_seed(0))
        >>> print(cka(x, 3 * x + 1))
        cka_cosine_biased 1.000 (1 sample)
        >>> cka(x, noise, "linear").value > abs(cka(x, noise, "linear", estimator="unbiased").value)
        True
    """
    if kernel not in KERNELS:
        raise UnknownNameError("kernel", kernel, KERNELS, "cka")
    if estimator not in get_args(Estimator):
        raise UnknownNameError("estimator", estimator, get_args(Estimator), "cka")
    values = resample(x, y, partial(_ALIGNMENTS[estimator], kernel=kernel), Sampling(samples, resamples, seed))
    return Measure.over(MEASURES[f"cka_{kernel}_{estimator}"].name, values)
