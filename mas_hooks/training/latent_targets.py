"""The latent side of a fit: where swapped vectors should lie in models whose behaviour is not used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.directions import swap_vectors
from mas_hooks.alignment.interchange import AbstractSwapOperator, needs_sequential_swap
from mas_hooks.alignment.plan import Direction
from mas_hooks.core.errors import SettingError, UnsupportedError
from mas_hooks.core.sites import Recording, Site
from mas_hooks.data.counterfactual_latents import NaturalCells, cells_of_recording, match_values
from mas_hooks.data.pairs import Directed, Pairs, of_direction
from mas_hooks.engine.cache import ActivationCache, gather_site
from mas_hooks.training.losses import Reduction, latent_losses


class LatentTargets:
    """One natural activation for each pair of the directions with a latent loss, drawn once.

    cells: natural cells of each target model; those of a recording are its own where none are given. dropped: pairs
    for which no natural cell has the expected variables; they are left out of this loss.
    """

    def __init__(
        self,
        alignment: Alignment,
        pairs: Directed,
        ways: Sequence[Direction],
        cache: ActivationCache,
        cells: Mapping[int, NaturalCells],
        seed: int = 0,
    ) -> None:
        self.cache, self.ways = cache, tuple(ways)
        self.pairs: dict[Direction, Pairs] = {way: of_direction(pairs, *way) for way in ways}
        for way, own in self.pairs.items():
            _check_natural(alignment, way.target, own)
        own = {target: _cells(alignment, target, cells) for target in dict.fromkeys(way.target for way in ways)}
        self._rows = {target: _rows(alignment, target, found) for target, found in own.items()}
        self._found = {way: match_values(self.pairs[way], own[way.target], (seed, *way)) for way in ways}

    @property
    def dropped(self) -> int:
        """Pairs without a counterfactual latent, over all directions."""
        return sum(found.dropped for found in self._found.values())

    def losses(
        self, exchange: AbstractSwapOperator, batches: Mapping[Direction, Int[Tensor, " batch"]], reduction: Reduction
    ) -> Float[Tensor, " directions"]:
        """The latent loss of every direction on a batch (Grant 2025, eq. 8–9)."""
        return torch.stack([self._loss(exchange, way, batches[way], reduction) for way in self.ways])

    def whole(self, exchange: AbstractSwapOperator, reduction: Reduction) -> Float[Tensor, " directions"]:
        """The same over all pairs."""
        return self.losses(exchange, {way: torch.arange(len(own)) for way, own in self.pairs.items()}, reduction)

    def _loss(self, exchange: AbstractSwapOperator, way: Direction, index: Tensor, reduction: Reduction) -> Tensor:
        cells, _ = self.pairs[way].cells(index)
        places, cell = self._found[way].of(cells)
        rows = self._rows[way.target]
        found = swap_vectors(self.cache, self.pairs[way], exchange, way, index)
        wanted = rows[cell.to(rows.device)].to(found.device)
        return latent_losses(found[places.to(found.device)], wanted, [len(places)], reduction)[0]


def _check_natural(alignment: Alignment, target: int, pairs: Pairs) -> None:
    """Raise UnsupportedError where what a swap leaves in place is not known without running the earlier swaps."""
    site, model = alignment.at(target), alignment.models[target]
    if (
        model is not None
        and isinstance(site, Site)
        and needs_sequential_swap(model, site, pairs, alignment.swapped_width(target))
    ):
        remedy = "swap one position a row, or positions of another site such as the embeddings"
        what = f"a latent loss on swaps of some dims of several states of one sequence at {site}"
        raise UnsupportedError(what, remedy)


def _cells(alignment: Alignment, target: int, cells: Mapping[int, NaturalCells]) -> NaturalCells:
    if target in cells:
        return cells[target]
    site = alignment.at(target)
    if isinstance(site, Recording):
        return cells_of_recording(site)
    allowed = f"given for model {target}, as in latents={{{target}: mas_hooks.latents.natural_cells(task)}}"
    raise SettingError(f"the natural cells of {site}", None, allowed)


def _rows(alignment: Alignment, target: int, cells: NaturalCells) -> Float[Tensor, "c width"]:
    """The activations of natural cells, computed once."""
    site: Any = alignment.at(target)
    model = alignment.models[target]
    if model is None:
        return cells.where.gather(site.activations)
    if cells.inputs is None:
        raise SettingError(
            f"the natural cells of {site}", "those of a recording", "cells with inputs, as the model has to read them"
        )
    return gather_site(model, site, cells.inputs, cells.where)
