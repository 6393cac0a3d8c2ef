"""Collected activations: the `Rows` of one site, and the `ActivationStore` that holds those of several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mas_hooks.core.errors import CheckpointError, SettingError, UnknownNameError
from mas_hooks.core.sites import Site
from mas_hooks.engine.store.shards import Index, map_shard, verify_shard


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one site (n, width), in the order of the cells; in memory, or mapped from a folder."""

    name: str
    chunks: Sequence[Tensor]
    ends: Tensor = field(init=False, repr=False)
    __iter__: ClassVar[None] = None  # one row at a time would be slow: use `batches`

    def __post_init__(self) -> None:
        object.__setattr__(self, "ends", torch.tensor([len(chunk) for chunk in self.chunks]).cumsum(0))

    @property
    def width(self) -> int:
        """How many units the site has."""
        return self.chunks[0].shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the stored rows."""
        return self.chunks[0].dtype

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: Tensor | Sequence[int] | slice) -> Float[Tensor, "n width"]:
        """A copy of some rows, on the CPU. From a folder only these are read, in the order in which they lie there.

        Raises SettingError when an index lies outside.
        """
        asked = self._check_rows(index)
        sought, back = asked.sort()
        rows = torch.empty(len(asked), self.width, dtype=self.dtype)
        cuts = [0, *torch.searchsorted(sought, self.ends).tolist()]
        for place, chunk in enumerate(self.chunks):
            first, last = cuts[place], cuts[place + 1]
            if first < last:
                rows[back[first:last]] = chunk[sought[first:last] - (self.ends[place] - len(chunk))]
        return rows

    def _check_rows(self, index: Tensor | Sequence[int] | slice) -> Tensor:
        what = f"an index into the rows of {self.name}"
        if isinstance(index, slice):
            return torch.from_numpy(np.arange(*index.indices(len(self))))
        if isinstance(index, int):
            raise SettingError(what, index, "a list of integers or a slice")
        given = torch.as_tensor(index).cpu()
        if given.ndim != 1 or (len(given) and (given.is_floating_point() or given.dtype == torch.bool)):
            raise SettingError(what, index, "a list of integers or a slice")
        outside = given[(given < -len(self)) | (given >= len(self))]
        if len(outside):
            raise SettingError(what, int(outside[0]), f"0 to {len(self) - 1}")
        return given.long() % len(self)

    def batches(self, size: int = 8192) -> Iterator[Float[Tensor, "n width"]]:
        """All rows, `size` at a time. Raises SettingError when `size` is below 1."""
        if size < 1:
            raise SettingError("the size of batches", size, "1 or more")
        return (self[begin : begin + size] for begin in range(0, len(self), size))

    def tensor(self) -> Float[Tensor, "n width"]:
        """All rows as one tensor in memory."""
        return self[:]


def site_key(site: Site) -> str:
    """The name under which a store keeps a site."""
    return site.name + (":input" if site.side == "input" else "")


@dataclass(frozen=True, eq=False)
class ActivationStore:
    """Rows of one or several sites of a model over a data set: `store[name]` or `store[site]` are the `Rows` of one.

    Example:
        >>> import tempfile
        >>> import torch
        >>> import mas_hooks as mh
        >>> from torch import nn
        >>> model = mh.wrap(nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5)), name="toy")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = mh.collect(model.at("embed"), torch.tensor([[0, 1, 2]]), folder=folder, progress=False)
        ...     store = mh.ActivationStore.open(folder)
        ...     store.names, len(store["embed"])
        (['embed'], 3)
    """

    model: str
    rows: Mapping[str, Rows]
    folder: Path | None = None

    @property
    def names(self) -> list[str]:
        """The names of the sites; that of the input side of a module ends in `:input`."""
        return list(self.rows)

    def __getitem__(self, site: str | Site) -> Rows:
        name = site if isinstance(site, str) else site_key(site)
        if name not in self.rows:
            raise UnknownNameError("site", name, self.rows, f"the activation store of {self.model}")
        return self.rows[name]

    @classmethod
    def of(cls, model: str, chunks: Sequence[Mapping[str, Tensor]], folder: Path | None = None) -> ActivationStore:
        """Make a store of consecutive chunks.

        Args:
            model: The name of the model.
            chunks: The rows of each site; a chunk has as many rows of every site.
            folder: Where they lie; None for memory.

        Returns:
            The store.
        """
        return cls(model, {name: Rows(name, [chunk[name] for chunk in chunks]) for name in chunks[0]}, folder)

    @classmethod
    def open(cls, folder: Path | str) -> ActivationStore:
        """Map the store in a folder into memory. Sizes and shapes are checked here, contents by `verify`.

        Raises CheckpointError when the store is not finished, or the folder holds something else.
        """
        folder = Path(folder)
        index = Index.read(folder)
        if not index.complete or not index.shards:
            rows = sum(shard.rows for shard in index.shards)
            raise CheckpointError(folder, f"is not finished ({rows} rows)", "go on with collect(…, resume=True)")
        chunks = [map_shard(folder, shard, index.request) for shard in index.shards]
        return cls.of(index.request.model, chunks, folder)

    def verify(self) -> None:
        """Read every byte in the folder. Raises CheckpointError at the first shard that is not what was written."""
        if self.folder is not None:
            for shard in Index.read(self.folder).shards:
                verify_shard(self.folder, shard)
