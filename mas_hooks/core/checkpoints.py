"""Folders of `config.json` + `model.safetensors`: written whole or not at all, each of a named kind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mas_hooks.core.errors import CheckpointError, OutputFolderError

FORMAT = 1
CONFIG, TENSORS = "config.json", "model.safetensors"
REMEDY = "give a folder written by save_pretrained, or delete it and make it anew"


def save_checkpoint(folder: Path | str, kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a checkpoint under a temporary name, then rename it into place; it replaces an older one of this kind.

    Args:
        folder: where it goes; absent, empty, or a checkpoint of this kind.
        kind: what the checkpoint holds, such as `mas_hooks.toy`.
        config: the JSON part, without the keys `kind` and `format`.
        tensors: the tensors by name, on any device.

    Raises:
        OutputFolderError: the folder holds anything else, or cannot be written to.
    """
    folder = Path(folder).resolve()
    _check_replaceable(folder, kind)
    fresh, old = folder.with_name(f".{folder.name}.new"), _older(folder)
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        (fresh / CONFIG).write_text(json.dumps({"kind": kind, "format": FORMAT, **config}, indent=2) + "\n", "utf-8")
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, fresh / TENSORS)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        fresh.rename(folder)
    except (OSError, SafetensorError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise OutputFolderError(folder, problem.lower(), "choose another folder, or make room there") from error
    shutil.rmtree(old, ignore_errors=True)


def checkpoint_exists(folder: Path | str) -> bool:
    """Whether `load_checkpoint` has something to load, even what a killed `save_checkpoint` left behind."""
    folder = Path(folder).resolve()
    return folder.exists() or _older(folder).exists()


def load_checkpoint(folder: Path | str, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read config and tensors (on the CPU). Raise CheckpointError for a folder that is not whole, or not ours."""
    folder = Path(folder).resolve()
    if not folder.exists() and _older(folder).exists():
        folder = _older(folder)  # `save_checkpoint` was killed between its two renames: the older one is whole
    for name in (CONFIG, TENSORS):
        if not (folder / name).is_file():
            raise CheckpointError(folder, f"holds no {name}" if folder.is_dir() else "is no folder", REMEDY)
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        tensors = load_file(folder / TENSORS)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise CheckpointError(folder, f"is damaged ({error})", REMEDY) from error
    held = config.get("kind") if isinstance(config, dict) else None
    if held != kind:
        raise CheckpointError(folder, f"holds {held or 'something else'}, not {kind}", REMEDY)
    if config.get("format") != FORMAT:
        problem = f"is of format {config.get('format')}, but this version reads format {FORMAT}"
        raise CheckpointError(folder, problem, "load it with the version that wrote it, or make it anew")
    return {key: value for key, value in config.items() if key not in ("kind", "format")}, tensors


def _older(folder: Path) -> Path:
    """Where `save_checkpoint` keeps the older checkpoint until the new one is in place."""
    return folder.with_name(f".{folder.name}.old")


def _check_replaceable(folder: Path, kind: str) -> None:
    """Raise OutputFolderError unless the folder is absent, empty, or a checkpoint of this kind and nothing more."""
    if Path.cwd().is_relative_to(folder):
        raise OutputFolderError(folder, "this process works in it", "choose another folder")
    if folder.exists() and not folder.is_dir():
        raise OutputFolderError(folder, "it is a file", "choose another folder")
    held = {path.name for path in folder.iterdir()} if folder.exists() else set()
    ours = not held or (CONFIG in held and f'"kind": "{kind}"' in (folder / CONFIG).read_text("utf-8", "replace"))
    if not ours or held - {CONFIG, TENSORS}:
        raise OutputFolderError(folder, f"it holds other files ({_few(held)})", "choose another folder")


def _few(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
