"""The maps or transports of a set of sites where they are before any fit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mas_hooks.maps import MapSpec, TransportSpec
from mas_hooks.maps.starts import identity_frame, random_frame
from mas_hooks.plan import Direction
from mas_hooks.sites import Recording, Site


def first_maps(spec: MapSpec, sites: Sequence[Site | Recording], seed: int) -> nn.ModuleList:
    """One map per site, at the identity or at random by seed; starts from data are set when a fit begins."""
    maps = nn.ModuleList()
    for index, site in enumerate(sites):
        made = spec.make(site.width, str(site))
        made.start(_frame(spec, site.width, 1_000 * seed + index))
        maps.append(made)
    return maps


def _frame(spec: MapSpec, width: int, seed: int) -> Tensor:
    if spec.init == "identity":
        return identity_frame(width, spec.total)
    return random_frame(width, spec.total, torch.Generator().manual_seed(seed))


def first_transports(
    spec: TransportSpec, sites: Sequence[Site | Recording], ways: Sequence[Direction], seed: int
) -> nn.ModuleDict:
    """One transport per way, each under the name `source_target`."""
    transports = nn.ModuleDict()
    for number, way in enumerate(ways):
        source, target = sites[way.source], sites[way.target]
        made = spec.make(source.width, target.width, f"{source} → {target}")
        made.start(spec.first(source.width, target.width, torch.Generator().manual_seed(1_000 * seed + number)))
        transports[f"{way.source}_{way.target}"] = made
    return transports
