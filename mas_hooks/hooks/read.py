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


@dataclass(eq=False)
class _SharedRead(AbstractTap):
    """One of several reads of a forward, which ends once all of them have their cells."""

    read: ReadTap
    together: Sequence[ReadTap]
    reads_only = True

    def columns(self) -> Tensor | None:
        return self.read.columns()

    def __call__(self, h: Tensor, offset: int) -> Tensor:
        self.read(h, offset)
        if not any(read.missing() for read in self.together):
            raise StopForward
        return h

    def check(self, seen: int) -> None:
        self.read.check(seen)


def read_sites(
    model: HookedModel, sites: Sequence[Site], inputs: Inputs, where: Where
) -> list[Float[Tensor, "n _width"]]:
    """The activations of some cells at several sites of a model, from one forward without gradient.

    The forward ends at the last of the sites.
    """
    reads = [ReadTap(str(site), where) for site in sites]
    taps = [
        (model.point(site.name, site.side), _SharedRead(read, reads)) for site, read in zip(sites, reads, strict=True)
    ]
    with torch.no_grad(), model.tap(taps), suppress(StopForward):
        model.call(inputs)
    return [read.result() for read in reads]


def read_site(model: HookedModel, site: Site, inputs: Inputs, where: Where) -> Float[Tensor, "n width"]:
    """The activations of some cells at one site (see `read_sites`)."""
    return read_sites(model, [site], inputs, where)[0]
