"""Intervals: how sure one can be of a share or of a mean. SciPy's statistics take long to import: only when used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def student_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """The interval of the mean of independent values, by Student's t; one value has none but itself.

    Example:
        >>> from mas_hooks.evaluation import student_interval
        >>> low, high = student_interval([1.0, 2.0, 3.0])
        >>> round(low, 2), round(high, 2)
        (-0.48, 4.48)
    """
    from scipy import stats

    if len(values) < 2:
        return values[0], values[0]
    centre, error = float(np.mean(values)), float(stats.sem(values))
    reach = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return centre - reach, centre + reach


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """The same for shares over seeds, cut to [−1, 1].

    Example:
        >>> from mas_hooks.evaluation import mean_interval
        >>> low, high = mean_interval([0.8, 0.9, 1.0])
        >>> round(low, 2), high
        (0.65, 1.0)
    """
    low, high = student_interval(values, confidence)
    return max(-1.0, low), min(1.0, high)


def wilson_interval(right: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a share (Wilson 1927), as SciPy computes it.

    Args:
        right: how many trials came out right.
        trials: of how many.
        confidence: of the interval.

    Returns:
        Both ends, from 0 to 1.

    Example:
        >>> from mas_hooks.evaluation import wilson_interval
        >>> low, high = wilson_interval(9, 10)
        >>> round(low, 2), round(high, 2)
        (0.6, 0.98)
    """
    from scipy import stats

    interval = stats.binomtest(right, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
