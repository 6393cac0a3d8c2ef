"""Fine-tuning a causal language model on texts, with transformers' Trainer; continues after an interruption."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from mas_hooks import records
from mas_hooks.checkpoints import writable
from mas_hooks.errors import EmptyError, OutputFolderError, SettingError
from mas_hooks.hooks import folders
from mas_hooks.hooks.huggingface import check_tokenizer
from mas_hooks.language import told
from mas_hooks.language.trainer import FinetuneSettings, accumulate, own_randomness, train
from mas_hooks.records import Record

MODEL, CURVE, TOLD, CHECKPOINTS = "model", "curve.jsonl", "finetune.json", "checkpoints"


@dataclass(frozen=True)
class Finetuned:
    """A finished fine-tuning. model: a folder for `wrap`, tokenizer included. curve: one Record per logged loss."""

    model: Path
    curve: tuple[Record, ...]


def finetune(
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

    base: a transformers model, which stays as it is, or the folder of one. name: what the curve calls it. A finished
    fine-tuning of the same base, texts and settings is read from the folder; an interrupted one goes on from its last
    whole checkpoint and, on one CPU thread, ends with the same weights to the bit.
    Raises MissingPackageError, SettingError (no pad token, batch), EmptyError (no text of two tokens), CheckpointError
    (other work in the folder), OutputFolderError (disk) and DivergedError.
    """
    settings, folder = settings or FinetuneSettings(), Path(folder)
    for package in ("accelerate", *(["peft"] if settings.lora else [])):
        folders.need(package, "language", "fine-tuning")
    model = copy.deepcopy(base) if isinstance(base, nn.Module) else folders.load(base)
    name = name or folder.resolve().name
    accumulate(settings)
    rows = tokenized(tokenizer, texts, settings, model, name)
    writable(folder)
    same = {"settings": settings.model_dump(mode="json"), "texts": told.of_texts(rows), "base": told.of_model(model)}
    told.check_same(folder / TOLD, same)
    if not (folder / MODEL).is_dir():
        with own_randomness(settings.seed), folders.quiet(), _written(folder):
            dtype = next(model.parameters()).dtype
            trained, losses = train(
                _prepared(model, settings),
                rows,
                tokenizer.pad_token_id,
                settings,
                folder / CHECKPOINTS,
                name,
                progress=progress,
            )
            curve = [
                Record(measure="finetune_loss", split="train", target_model=name, step=step, value=value)
                for step, value in losses
            ]
            records.write(folder / CURVE, curve)
            _save(folder / MODEL, trained.to(dtype), tokenizer)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)  # the state of the optimiser is twice the model
    return Finetuned(folder / MODEL, tuple(records.read(folder / CURVE)))


def tokenized(
    tokenizer: Any, texts: Sequence[str], settings: FinetuneSettings, model: Any, name: str
) -> list[list[int]]:
    """The ids of every text that has two tokens or more; one that is not cut ends with the end token, if there is one.

    Raises SettingError for a tokenizer without a pad token or of another model, EmptyError where nothing is left.
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


def _prepared(model: Any, settings: FinetuneSettings) -> Any:
    """The model as it is trained: its weights in float32, or frozen with adapters."""
    if not settings.lora:
        return model.float()
    from peft import LoraConfig, get_peft_model

    adapters = LoraConfig(task_type="CAUSAL_LM", r=settings.lora_rank, target_modules="all-linear")
    return get_peft_model(model, adapters)


def _save(folder: Path, model: Any, tokenizer: Any) -> None:
    """Write model and tokenizer under a temporary name, then rename."""
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    merged = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
    merged.save_pretrained(fresh, safe_serialization=True)
    tokenizer.save_pretrained(fresh)
    fresh.rename(folder)


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Tell a full disk as OutputFolderError; what was finished before stays."""
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
