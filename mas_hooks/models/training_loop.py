"""The one training loop of the small models made here: a schedule, clipped gradients, a check every few steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mas_hooks.core.errors import DivergedError
from mas_hooks.core.progress import progress_bar


@dataclass(frozen=True)
class Schedule:
    """How long a model is trained, and how fast.

    Attributes:
        steps: Steps of the optimiser.
        rate: The learning rate of a step, counted from 0.
        clip: Longest gradient of all parameters together.
        check_every: Steps between checks of the loss.
    """

    steps: int
    rate: Callable[[int], float]
    clip: float = 1.0
    check_every: int = 1


class TrainingCheck(NamedTuple):
    """What a check says: the text beside the progress bar, and whether training is over."""

    text: str
    finished: bool = False


def run_training(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    next_loss: Callable[[], Tensor],
    schedule: Schedule,
    label: str,
    *,
    check: Callable[[float], TrainingCheck] | None = None,
    progress: bool = True,
) -> int:
    """Train a model in place, step by step; it ends in eval mode, without gradients.

    Args:
        model: Put into train mode before each loss.
        optimizer: Steps some or all parameters of the model.
        next_loss: Computes the loss of the next batch, with its graph.
        schedule: Number of steps, learning rates, longest gradient, and steps between checks.
        label: Names the model on the progress bar and in errors.
        check: Looks at the model every `check_every` steps, given the loss of the last one; it may put the model
            into eval mode, and may end the training. Without it the bar shows the loss.
        progress: Whether the bar is shown.

    Returns:
        How many steps were taken.

    Raises:
        DivergedError: The loss of a step that is checked is not finite.
    """
    check, step = check or _show_loss, 0
    with progress_bar(schedule.steps, f"training {label}", shown=progress) as bar:
        for step in range(1, schedule.steps + 1):
            model.train()
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step - 1)
            loss = next_loss()
            checked = step % schedule.check_every == 0
            if checked and not torch.isfinite(loss):
                raise DivergedError(f"the training loss of {label}", step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), schedule.clip)
            optimizer.step()
            bar.update()
            if checked:
                text, finished = check(float(loss.detach()))
                bar.set_postfix_str(text, refresh=schedule.check_every > 1)  # else every step would draw twice
                if finished:
                    break
    optimizer.zero_grad(set_to_none=True)
    model.eval()
    return step


def _show_loss(loss: float) -> TrainingCheck:
    return TrainingCheck(f"loss {loss:.3f}")
