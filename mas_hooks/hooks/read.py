"""Activations of some cells, without running anything above the highest site."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mas_hooks.core.inputs import Inputs
from mas_hooks.core.sites import Site, Where
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.taps import AbstractTap, ReadTap, StopForward


def read_sites(
    model: HookedModel, sites: Sequence[Site], inputs: Inputs, where: Where
) -> list[Float[Tensor, "n _width"]]:
    """Read some cells at several sites, in one forward without gradient that ends at the last of them.

    Args:
        model: The model to run.
        sites: Some of its sites.
        inputs: What it reads.
        where: The cells, the same at every site.

    Returns:
        The vectors of each site, in the order of the cells.

    Raises:
        UnreachedSiteError: Some of the cells did not come by.
        PositionError: A cell lies outside the inputs or on padding.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> from torch import nn
        >>> from mas_hooks.hooks import read_sites
        >>> model = mh.wrap(nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5)))
        >>> ids, cells = torch.tensor([[0, 1, 2]]), mh.Where([0, 0], [2, 1])
        >>> [rows.shape for rows in read_sites(model, [model.at("embed"), model.at("1")], ids, cells)]
        [torch.Size([2, 8]), torch.Size([2, 5])]
    """
    reads = [ReadTap(str(site), where) for site in sites]
    taps = [
        (model.point(site.name, site.side), _SharedRead(read, reads)) for site, read in zip(sites, reads, strict=True)
    ]
    with torch.no_grad(), model.tap(taps), suppress(StopForward):
        model.call(inputs)
    return [read.result() for read in reads]


def read_site(model: HookedModel, site: Site, inputs: Inputs, where: Where) -> Float[Tensor, "n width"]:
    """Read the activations of some cells at one site (see `read_sites`).

    Args:
        model: The model to run.
        site: One of its sites.
        inputs: What it reads.
        where: The cells.

    Returns:
        The vectors, in the order of the cells.

    Raises:
        UnreachedSiteError: Some of the cells did not come by.
        PositionError: A cell lies outside the inputs or on padding.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> from torch import nn
        >>> from mas_hooks.hooks import read_site
        >>> model = mh.wrap(nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5)))
        >>> read_site(model, model.at("embed"), torch.tensor([[0, 1, 2]]), mh.Where([0, 0], [2, 1])).shape
        torch.Size([2, 8])
    """
    return read_sites(model, [site], inputs, where)[0]


@dataclass(eq=False)
class _SharedRead(AbstractTap):
    """One of several reads of a forward; the forward ends once all of them have their cells."""

    read: ReadTap
    reads: Sequence[ReadTap]
    reads_only = True

    def columns(self) -> Tensor | None:
        return self.read.columns()

    def __call__(self, h: Tensor, offset: int) -> Tensor:
        self.read(h, offset)
        if not any(read.missing() for read in self.reads):
            raise StopForward
        return h

    def check(self, seen: int) -> None:
        self.read.check(seen)
