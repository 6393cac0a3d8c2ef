"""What tells the work of one stage from that of another, so that only the same one goes on in a folder."""

from __future__ import annotations

import hashlib
import json
import sys
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mas_hooks.core.files import read_json, write_json
from mas_hooks.core.settings import check_same_settings

SAMPLE = 64
"""Values that are looked at in every tensor of a model, to tell it from others without reading it whole."""
BLOCK = 4096
"""Bytes that are read at each of so many places of a file, its end among them; a small one is read whole."""


def model_fingerprint(module: nn.Module) -> str:
    """A short name that differs between models of other weights: of names, dtypes, shapes and some values of each."""
    found = hashlib.sha256()
    for name, tensor in module.named_parameters():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if not tensor.is_meta:
            values = tensor.detach().reshape(-1)
            sample = values[:: max(1, len(values) // SAMPLE)].to("cpu", torch.float32)
            found.update(sample.numpy().tobytes())
    return found.hexdigest()[:16]


def texts_fingerprint(texts: Iterable[object]) -> str:
    """A short name that differs between lists of other texts, or of the same in another order."""
    found = hashlib.sha256()
    for text in texts:
        found.update(json.dumps(text).encode() + b"\n")
    return found.hexdigest()[:16]


def files_fingerprint(path: Path) -> str:
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


def keep_or_compare(path: Path, work: Mapping[str, Any]) -> None:
    """Keep a description of the work in a folder, or raise CheckpointError where other work was begun there."""
    if path.exists():
        before = read_json(path, "delete it, and what lies beside it")
        check_same_settings(before, work, path.parent, "choose another folder, or delete this one to begin anew")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, dict(work))


def tensors_checksum(named: Iterable[tuple[str, Tensor]], most: int = sys.maxsize) -> int:
    """A number that tells tensors from others: of names, dtypes, shapes and about `most` values spread over each.

    Spread, as the first row of an embedding is often that of padding, and zero in every model. Values that are not
    here (offloaded to disk) or are no plain tensor (some quantized ones) do not count.
    """
    found = 0
    for name, tensor in named:
        found = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), found)
        if not tensor.is_meta and type(tensor) in (Tensor, nn.Parameter):
            values = tensor.detach().reshape(-1)
            sample = values[:: max(1, len(values) // most)]
            found = zlib.crc32(sample.to("cpu", torch.float32).numpy().tobytes(), found)
    return found


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data


def tensors_digest(named: Iterable[tuple[str, Tensor]], so_far: hashlib._Hash | None = None) -> hashlib._Hash:
    """SHA-256 over names, dtypes, shapes and values, after what went into it so far."""
    found = hashlib.sha256() if so_far is None else so_far
    for name, value in named:
        found.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        found.update(b"" if value.is_meta else _bytes(value))
    return found
