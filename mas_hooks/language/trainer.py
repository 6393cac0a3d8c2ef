"""transformers' Trainer as fine-tuning uses it: no network, no reports, our bar, and checkpoints that are whole."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from mas_hooks.errors import DivergedError, SettingError
from mas_hooks.progress import bar as progress_bar
from mas_hooks.settings import Settings

STATE = "trainer_state.json"


class FinetuneSettings(Settings):
    """How a base model is fine-tuned. The defaults are the paper's."""

    tokens: int = Field(default=64, ge=2)
    """Longest text; what is beyond is cut off."""
    batch: int = Field(default=96, ge=1)
    """Texts per step of the optimiser."""
    device_batch: int = Field(default=16, ge=1)
    """Texts per forward on one device; gradients are added up to `batch`, which must be a multiple of it."""
    steps: int = Field(default=600, ge=1)
    """Steps of AdamW."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """Of the first step; it falls linearly to 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Of AdamW."""
    lora: bool = False
    """Train low-rank adapters (peft) instead of all weights; they are merged into the saved model. Full weights take 16
    bytes each while they are trained (28 GB for 1.8 billion), adapters little more than the base itself."""
    lora_rank: int = Field(default=16, ge=1)
    """Rank of the adapters, on every linear layer but the head."""
    save_every: int = Field(default=100, ge=1)
    """Steps between checkpoints, from which an interrupted fine-tuning goes on."""
    log_every: int = Field(default=10, ge=1)
    """Steps that a point of the loss curve is the mean of."""
    device: Literal["auto", "cpu"] = "auto"
    """`auto` is the best there is. Graphics cards that can compute in bf16, with float32 weights."""
    seed: int = 0
    """Of the order of the texts, of dropout and of the adapters."""


def train(
    model: Any,
    rows: Sequence[list[int]],
    pad: int,
    settings: FinetuneSettings,
    folder: Path,
    name: str,
    *,
    progress: bool,
) -> tuple[Any, list[tuple[int, float]]]:
    """Train a model on ids, going on from the last whole checkpoint in `folder`. Returns it, and its losses by step."""
    from transformers import PrinterCallback, Trainer

    with progress_bar(settings.steps, f"fine-tuning {name}", shown=progress) as bar:
        own = Trainer(
            model=model,
            args=_arguments(settings, folder),
            data_collator=partial(padded, pad=pad),
            train_dataset=rows,  # pyright: ignore[reportArgumentType]
            callbacks=[_follower(bar, name)],
        )
        own.remove_callback(PrinterCallback)
        last = last_whole(folder)
        own.train(resume_from_checkpoint=None if last is None else str(last))
    losses = [(int(one["step"]), float(one["loss"])) for one in own.state.log_history if "loss" in one]
    return model.cpu().eval(), losses


def accumulate(settings: FinetuneSettings) -> int:
    """Forwards whose gradients make one step. Raises SettingError where `batch` cannot be made up of them."""
    cards = max(1, torch.cuda.device_count()) if settings.device == "auto" else 1
    if settings.batch % (settings.device_batch * cards):
        allowed = f"a multiple of device_batch × devices ({settings.device_batch} × {cards})"
        raise SettingError("FinetuneSettings.batch", settings.batch, allowed)
    return settings.batch // (settings.device_batch * cards)


def padded(rows: Sequence[list[int]], pad: int) -> dict[str, Tensor]:
    """A batch as a model is trained on it: padded on the right, the padding neither seen nor scored."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def last_whole(folder: Path) -> Path | None:
    """The latest checkpoint that was written to its end: the Trainer writes its own state last."""
    numbered = [(int(one.name.rpartition("-")[2]), one) for one in folder.glob("checkpoint-*")]
    for step, one in sorted(numbered, reverse=True):
        try:
            if json.loads((one / STATE).read_text("utf-8"))["global_step"] == step:
                return one
        except (OSError, ValueError, KeyError):
            continue
    return None


def _arguments(settings: FinetuneSettings, folder: Path) -> Any:
    from transformers import TrainingArguments

    card = settings.device == "auto" and torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=settings.device_batch,
        gradient_accumulation_steps=accumulate(settings),
        max_steps=settings.steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        optim="adamw_torch",
        weight_decay=settings.weight_decay,
        bf16=card and torch.cuda.is_bf16_supported(),
        use_cpu=settings.device == "cpu",
        seed=settings.seed,
        save_steps=settings.save_every,
        save_total_limit=1,  # the older one is deleted when the new one is whole
        logging_steps=min(settings.log_every, settings.steps),
        logging_nan_inf_filter=False,  # a loss that is no number must be seen
        dataloader_pin_memory=card,
        disable_tqdm=True,
        report_to="none",
    )


def _follower(bar: Any, name: str) -> Any:
    """A callback that moves the bar, and stops a fine-tuning whose loss is no number."""
    from transformers import TrainerCallback

    class Follower(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            bar.update(state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            bar.update()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
            loss = (logs or {}).get("loss")
            if loss is None:
                return
            if not isfinite(loss):
                raise DivergedError(f"the loss of fine-tuning {name}", state.global_step)
            bar.set_postfix_str(f"loss {loss:.3f}")

    return Follower()


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Seed every generator that the Trainer draws from, and put all of them back as they were."""
    python, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)
