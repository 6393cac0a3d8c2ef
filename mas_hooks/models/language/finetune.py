"""Fine-tuning a language model by transformers' Trainer, without network or reports, from whole checkpoints."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError
from torch import Tensor, nn

from mas_hooks.core import fingerprints, records
from mas_hooks.core.errors import DivergedError, EmptyError, OutputFolderError, SettingError
from mas_hooks.core.files import ensure_writable
from mas_hooks.core.progress import progress_bar
from mas_hooks.core.records import Record
from mas_hooks.core.settings import Settings
from mas_hooks.hooks import loading
from mas_hooks.hooks.huggingface import check_tokenizer
from mas_hooks.models.model_cache import save_model_folder

MODEL, CURVE, WORK, CHECKPOINTS = "model", "curve.jsonl", "finetune.json", "checkpoints"
TRAINER_STATE = "trainer_state.json"


class FinetuneSettings(Settings):
    """How a base model is fine-tuned. The defaults are the paper's.

    Example:
        >>> from mas_hooks.models.language import FinetuneSettings
        >>> settings = FinetuneSettings(steps=100)
        >>> settings.batch, settings.learning_rate
        (96, 0.0005)
    """

    tokens: int = Field(default=64, ge=2)
    """Longest text; the rest of a longer one is cut off."""
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
    """Steps that each point of the loss curve averages over."""
    device: Literal["auto", "cpu"] = "auto"
    """`auto` is the best there is. Graphics cards that can compute in bf16, with float32 weights."""
    seed: int = 0
    """Decides the order of the texts, dropout and the adapters."""


@dataclass(frozen=True)
class Finetuned:
    """A finished fine-tuning.

    Attributes:
        model: A folder for `wrap`, tokenizer included.
        curve: One Record per logged loss.
    """

    model: Path
    curve: tuple[Record, ...]


def finetune_model(
    base: nn.Module | Path | str,
    tokenizer: Any,
    texts: Sequence[str],
    folder: Path | str,
    settings: FinetuneSettings | None = None,
    *,
    name: str | None = None,
    progress: bool = True,
) -> Finetuned:
    """Fine-tune a copy of `base` on texts; the model ends in `folder`/model, in the dtype of the base.

    A finished fine-tuning of the same base, texts and settings is read from the folder; an interrupted one goes on from
    its last whole checkpoint and, on one CPU thread, ends with the same weights to the bit.

    Args:
        base: A transformers model, which stays as it is, or the folder of one.
        tokenizer: That of the base, with a pad token.
        texts: What it is trained on.
        folder: Where the work is kept.
        settings: Default: those of the paper.
        name: What the curve calls the model; default the name of the folder.
        progress: Whether training shows a bar.

    Returns:
        The folder of the model, and the curve of its losses.

    Raises:
        MissingPackageError: accelerate, or peft for adapters, is not installed.
        SettingError: The tokenizer has no pad token or is that of another model, or the batch cannot be made up.
        EmptyError: No text has two tokens.
        CheckpointError: The folder holds other work.
        OutputFolderError: The folder cannot be written to.
        DivergedError: A loss is not finite.

    Example:
        >>> from mas_hooks.models.language import FinetuneSettings, finetune_model
        >>> from tempfile import TemporaryDirectory
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from mas_hooks.data.text.corpus import byte_pairs
        >>> tokenizer = byte_pairs(["a text"], 258)
        >>> base = GPT2LMHeadModel(GPT2Config(vocab_size=258, n_embd=12, n_layer=1, eos_token_id=1, bos_token_id=1))
        >>> settings = FinetuneSettings(steps=1, batch=2, device_batch=2, device="cpu")
        >>> with TemporaryDirectory() as folder:
        ...     done = finetune_model(base, tokenizer, ["a text"], folder, settings, progress=False)
        >>> done.model.name, [row.step for row in done.curve]
        ('model', [1])
    """
    settings, folder = settings or FinetuneSettings(), Path(folder)
    name = name or folder.resolve().name
    _check_packages(settings)
    model = copy.deepcopy(base) if isinstance(base, nn.Module) else loading.load_folder(base)
    accumulation_steps(settings)
    rows = tokenize_texts(tokenizer, texts, settings, model, name)
    ensure_writable(folder)
    fingerprints.keep_or_compare(folder / WORK, _describe_work(model, rows, settings))
    if not (folder / MODEL).is_dir():
        with seeded_randomness(settings.seed), loading.silence_transformers(), _write_folder(folder):
            _train_and_save(model, tokenizer, rows, settings, folder, name, progress=progress)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)  # the state of the optimiser is twice the model
    return Finetuned(folder / MODEL, tuple(records.read_records(folder / CURVE)))


def _check_packages(settings: FinetuneSettings) -> None:
    for package in ("accelerate", *(["peft"] if settings.lora else [])):
        loading.require_package(package, "language", "fine-tuning")


def _describe_work(model: nn.Module, rows: Sequence[list[int]], settings: FinetuneSettings) -> dict[str, Any]:
    """What a folder must have been begun with for its work to go on."""
    return {
        "settings": settings.model_dump(mode="json"),
        "texts": fingerprints.texts_fingerprint(rows),
        "base": fingerprints.model_fingerprint(model),
    }


def _train_and_save(
    model: nn.Module,
    tokenizer: Any,
    rows: Sequence[list[int]],
    settings: FinetuneSettings,
    folder: Path,
    name: str,
    *,
    progress: bool,
) -> None:
    """Write the curve, then the model: a folder with a model is finished."""
    dtype, pad = next(model.parameters()).dtype, tokenizer.pad_token_id
    model = _prepare_model(model, settings)
    trained, losses = run_trainer(model, rows, pad, settings, folder / CHECKPOINTS, name, progress=progress)
    curve = [
        Record(measure="finetune_loss", split="train", target_model=name, step=step, value=value)
        for step, value in losses
    ]
    records.write_records(folder / CURVE, curve)
    save_model_folder(folder / MODEL, _merge_adapters(trained.to(dtype)), tokenizer)


def accumulation_steps(settings: FinetuneSettings) -> int:
    """Forwards whose gradients make one step. Raises SettingError where `batch` cannot be made up of them.

    Example:
        >>> from mas_hooks.models.language import FinetuneSettings, accumulation_steps
        >>> accumulation_steps(FinetuneSettings(batch=96, device_batch=16, device="cpu"))
        6
    """
    cards = max(1, torch.cuda.device_count()) if settings.device == "auto" else 1
    if settings.batch % (settings.device_batch * cards):
        allowed = f"a multiple of device_batch × devices ({settings.device_batch} × {cards})"
        raise SettingError("FinetuneSettings.batch", settings.batch, allowed)
    return settings.batch // (settings.device_batch * cards)


def tokenize_texts(
    tokenizer: Any, texts: Sequence[str], settings: FinetuneSettings, model: Any, name: str
) -> list[list[int]]:
    """The ids of every text that has two tokens or more; one that is not cut ends with the end token, if there is one.

    Args:
        tokenizer: That of the model.
        texts: The texts.
        settings: Say how long a text may be.
        model: Its embedding must hold all tokens.
        name: What errors call the model.

    Returns:
        A list of ids for each text that is left.

    Raises:
        SettingError: The tokenizer has no pad token, or is that of another model.
        EmptyError: No text has two tokens.
    """
    check_tokenizer(model, tokenizer, name)
    if tokenizer.pad_token_id is None:
        allowed = "set before fine-tuning: tokenizer.pad_token = tokenizer.eos_token does for most"
        raise SettingError("the pad token of the base's tokenizer", None, allowed)
    ids = tokenizer(list(texts), truncation=True, max_length=settings.tokens)["input_ids"] if texts else []
    end = tokenizer.eos_token_id
    ended = [[*row, end] if end is not None and row[-1:] != [end] else row for row in ids]
    rows = [row[: settings.tokens] for row in ended]
    rows = [row for row in rows if len(row) >= 2]
    if not rows:
        raise EmptyError(f"the texts to fine-tune {name} on", "give texts of two tokens or more")
    return rows


def _prepare_model(model: Any, settings: FinetuneSettings) -> Any:
    """The model ready for training: its weights in float32, or frozen with adapters."""
    if not settings.lora:
        return model.float()
    from peft import LoraConfig, get_peft_model

    adapters = LoraConfig(task_type="CAUSAL_LM", r=settings.lora_rank, target_modules="all-linear")
    return get_peft_model(model, adapters)


def _merge_adapters(model: Any) -> Any:
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def run_trainer(
    model: Any,
    rows: Sequence[list[int]],
    pad: int,
    settings: FinetuneSettings,
    folder: Path,
    name: str,
    *,
    progress: bool,
) -> tuple[Any, list[tuple[int, float]]]:
    """Train a model on ids by the Trainer, going on from the last whole checkpoint.

    Args:
        model: Trained in place.
        rows: The ids of each text.
        pad: The pad token.
        settings: How it is trained.
        folder: Where the checkpoints are kept.
        name: Names the model on the progress bar and in errors.
        progress: Whether the bar is shtrainer.

    Returns:
        The model, on the CPU and in eval mode, and its losses by step.

    Raises:
        DivergedError: A logged loss is not finite.
    """
    from transformers import PrinterCallback, Trainer

    with progress_bar(settings.steps, f"fine-tuning {name}", shown=progress) as bar:
        trainer = Trainer(
            model=model,
            args=_arguments(settings, folder),
            data_collator=partial(pad_batch, pad=pad),
            train_dataset=rows,  # pyright: ignore[reportArgumentType]
            callbacks=[_follower(bar, name)],
        )
        trainer.remove_callback(PrinterCallback)
        last = last_whole_checkpoint(folder)
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    losses = [(int(entry["step"]), float(entry["loss"])) for entry in trainer.state.log_history if "loss" in entry]
    return model.cpu().eval(), losses


def pad_batch(rows: Sequence[list[int]], pad: int) -> dict[str, Tensor]:
    """A batch for training: padded on the right, the padding neither attended to nor scored."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint that is complete: the Trainer writes its own state last."""
    numbered = [(int(path.name.rpartition("-")[2]), path) for path in folder.glob("checkpoint-*")]
    for step, path in sorted(numbered, reverse=True):
        try:
            if json.loads((path / TRAINER_STATE).read_text("utf-8"))["global_step"] == step:
                return path
        except (OSError, ValueError, KeyError):
            continue
    return None


def _arguments(settings: FinetuneSettings, folder: Path) -> Any:
    from transformers import TrainingArguments

    card = settings.device == "auto" and torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=settings.device_batch,
        gradient_accumulation_steps=accumulation_steps(settings),
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
        logging_nan_inf_filter=False,  # a loss that is not finite must be seen
        dataloader_pin_memory=card,
        disable_tqdm=True,
        report_to="none",
    )


def _follower(bar: Any, name: str) -> Any:
    """A callback that moves the bar, and raises DivergedError when a loss is not finite."""
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
def seeded_randomness(seed: int) -> Iterator[None]:
    """Seed torch, and at the end put it and all that the Trainer seeds back as they were."""
    python, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)


@contextmanager
def _write_folder(folder: Path) -> Iterator[None]:
    """Raise OutputFolderError for a full disk; what was finished before stays."""
    remedy = "make room there and run it again: it goes on from the last checkpoint"
    try:
        yield
    except (OSError, SafetensorError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise OutputFolderError(folder, problem.lower(), remedy) from error
    except RuntimeError as error:
        if "PytorchStreamWriter" not in str(error):  # what torch.save says of a full disk
            raise
        raise OutputFolderError(folder, "no space left on device", remedy) from error
