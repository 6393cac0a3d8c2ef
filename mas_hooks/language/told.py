"""What tells the work of one stage from that of another, so that only the same one goes on in a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mas_hooks.errors import CheckpointError, OutputFolderError
from mas_hooks.run_folder import read_json

SAMPLE = 64
"""Values that are looked at in every tensor of a model, to tell it from others without reading it whole."""
BLOCK = 4096
"""Bytes that are read at each of so many places of a file, its end among them; a small one is read whole."""


def of_model(module: nn.Module) -> str:
    """A short name that differs between models of other weights: of names, dtypes, shapes and some values of each."""
    found = hashlib.sha256()
    for name, tensor in module.named_parameters():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if not tensor.is_meta:
            values = tensor.detach().reshape(-1)
            sample = values[:: max(1, len(values) // SAMPLE)].to("cpu", torch.float32)
            found.update(sample.numpy().tobytes())
    return found.hexdigest()[:16]


def of_texts(texts: Iterable[object]) -> str:
    """A short name that differs between lists of other texts, or of the same in another order."""
    found = hashlib.sha256()
    for text in texts:
        found.update(json.dumps(text).encode() + b"\n")
    return found.hexdigest()[:16]


def of_files(path: Path) -> str:
    """A short name that differs between folders (or files) of other names, sizes or contents, by samples of these."""
    found = hashlib.sha256()
    for file in sorted(one for one in (path.rglob("*") if path.is_dir() else [path]) if one.is_file()):
        size = file.stat().st_size
        found.update(f"{file.relative_to(path.parent if path == file else path)} {size}".encode())
        with file.open("rb") as held:
            for start in (*range(0, size, max(size // SAMPLE, BLOCK)), max(0, size - BLOCK)):
                held.seek(start)
                found.update(held.read(BLOCK))
    return found.hexdigest()[:16]


def check_same(path: Path, told: Mapping[str, Any]) -> None:
    """Keep what is told of the work in a folder, or raise CheckpointError where other work was begun there."""
    if path.exists():
        before = read_json(path, "delete it, and what lies beside it")
        changed = sorted(key for key in {*before, *told} if before.get(key) != told.get(key))
        if changed:
            problem = f"was begun with other {' and '.join(changed)}"
            raise CheckpointError(path.parent, problem, "choose another folder, or delete this one to begin anew")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with OutputFolderError.told(path.parent):
        temporary.write_text(json.dumps(dict(told), indent=2) + "\n", "utf-8")
        temporary.replace(path)
