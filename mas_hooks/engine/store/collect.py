"""`collect`: the activations of a whole data set, streamed in batches into memory or into a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mas_hooks.core.errors import (
    CheckpointError,
    EmptyError,
    OutputFolderError,
    SettingError,
    ShapeError,
    UnknownNameError,
)
from mas_hooks.core.files import ensure_writable
from mas_hooks.core.fingerprints import tensors_digest
from mas_hooks.core.inputs import Inputs
from mas_hooks.core.progress import progress_bar
from mas_hooks.core.settings import check_same_settings
from mas_hooks.core.sites import Site, Where
from mas_hooks.engine.store.shards import DTYPES, INDEX, Index, Request, map_shard, write_shard
from mas_hooks.engine.store.store import ActivationStore, site_key
from mas_hooks.engine.store.streams import Batch, Stream, cut_batches
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.read import read_sites


def collect(
    sites: Site | Sequence[Site],
    inputs: Inputs | Stream,
    where: Where | None = None,
    *,
    folder: Path | str | None = None,
    dtype: str = "float32",
    batch_size: int = 64,
    shard_mb: float = 256.0,
    resume: bool = False,
    progress: bool = True,
) -> ActivationStore:
    """Run a data set through a model once and keep what passes some of its sites.

    Args:
        sites: One site, or several of one model, which are read in the same forwards.
        inputs: The whole data set (a tensor or a mapping of tensors), run `batch_size` rows at a time; or batches
            (inputs, Where) as they come from a list, a loader or a generator.
        where: The cells of the whole data set to keep, in this order; None for every cell that is no padding. An input
            row whose cells do not follow each other is run once for each stretch of them.
        folder: Where the rows go; None for memory. At most a shard and a batch are in memory at a time.
        dtype: float32, float16 or bfloat16.
        batch_size: How many rows of the data set are run at a time.
        shard_mb: About how large the shards in the folder are, in MB.
        resume: Whether to go on in the folder after its last whole shard.
        progress: Whether to show a progress bar.

    Returns:
        The store: `store[name]` or `store[site]` are the rows of a site.

    Raises:
        OutputFolderError: The folder cannot be written, or is in use.
        CheckpointError: The folder was begun with another request or with other inputs.
        EmptyError: There are no sites or no cells.
        PositionError: A cell lies outside the inputs or on padding.
        SettingError: A setting, the sites or the inputs cannot be used.
        ShapeError: The inputs have no positions, or a site has another width than it says.
        UnknownNameError: The dtype is none of the three.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> from torch import nn
        >>> model = mh.wrap(nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5)))
        >>> store = mh.collect(model.at("embed"), torch.tensor([[0, 1, 2], [3, 4, 0]]), progress=False)
        >>> store["embed"][[0, 5]].shape
        torch.Size([2, 8])
    """
    kind = str(dtype).removeprefix("torch.")
    read = _Reader.of(list(sites) if isinstance(sites, Sequence) else [sites], kind)
    _check_numbers(batch_size, shard_mb, folder, resume)
    batches, total = cut_batches(read.model, inputs, where, batch_size)
    widths = {name: site.width for name, site in read.sites.items()}
    weights = "" if folder is None else _digest_weights(read.model.module)
    asked = {"model": read.model.name, "weights": weights, "sites": widths, "dtype": kind}
    index = Index(request=Request.model_validate({**asked, "batch_size": batch_size, "shard_mb": shard_mb}))
    keeper = _Keeper(index) if folder is None else _Keeper.begin(index, Path(folder), resume)
    limit = max(1, int(shard_mb * 2**20 / (sum(widths.values()) * read.dtype.itemsize)))
    with progress_bar(total, f"activations of {read.model.name}", shown=progress) as shown:
        _keep_batches(read, batches, keeper, limit, shown)
    return keeper.open_store()


@dataclass(frozen=True, eq=False)
class _Reader:
    """Reads several sites of one model in one forward, which ends at the last of them."""

    model: HookedModel
    sites: Mapping[str, Site]
    dtype: torch.dtype

    @classmethod
    def of(cls, sites: Sequence[Site], dtype: str) -> _Reader:
        if dtype not in DTYPES:
            raise UnknownNameError("dtype", dtype, DTYPES, "the activation store")
        if not sites:
            raise EmptyError("the list of sites", "name one, from model.at(name)")
        for site in sites:
            if not isinstance(site, Site) or not isinstance(site.model, HookedModel):
                raise SettingError("a site to collect", str(site), "a site of a wrapped model, from model.at(name)")
        model, keyed = cast("HookedModel", sites[0].model), {site_key(site): site for site in sites}
        if len(keyed) < len(sites) or any(site.model is not model for site in sites):
            raise SettingError("sites", [str(site) for site in sites], "different sites of one wrapped model")
        return cls(model, keyed, DTYPES[dtype])

    def __call__(self, inputs: Inputs, where: Where) -> dict[str, Tensor]:
        """The rows (n, width) of every site, on the CPU."""
        activations = read_sites(self.model, list(self.sites.values()), inputs, where)
        return {
            name: self._convert_rows(site, rows)
            for (name, site), rows in zip(self.sites.items(), activations, strict=True)
        }

    def _convert_rows(self, site: Site, rows: Tensor) -> Tensor:
        """The rows on the CPU, in the dtype of the store."""
        if rows.shape[1] != site.width:
            raise ShapeError(f"what passes {site}", tuple(rows.shape), f"(…, {site.width}), the width of the site,")
        stored = rows.to(self.dtype)
        if self.dtype == torch.float16 and (stored.isinf() & ~rows.isinf()).any():
            most = f"{float(rows.abs().max()):.3g}"
            raise SettingError("dtype", "float16", f"bfloat16 or float32, as {site} holds values up to {most}")
        return stored.cpu()


@dataclass(eq=False)
class _Keeper:
    """Keeps shards as they fill: in memory, or in a folder with an index of what is done."""

    index: Index
    folder: Path | None = None
    chunks: list[dict[str, Tensor]] = field(default_factory=list)

    @classmethod
    def begin(cls, index: Index, folder: Path, resume: bool) -> _Keeper:
        """Start in an empty folder, or go on where an earlier collect with the same request was stopped."""
        ensure_writable(folder)
        if not (folder / INDEX).exists():
            held = sorted(path.name for path in folder.iterdir() if not path.name.endswith(".tmp"))
            if held:
                raise OutputFolderError(folder, f"it holds other files ({held[0]}, …)", "choose an empty or new folder")
            index.write(folder)
            return cls(index, folder)
        if not resume:
            remedy = "go on with resume=True, or choose another folder"
            raise OutputFolderError(folder, "it already holds activations", remedy)
        earlier = Index.read(folder)
        remedy = "resume with those it was begun with, or choose another folder"
        asked, before = index.request.model_dump(), earlier.request.model_dump()
        check_same_settings(before, asked, folder, remedy, "was collected")
        for shard in earlier.shards:
            map_shard(folder, shard, earlier.request)
        return cls(earlier, folder)

    def put(self, pieces: Mapping[str, Sequence[Tensor]]) -> None:
        """Keep a whole shard."""
        if self.folder is None:
            self.chunks.append({name: torch.cat(list(rows)) for name, rows in pieces.items()})
        else:
            file = f"shard-{len(self.index.shards):05d}.safetensors"
            self.index.shards.append(write_shard(self.folder, file, pieces))

    def mark(self, batches: int, inputs: str, complete: bool = False) -> None:
        """Note how many batches are in the shards so far, and their digest."""
        self.index.batches, self.index.inputs, self.index.complete = batches, inputs, complete
        if self.folder is not None:
            self.index.write(self.folder)

    def other_inputs_error(self) -> CheckpointError:
        """The error to raise when a resumed stream is not the one that was begun with."""
        remedy = "resume with those it was begun with, or choose another folder"
        return CheckpointError(self.folder or "", "was collected from other inputs", remedy)

    def open_store(self) -> ActivationStore:
        """The store of all shards."""
        if self.folder is not None:
            return ActivationStore.open(self.folder)
        return ActivationStore.of(self.index.request.model, self.chunks)


def _skip_kept(batches: Iterable[Batch], keeper: _Keeper, progress: tqdm[Any]) -> Iterator[tuple[int, str, Batch]]:
    """The batches that are not kept yet, each with how many there are up to it and their digest.

    Raises CheckpointError when the kept ones came from other inputs.
    """
    done, whole, seen, count = keeper.index.batches, keeper.index.complete, hashlib.sha256(), 0
    for inputs, where in batches:
        count += 1
        named = {"": inputs} if isinstance(inputs, Tensor) else inputs
        tensors_digest([*named.items(), ("rows", where.rows), ("columns", where.columns)], seen)
        if count == done and seen.hexdigest() != keeper.index.inputs:
            raise keeper.other_inputs_error()
        if count > done:
            if whole:
                raise keeper.other_inputs_error()
            yield count, seen.hexdigest(), (inputs, where)
        progress.update()
    if count < done:
        raise keeper.other_inputs_error()


def _keep_batches(read: _Reader, batches: Iterable[Batch], keeper: _Keeper, limit: int, progress: tqdm[Any]) -> None:
    """Run the batches that are not kept yet, and keep their rows, a shard of `limit` rows or just above at a time."""
    count, seen, held = keeper.index.batches, keeper.index.inputs, 0
    pieces: dict[str, list[Tensor]] = {}
    for count, seen, (inputs, where) in _skip_kept(batches, keeper, progress):
        if len(where):
            held += len(where)
            for name, rows in read(inputs, where).items():
                pieces.setdefault(name, []).append(rows)
        if held >= limit:
            keeper.put(pieces)
            keeper.mark(count, seen)
            pieces, held = {}, 0
    if pieces:
        keeper.put(pieces)
    elif not keeper.index.shards and not keeper.chunks:
        raise EmptyError("the list of cells in all batches", "name at least one")
    keeper.mark(count, seen, complete=True)


def _digest_weights(module: nn.Module) -> str:
    return tensors_digest(chain(module.named_parameters(), module.named_buffers())).hexdigest()


def _check_numbers(batch_size: int, shard_mb: float, folder: Path | str | None, resume: bool) -> None:
    for name, value in (("batch_size", batch_size), ("shard_mb", shard_mb)):
        if value <= 0:
            raise SettingError(name, value, "above 0")
    if resume and folder is None:
        raise SettingError("resume", resume, "False where no folder is given")
