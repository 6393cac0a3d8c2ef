"""Short names for models, texts, files and work: only the same work goes on in a folder."""

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
"""Values to look at in every tensor of a model: enough to distinguish models without reading them whole."""
BLOCK = 4096
"""Bytes to read at each of SAMPLE places of a file, its end among them; a small file is read whole."""


def model_fingerprint(module: nn.Module) -> str:
    """A short name of a model's weights: from the name, dtype, shape and some values of each."""
    digest = hashlib.sha256()
    for name, tensor in module.named_parameters():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if not tensor.is_meta:
            values = tensor.detach().reshape(-1)
            sample = values[:: max(1, len(values) // SAMPLE)].to("cpu", torch.float32)
            digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:16]


def texts_fingerprint(texts: Iterable[object]) -> str:
    """A short name of a list of texts in their order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(json.dumps(text).encode() + b"\n")
    return digest.hexdigest()[:16]


def files_fingerprint(path: Path) -> str:
    """A short name of a file, or of all files of a folder: from their names, sizes and samples of their bytes."""
    digest = hashlib.sha256()
    for file in sorted(file for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path.parent if path == file else path)} {size}".encode())
        with file.open("rb") as held:
            for start in (*range(0, size, max(size // SAMPLE, BLOCK)), max(0, size - BLOCK)):
                held.seek(start)
                digest.update(held.read(BLOCK))
    return digest.hexdigest()[:16]


def keep_or_compare(path: Path, work: Mapping[str, Any]) -> None:
    """Write a description of the work to `path`. Raise CheckpointError when the one there is of other work."""
    if path.exists():
        before = read_json(path, "delete it, and what lies beside it")
        check_same_settings(before, work, path.parent, "choose another folder, or delete this one to begin anew")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, dict(work))


def tensors_checksum(named: Iterable[tuple[str, Tensor]], most: int = sys.maxsize) -> int:
    """A checksum of tensors: of names, dtypes, shapes and about `most` values spread over each.

    The values are spread because the first row of an embedding is often that of padding, and zero in every model.
    Values that are offloaded to disk, or that are no plain tensor (some quantized ones), do not count.
    """
    checksum = 0
    for name, tensor in named:
        checksum = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), checksum)
        if not tensor.is_meta and type(tensor) in (Tensor, nn.Parameter):
            values = tensor.detach().reshape(-1)
            sample = values[:: max(1, len(values) // most)]
            checksum = zlib.crc32(sample.to("cpu", torch.float32).numpy().tobytes(), checksum)
    return checksum


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data


def tensors_digest(named: Iterable[tuple[str, Tensor]], so_far: hashlib._Hash | None = None) -> hashlib._Hash:
    """SHA-256 over names, dtypes, shapes and values; `so_far` is a digest to continue."""
    digest = hashlib.sha256() if so_far is None else so_far
    for name, value in named:
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(b"" if value.is_meta else _bytes(value))
    return digest
