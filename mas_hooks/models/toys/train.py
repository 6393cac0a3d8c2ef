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

from mas_hooks.core.errors import DivergedError
from mas_hooks.core.progress import progress_bar
from mas_hooks.core.settings import Settings


@runtime_checkable
class TrialSource(Protocol):
    """Where trials come from. `batch`: right-padded ids (n, position), 0 is padding, and flags (n, position) that are
    True at tokens which the task fixes."""

    def training(self, rng: random.Random, n: int) -> np.ndarray[Any, Any]:
        """Ids of fresh training trials."""
        ...

    def checking(self, rng: random.Random, n: int) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
        """About n fresh trials, all quantities equally, in batches of (ids, deterministic)."""
        ...


class TrainSettings(Settings):
    """How to train a toy (Grant 2025, App. A.1): linear warm-up, then the inverse root of the step."""

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
    """Of the first weights and of the trials."""

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        place = step + 1
        return max(self.floor, self.learning_rate * min(place / self.warmup, (self.warmup / place) ** 0.5))


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended. errors of trials: of a full check of the model as it is now; reached: the stop rule
    was met."""

    steps: int
    errors: int
    trials: int
    reached: bool

    @property
    def accuracy(self) -> float:
        """Trial accuracy of the last full check."""
        return 1 - self.errors / self.trials


def count_trial_errors(model: nn.Module, batches: Sequence[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]) -> int:
    """Trials in which some token that the task fixes is not the argmax."""
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
    """Train in place; the model ends in eval mode. Raises DivergedError where the loss is no number any more."""
    rng, checks = random.Random(f"train/{settings.seed}"), random.Random(f"check/{settings.seed}")
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    passed, step, errors, checked = 0, 0, 0, 0
    with progress_bar(settings.max_steps, f"train {label}", shown=progress) as bar:
        while step < settings.max_steps and passed < 2:
            model.train()
            loss = _step(model, optimizer, torch.from_numpy(trials.training(rng, settings.batch_size)), settings, step)
            step += 1
            bar.update()
            if step % settings.check_every:
                continue
            if not torch.isfinite(loss):
                raise DivergedError(f"the training loss of {label}", step)
            model.eval()
            wrong, seen = _check(model, trials, checks, settings.small_check)
            bar.set_postfix_str(f"loss {float(loss):.3f}, trials right {1 - wrong / seen:.1%}")
            if wrong * settings.full_check <= settings.max_errors * seen:
                errors, checked = _check(model, trials, checks, settings.full_check)
                passed = passed + 1 if errors <= settings.max_errors else 0
    model.eval()
    optimizer.zero_grad(set_to_none=True)
    if passed < 2:
        errors, checked = _check(model, trials, checks, settings.full_check)
    return TrainingResult(step, errors, checked, passed == 2)


def _check(model: nn.Module, trials: TrialSource, rng: random.Random, n: int) -> tuple[int, int]:
    """Errors in about n fresh trials, and how many trials that was."""
    batches = trials.checking(rng, n)
    return count_trial_errors(model, batches), sum(len(ids) for ids, _ in batches)


def _step(
    model: nn.Module, optimizer: torch.optim.Optimizer, ids: Tensor, settings: TrainSettings, step: int
) -> Tensor:
    for group in optimizer.param_groups:
        group["lr"] = settings.rate(step)
    logits, labels = model(ids[:, :-1]), ids[:, 1:]
    loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=0)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    optimizer.step()
    return loss.detach()
