"""Right or wrong, trial by trial, and how sure one can be of a share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from scipy.stats import binomtest, sem
from scipy.stats import t as student
from torch import Tensor

from mas_hooks.engine.labelled import Labelled


@dataclass(frozen=True)
class Score:
    """How many trials and tokens of a direction came out as expected."""

    right_trials: int
    trials: int
    right_tokens: int
    tokens: int

    @property
    def iia(self) -> float:
        """Interchange intervention accuracy: share of trials with every deterministic token right."""
        return self.right_trials / self.trials

    @property
    def token_accuracy(self) -> float:
        """Share of deterministic tokens that are right."""
        return self.right_tokens / self.tokens

    def __add__(self, other: Score) -> Score:
        return Score(
            self.right_trials + other.right_trials,
            self.trials + other.trials,
            self.right_tokens + other.right_tokens,
            self.tokens + other.tokens,
        )


def right_trials(labelled: Labelled) -> Bool[Tensor, " n"]:
    """Trials whose argmax equals the label at every deterministic position."""
    wrong = (labelled.logits.argmax(-1) != labelled.labels) & labelled.deterministic
    return torch.zeros(labelled.pairs, device=wrong.device).index_add(0, labelled.row, wrong.float()) == 0


def score(labelled: Labelled) -> Score:
    """Count what is right at the deterministic positions of a batch."""
    right = (labelled.logits.argmax(-1) == labelled.labels) & labelled.deterministic
    trials = right_trials(labelled)
    return Score(int(trials.sum()), labelled.pairs, int(right.sum()), int(labelled.deterministic.sum()))


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


def wilson(right: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a share (Wilson 1927), as SciPy computes it."""
    interval = binomtest(right, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
