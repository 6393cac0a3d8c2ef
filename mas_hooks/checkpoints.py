"""Folders of `config.json` + `model.safetensors`: written whole or not at all, and told apart by their kind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mas_hooks.errors import CheckpointError, OutputFolderError

FORMAT = 1
CONFIG, TENSORS = "config.json", "model.safetensors"


def writable(folder: Path | str) -> Path:
    """Make a folder, or check that it can be written to. Raises OutputFolderError before any long work starts."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        problem = (error.strerror or "not writable").lower()
        raise OutputFolderError(folder, problem, "choose another folder with --out") from error
    return folder


def save(folder: Path | str, kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a checkpoint under a temporary name, then rename it into place; an older one is replaced."""
    folder = Path(folder)
    fresh, old = (folder.with_name(f".{folder.name}.{word}") for word in ("new", "old"))
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    writable(fresh)
    (fresh / CONFIG).write_text(json.dumps({"kind": kind, "format": FORMAT, **config}, indent=2) + "\n", "utf-8")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, fresh / TENSORS)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load(folder: Path | str, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the tensors (on the CPU) of a checkpoint. Raises CheckpointError where it is not whole or ours."""
    folder = Path(folder)
    old = folder.with_name(f".{folder.name}.old")
    if not folder.exists() and old.exists():  # killed between the two renames of `save`: the older one is whole
        folder = old
    remedy = "give a folder written by save_pretrained, or delete it and make it anew"
    for name in (CONFIG, TENSORS):
        if not (folder / name).is_file():
            raise CheckpointError(folder, f"holds no {name}", remedy)
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        tensors = load_file(folder / TENSORS)
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise CheckpointError(folder, f"is damaged ({error})", remedy) from error
    if not isinstance(config, dict) or config.get("kind") != kind or config.get("format") != FORMAT:
        found = config.get("kind", "of unknown kind") if isinstance(config, dict) else "of unknown kind"
        raise CheckpointError(folder, f"is {found!r}, not {kind!r} of format {FORMAT}", remedy)
    return config, tensors
