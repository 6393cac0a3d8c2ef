"""The folder of an activation store: safetensors shards of rows, and an index that is written after each of them."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mas_hooks.core.errors import CheckpointError
from mas_hooks.core.files import replace_file, write_file
from mas_hooks.core.fingerprints import _bytes

CODES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in CODES}
GO_ON = "make room there, then go on with resume=True"
INDEX, REMEDY = "index.json", "give the folder of a finished collect(…), or delete it and collect again"


class Shard(BaseModel):
    """A safetensors file: the same rows of every site."""

    model_config = ConfigDict(extra="forbid")

    file: str = Field(pattern=r"^shard-\d+\.safetensors$")
    rows: int = Field(gt=0)
    bytes: int
    sha256: str


class Request(BaseModel):
    """The request that a store was collected for: the same when it is resumed. `weights`: the digest of the model's."""

    model_config = ConfigDict(extra="forbid")

    model: str
    weights: str
    sites: dict[str, int]
    dtype: Literal["float32", "float16", "bfloat16"]
    batch_size: int
    shard_mb: float


class Index(BaseModel):
    """What index.json says: the request, and what is done of it. `inputs`: digest of the batches done so far."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["activation store"] = "activation store"
    format: Literal[1] = 1
    request: Request
    complete: bool = False
    batches: int = 0
    inputs: str = ""
    shards: list[Shard] = []

    @classmethod
    def read(cls, folder: Path) -> Index:
        """Read the index of a folder. Raises CheckpointError when there is none, or one of something else."""
        path = folder / INDEX
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise CheckpointError(folder, f"holds no {INDEX} that can be read", REMEDY) from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "its text"
            problem = f"is not a whole index of activations ({place}: {first['msg'].lower()})"
            raise CheckpointError(path, problem, REMEDY) from error

    def write(self, folder: Path) -> None:
        """Write the index whole, or not at all. Raises OutputFolderError when it cannot be written."""
        write_file(folder / INDEX, self.model_dump_json(indent=1) + "\n", GO_ON)


def write_shard(folder: Path, file: str, sites: Mapping[str, Sequence[Tensor]]) -> Shard:
    """Write the pieces of every site, one after the other, under a temporary name, then rename the file.

    Written here, because safetensors' own `save_file` takes each tensor whole and copies it: here nothing is copied,
    and the digest is computed while writing.

    Args:
        folder: The folder of the store.
        file: The name of the shard.
        sites: The pieces of each site; every site has the same number of rows.

    Returns:
        What the index says of the shard.

    Raises:
        OutputFolderError: The file cannot be written.
    """
    header, end = {}, 0
    for name, pieces in sites.items():
        begin, end = end, end + sum(piece.nbytes for piece in pieces)
        shape = [sum(map(len, pieces)), pieces[0].shape[1]]
        header[name] = {"dtype": CODES[pieces[0].dtype], "shape": shape, "data_offsets": [begin, end]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)  # the data begin at a multiple of 8 bytes
    digest = hashlib.sha256()
    with replace_file(folder / file, GO_ON) as temporary, temporary.open("wb") as out:
        for part in chain([struct.pack("<Q", len(head)), head], map(_bytes, chain(*sites.values()))):
            out.write(part)
            digest.update(part)
        out.flush()
        os.fsync(out.fileno())
    rows = sum(map(len, next(iter(sites.values()))))
    return Shard(file=file, rows=rows, bytes=8 + len(head) + end, sha256=digest.hexdigest())


def map_shard(folder: Path, shard: Shard, request: Request) -> dict[str, Tensor]:
    """Map the tensors of a shard into memory: a page is read when a row on it is.

    Args:
        folder: The folder of the store.
        shard: What its index says of the shard.
        request: What its index says of the store.

    Returns:
        The rows of each site.

    Raises:
        CheckpointError: The file cannot be read, or does not hold what the index says.
    """
    path = folder / shard.file
    try:
        if (size := path.stat().st_size) != shard.bytes:
            raise CheckpointError(path, f"holds {size} bytes, but its index says {shard.bytes}", REMEDY)
        with safe_open(path, "pt") as held:
            tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(path, f"cannot be read ({error})", REMEDY) from error
    shapes = {name: (tensor.dtype, *tensor.shape) for name, tensor in tensors.items()}
    if shapes != {name: (DTYPES[request.dtype], shard.rows, width) for name, width in request.sites.items()}:
        raise CheckpointError(path, "holds other tensors than its index says", REMEDY)
    return {name: tensors[name] for name in request.sites}


def verify_shard(folder: Path, shard: Shard) -> None:
    """Read a shard and compare its digest. Raises CheckpointError when it differs or the file cannot be read."""
    path = folder / shard.file
    try:
        with path.open("rb") as held:
            digest = hashlib.file_digest(held, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(path, f"cannot be read ({error})", REMEDY) from error
    if digest != shard.sha256:
        raise CheckpointError(path, "does not hold what was written (its SHA-256 differs)", REMEDY)
