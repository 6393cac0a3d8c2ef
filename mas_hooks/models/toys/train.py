"""The one trainer of the toy models: next-token cross-entropy on fresh trials until they make (almost) no error."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from mas_hooks.core.settings import Settings
from mas_hooks.models.training_loop import Schedule, TrainingCheck, run_training


@runtime_checkable
class TrialSource(Protocol):
    """Where trials come from: right-padded ids (n, position), where 0 is padding."""

    def training(self, rng: random.Random, n: int) -> np.ndarray[Any, Any]:
        """Ids of fresh training trials."""
        ...

    def checking(self, rng: random.Random, n: int) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
        """About n fresh trials, all quantities equally, in batches of ids and flags (n, position).

        A flag is True at a token that the task fixes.
        """
        ...


class TrainSettings(Settings):
    """How to train a toy (Grant 2025, App. A.1): linear warm-up, then the inverse root of the step.

    Example:
        >>> from mas_hooks.models.toys import TrainSettings
        >>> settings = TrainSettings(learning_rate=1e-3, warmup=100)
        >>> [round(settings.rate(step), 6) for step in (0, 99, 399)]
        [1e-05, 0.001, 0.0005]
    """

    batch_size: int = Field(default=128, ge=1)
    """Fresh trials a step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """The highest rate of Adam, at the end of the warm-up."""
    warmup: int = Field(default=100, ge=1)
    """Steps of linear warm-up."""
    floor: float = Field(default=1e-7, ge=0)
    """The rate never falls below this."""
    clip: float = Field(default=1.0, gt=0)
    """Longest gradient."""
    check_every: int = Field(default=50, ge=1)
    """Steps between small checks."""
    small_check: int = Field(default=1_000, ge=20)
    """Trials of a small check; errors in no greater share than a full check may hold call for one."""
    full_check: int = Field(default=30_000, ge=20)
    """Trials of a full check, all quantities equally."""
    max_errors: int = Field(default=3, ge=0)
    """Wrong trials that a full check may hold; training ends when two in a row hold no more."""
    max_steps: int = Field(default=10_000, ge=1)
    """Steps after which training ends all the same."""
    seed: int = 0
    """Draws the first weights and the trials."""

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        place = step + 1
        return max(self.floor, self.learning_rate * min(place / self.warmup, (self.warmup / place) ** 0.5))


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Attributes:
        steps: Steps that were taken.
        errors: Wrong trials in a full check of the model as it is now.
        trials: Trials of that check.
        reached: Whether the stop rule was met.
    """

    steps: int
    errors: int
    trials: int
    reached: bool

    @property
    def accuracy(self) -> float:
        """Trial accuracy of the last full check."""
        return 1 - self.errors / self.trials


def count_trial_errors(model: nn.Module, batches: Sequence[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]) -> int:
    """Count trials in which some token that the task fixes is not the argmax."""
    errors = 0
    with torch.no_grad():
        for ids, deterministic in batches:
            tokens = torch.from_numpy(ids)
            wrong = (model(tokens[:, :-1]).argmax(-1) != tokens[:, 1:]) & torch.from_numpy(deterministic)[:, 1:]
            errors += int(wrong.any(dim=1).sum())
    return errors


def train_toy(
    model: nn.Module, trials: TrialSource, settings: TrainSettings, *, label: str = "toy", progress: bool = True
) -> TrainingResult:
    """Train a model in place until two full checks in a row pass; it ends in eval mode.

    Args:
        model: Gives logits of the next token at every position of ids.
        trials: Where the trials of training and of checks come from.
        settings: The schedule, the stop rule, and the seed of the trials.
        label: Names the model on the progress bar and in errors.
        progress: Whether the bar is shown.

    Returns:
        How the training ended, with the errors of a full check of the model as it is then.

    Raises:
        DivergedError: The loss is not finite.
    """
    rng, checks = random.Random(f"train/{settings.seed}"), random.Random(f"check/{settings.seed}")
    passed, errors, checked = 0, 0, 0

    def next_loss() -> Tensor:
        ids = torch.from_numpy(trials.training(rng, settings.batch_size))
        logits, labels = model(ids[:, :-1]), ids[:, 1:]
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=0)

    def check(loss: float) -> TrainingCheck:
        nonlocal passed, errors, checked
        model.eval()
        wrong, seen = _check_trials(model, trials, checks, settings.small_check)
        if wrong * settings.full_check <= settings.max_errors * seen:
            errors, checked = _check_trials(model, trials, checks, settings.full_check)
            passed = passed + 1 if errors <= settings.max_errors else 0
        return TrainingCheck(f"loss {loss:.3f}, trials right {1 - wrong / seen:.1%}", finished=passed == 2)

    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    schedule = Schedule(settings.max_steps, settings.rate, settings.clip, settings.check_every)
    steps = run_training(model, optimizer, next_loss, schedule, label, check=check, progress=progress)
    if passed < 2:
        errors, checked = _check_trials(model, trials, checks, settings.full_check)
    return TrainingResult(steps, errors, checked, passed == 2)


def _check_trials(model: nn.Module, trials: TrialSource, rng: random.Random, n: int) -> tuple[int, int]:
    """Errors in about n fresh trials, and how many trials that was."""
    batches = trials.checking(rng, n)
    return count_trial_errors(model, batches), sum(len(ids) for ids, _ in batches)
