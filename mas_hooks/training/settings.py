"""How a fit trains the maps: batches, optimiser and its rate, when to stop, and what chooses the checkpoint."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mas_hooks.core.errors import SettingError
from mas_hooks.core.settings import Settings


class FitSettings(Settings):
    """How to train the maps (defaults: the paper's, Grant 2025, App. A.2).

    Example:
        >>> from mas_hooks import FitSettings
        >>> settings = FitSettings(learning_rate=0.5, warmup_steps=5, decay="linear")
        >>> [settings.rate(step, total=10) for step in (1, 5, 9)]
        [0.1, 0.5, 0.1]
    """

    batch_size: int = Field(default=512, ge=1)
    """Pairs per direction and step."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Of the optimiser, before warm-up and decay."""
    epochs: int = Field(default=1000, ge=1)
    """At most so many passes over the training pairs."""
    validate_every: int = Field(default=0, ge=0)
    """Steps between validations; 0 for once an epoch."""
    patience: int = Field(default=20, ge=1)
    """Stop after so many validations without a gain."""
    min_gain: float = Field(default=0.002, ge=0)
    """What counts as a gain in the worst direction's IIA, or in its loss (nats) where that chooses."""
    stop_at: float | None = Field(default=None, gt=0, le=1)
    """Stop as soon as the worst direction's validation IIA is this high; None trains to the plateau."""
    seed: int = 0
    """Of the order of the batches."""
    steps: int = Field(default=0, ge=0)
    """So many steps in place of `epochs`; 0 for as many as the epochs have."""
    select_by: Literal["iia", "loss"] = "iia"
    """What chooses the checkpoint on the validation pairs: the IIA, or the loss where no trial can be wholly right."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """`sgd` has Nesterov momentum."""
    momentum: float = Field(default=0.9, gt=0, lt=1)
    """Of sgd."""
    lr_times_one_minus_momentum: bool = False
    """Of sgd: the rate is learning_rate · (1 − momentum), as the tuned lens (Belrose et al. 2023) understands it."""
    warmup_steps: int = Field(default=0, ge=0)
    """The rate rises linearly from 0 over so many steps."""
    decay: Literal["none", "linear"] = "none"
    """After that the rate stays, or falls linearly to 0 at the last step."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Longer gradients (over all maps) are shortened to this norm; None leaves them as they are."""
    micro_batch: int | None = Field(default=None, ge=1)
    """At most so many pairs of a direction in one pass, one target at a time: less memory, the same gradient."""

    @model_validator(mode="after")
    def _check_combinations(self) -> FitSettings:
        if self.stop_at is not None and self.select_by == "loss":
            raise SettingError("FitSettings.stop_at", self.stop_at, "None where the loss chooses: it is an IIA")
        if self.steps and self.warmup_steps >= self.steps:
            raise SettingError("FitSettings.warmup_steps", self.warmup_steps, f"below the {self.steps} steps")
        if self.lr_times_one_minus_momentum and self.optimizer != "sgd":
            raise SettingError("FitSettings.lr_times_one_minus_momentum", True, "False: only sgd has a momentum")
        return self

    def rate(self, step: int, total: int) -> float:
        """The learning rate of a step, counted from 0, of `total` steps."""
        momentum = self.momentum if self.lr_times_one_minus_momentum else 0.0
        full = self.learning_rate * (1 - momentum)
        if step < self.warmup_steps:
            return full * step / self.warmup_steps
        if self.decay == "none":
            return full
        return full * (total - step) / max(1, total - self.warmup_steps)
