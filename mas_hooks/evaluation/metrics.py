"""Right or wrong, trial by trial, and how sure one can be of a share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest, sem
from scipy.stats import t as student


def student_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """The interval of the mean of independent values, by Student's t; one value has none but itself."""
    if len(values) < 2:
        return values[0], values[0]
    centre, error = float(np.mean(values)), float(sem(values))
    reach = float(student.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return centre - reach, centre + reach


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """The same for shares over seeds, cut to [−1, 1]."""
    low, high = student_interval(values, confidence)
    return max(-1.0, low), min(1.0, high)


def wilson_interval(right: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a share (Wilson 1927), as SciPy computes it."""
    interval = binomtest(right, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
