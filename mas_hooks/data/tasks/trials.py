"""Whole trials as padded ids, for training a model and for checking it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np

from mas_hooks.data.tasks.base import AbstractTask

CHUNK = 2_000


@dataclass(frozen=True)
class Trials:
    """Fresh trials of a task. Right-padded ids (n, position), 0 is padding.

    Example:
        >>> import random
        >>> from mas_hooks.data.tasks import Trials, task
        >>> trials = Trials(task("single_object", max_quantity=3))
        >>> len(trials.training(random.Random(0), 5)), len(trials.checking(random.Random(0), 9))
        (5, 3)
    """

    task: AbstractTask[Any]

    def training(self, rng: random.Random, n: int) -> np.ndarray[Any, Any]:
        """Ids of n training trials: void tokens and hold-outs as the task says."""
        return self.task.vocabulary.pad([self.task.sample(rng, training=True) for _ in range(n)])

    def checking(self, rng: random.Random, n: int) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
        """At least n trials as evaluation draws them, every size equally often, in batches of one size each.

        Each batch is ids (trials, position) and flags of the same shape, True at tokens that the task fixes.
        """
        sizes = self.task.draw_quantities()
        each = -(-n // len(sizes))
        batches = []
        for size in sizes:
            drawn = [self.task.sample(rng, size) for _ in range(each)]
            batches += [self._batch(drawn[begin : begin + CHUNK]) for begin in range(0, each, CHUNK)]
        return batches

    def _batch(self, drawn: list[tuple[str, ...]]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        ids = self.task.vocabulary.pad(drawn)
        fixed = np.zeros(ids.shape, dtype=bool)
        for row, tokens in enumerate(drawn):
            fixed[row, : len(tokens)] = self.task.deterministic(tokens)
        return ids, fixed
