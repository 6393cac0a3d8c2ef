"""A measured number with its spread, and the resampling of matched rows that every measure shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mas_hooks.core.errors import SettingError
from mas_hooks.similarity.rows import FEWEST, Matrix, Rows, match_rows

Statistic: TypeAlias = Callable[[Matrix, Matrix], float]


@dataclass(frozen=True)
class Measure:
    """The mean of a measure over resamples; `float(measure)` is its value.

    `low` and `high` are the 2.5 and 97.5 percentiles over resamples, `spread` their sample standard deviation; they
    say how much the choice of rows matters, not how another pair of models would do. One resample: low = high = value,
    spread 0. `name` is a registry name of `similarity.MEASURES`.

    Example:
        >>> from mas_hooks.similarity import Measure
        >>> print(Measure.over("cka_linear_biased", [0.5, 0.6, 0.7]))
        cka_linear_biased 0.600 ± 0.100 [0.505, 0.695] (3 resamples)
    """

    name: str
    value: float
    low: float
    high: float
    spread: float
    resamples: int

    @classmethod
    def over(cls, name: str, values: list[float]) -> Measure:
        """Summarise one value per resample."""
        low, high = np.percentile(values, [2.5, 97.5])
        spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
        return cls(name, float(np.mean(values)), float(low), float(high), float(spread), len(values))

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        if self.resamples == 1:
            return f"{self.name} {self.value:.3f} (1 sample)"
        spread = f"± {self.spread:.3f} [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.name} {self.value:.3f} {spread} ({self.resamples} resamples)"


def _check_whole(setting: str, value: int, least: int) -> None:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or int(value) < least:
        raise SettingError(setting, value, f"a whole number of {least} or more")


@dataclass(frozen=True)
class Sampling:
    """How many rows a sample draws (without replacement), how often, and from which seed (Grant 2025, A.3).

    With `samples` rows or fewer to draw from, every sample would be the same set: all rows are measured once, in order.
    Raises SettingError when there are fewer than 3 samples, 1 resample, or a negative seed.
    """

    samples: int = 1000
    resamples: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        _check_whole("samples", self.samples, FEWEST)
        _check_whole("resamples", self.resamples, 1)
        _check_whole("seed", self.seed, 0)

    def draws(self, n: int) -> list[np.ndarray]:
        """The row numbers of each sample from `n` rows."""
        if n <= self.samples:
            return [np.arange(n)]
        generator = np.random.default_rng(self.seed)
        return [generator.choice(n, self.samples, replace=False) for _ in range(self.resamples)]


def resample(x: Rows, y: Rows, statistic: Statistic, sampling: Sampling) -> list[float]:
    """The statistic of each sample; a sample takes the same rows from both sides, in float64.

    Args:
        x: (n, d), a row for each input.
        y: (n, d'), row i of it belongs to row i of x.
        statistic: a function of two float64 matrices.
        sampling: how rows are drawn.

    Returns:
        One value for each sample.

    Raises:
        ShapeError, EmptyError, UnsupportedError, NotFiniteError: the rows do not match.
    """
    left, right = match_rows(x, y)
    # Rows are drawn before they are widened: a million float16 rows never become float64 all at once.
    draws = sampling.draws(len(left))
    return [statistic(left[rows].astype(np.float64), right[rows].astype(np.float64)) for rows in draws]
