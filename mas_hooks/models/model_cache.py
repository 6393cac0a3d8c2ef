"""The user's cache of models made here: found there, or trained now and kept, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from torch import Tensor, nn

from mas_hooks.core import checkpoints, files
from mas_hooks.core.errors import CheckpointError

REMEDY = "delete it, and the model is trained again"


def cache_folder() -> Path:
    """The folder that trained models are kept in: $MAS_HOOKS_CACHE, or this user's cache folder.

    Example:
        >>> from mas_hooks.models.toys import cache_folder
        >>> import os
        >>> from unittest.mock import patch
        >>> with patch.dict(os.environ, MAS_HOOKS_CACHE="models-of-today"):
        ...     print(cache_folder())
        models-of-today
    """
    named = os.environ.get("MAS_HOOKS_CACHE")
    return Path(named) if named else user_cache_path("mas_hooks", appauthor=False)


def load_or_train(
    folder: Path, kind: str, settings: Mapping[str, Any], model: nn.Module, train: Callable[[], Mapping[str, Any]]
) -> tuple[dict[str, Any], bool]:
    """Fill a model with the weights of a checkpoint, or train it now and write that checkpoint.

    Args:
        folder: Where the checkpoint is, or will be.
        kind: Of the checkpoint.
        settings: Those of the model, as JSON; a checkpoint of other ones is refused.
        model: Holds its first weights; ends with those that were trained, in eval mode. A tied weight is kept once.
        train: Trains the model in place and returns what is kept beside the settings.

    Returns:
        What `train` returned, now or when the checkpoint was written, and whether the checkpoint was there.

    Raises:
        CheckpointError: The checkpoint is damaged, of another kind, or of other settings or tensor shapes.
        OutputFolderError: The folder cannot be written to.
    """
    weights = dict(model.named_parameters())
    if checkpoints.checkpoint_exists(folder):
        config, tensors = checkpoints.load_checkpoint(folder, kind)
        if config.pop("settings", None) != settings:
            raise CheckpointError(folder, "holds a model of other settings", REMEDY)
        if _shapes(tensors) != _shapes(weights):
            raise CheckpointError(folder, "holds other tensors than its settings ask for", REMEDY)
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(tensors[name])
        model.eval()
        return config, True
    files.ensure_writable(folder.parent)
    results = dict(train())
    checkpoints.save_checkpoint(folder, kind, {"settings": settings, **results}, weights)
    return results, False


def save_model_folder(folder: Path, model: Any, tokenizer: Any) -> None:
    """Write a transformers model and its tokenizer under a temporary name, then rename.

    Args:
        folder: Must not exist; the one above it must.
        model: Has `save_pretrained`; its weights are written as safetensors.
        tokenizer: Is written into the same folder.
    """
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    model.save_pretrained(fresh, safe_serialization=True)
    tokenizer.save_pretrained(fresh)
    fresh.rename(folder)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
