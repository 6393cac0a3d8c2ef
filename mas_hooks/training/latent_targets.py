"""The latent side of a fit: where swapped vectors should lie in models whose behaviour is not used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.directions import swap_vectors
from mas_hooks.alignment.interchange import AbstractSwapOperator
from mas_hooks.alignment.plan import Direction
from mas_hooks.alignment.resolved_direction import ResolvedDirection, require_runnable
from mas_hooks.core.errors import EmptyError, UnsupportedError
from mas_hooks.core.sites import Recording, Site
from mas_hooks.data.counterfactual_latents import NaturalCells, cells_of_recording, match_values
from mas_hooks.data.pairs import Directed, Pairs
from mas_hooks.engine.cache import ActivationCache, gather_site
from mas_hooks.training.losses import Reduction, latent_losses


class LatentTargets:
    """One natural activation for each pair of the directions with a latent loss, drawn once.

    Pairs for which no natural cell has the expected variables are left out of this loss (`dropped`).

    Args:
        alignment: what swaps.
        pairs: one set for every direction, or sets by (source, target).
        directions: those with a latent loss.
        cache: activations of the alignment's sites.
        cells: natural cells of each target model, by its number; those of a recording are its own where none are given.
        seed: of the draw.
    """

    def __init__(
        self,
        alignment: Alignment,
        pairs: Directed,
        directions: Sequence[Direction],
        cache: ActivationCache,
        cells: Mapping[int, NaturalCells],
        seed: int = 0,
    ) -> None:
        self.cache, self.directions = cache, tuple(directions)
        self._resolved = {direction: alignment.resolve(direction, pairs) for direction in directions}
        for resolved in self._resolved.values():
            _check_natural(resolved)
        sites = {way.target: resolved.target_site for way, resolved in self._resolved.items()}
        natural = {target: _choose_cells(site, target, cells) for target, site in sites.items()}
        self._rows = {target: _read_cells(site, natural[target]) for target, site in sites.items()}
        self._matches = {
            way: match_values(resolved.pairs, natural[way.target], (seed, *way))
            for way, resolved in self._resolved.items()
        }

    @property
    def pairs(self) -> dict[Direction, Pairs]:
        """The pairs of each direction."""
        return {direction: resolved.pairs for direction, resolved in self._resolved.items()}

    @property
    def dropped(self) -> int:
        """Pairs without a counterfactual latent, over all directions."""
        return sum(matches.dropped for matches in self._matches.values())

    def losses(
        self, operator: AbstractSwapOperator, batches: Mapping[Direction, Int[Tensor, " batch"]], reduction: Reduction
    ) -> Float[Tensor, " directions"]:
        """Compute the latent loss of every direction on a batch (Grant 2025, eq. 8–9).

        Args:
            operator: the evaluated maps or transports.
            batches: the numbers of the pairs of each direction.
            reduction: the squared distance is summed over dims or averaged.

        Returns:
            One loss per direction.
        """
        return torch.stack([self._loss(operator, way, batches[way], reduction) for way in self.directions])

    def losses_of_all(self, operator: AbstractSwapOperator, reduction: Reduction) -> Float[Tensor, " directions"]:
        """Compute the same over all pairs."""
        batches = {direction: torch.arange(len(pairs)) for direction, pairs in self.pairs.items()}
        return self.losses(operator, batches, reduction)

    def _loss(self, operator: AbstractSwapOperator, way: Direction, index: Tensor, reduction: Reduction) -> Tensor:
        resolved = self._resolved[way]
        cells, _ = resolved.pairs.cells(index)
        places, cell = self._matches[way].of(cells)
        rows = self._rows[way.target]
        swapped = swap_vectors(self.cache, resolved, operator, index)
        expected = rows[cell.to(rows.device)].to(swapped.device)
        return latent_losses(swapped[places.to(swapped.device)], expected, [len(places)], reduction)[0]


def _check_natural(resolved: ResolvedDirection) -> None:
    """Raise UnsupportedError where what a swap leaves in place is not known without running the earlier swaps."""
    if resolved.sequential:
        remedy = "swap one position a row, or positions of another site such as the embeddings"
        what = f"a latent loss on swaps of some dims of several states of one sequence at {resolved.target_site}"
        raise UnsupportedError(what, remedy)


def _choose_cells(site: Site | Recording, target: int, cells: Mapping[int, NaturalCells]) -> NaturalCells:
    if target in cells:
        return cells[target]
    if isinstance(site, Recording):
        return cells_of_recording(site)
    remedy = f"give them for model {target}, as in latents={{{target}: mas_hooks.latents.natural_cells(task)}}"
    raise EmptyError(f"the set of natural cells of {site}", remedy)


def _read_cells(site: Site | Recording, cells: NaturalCells) -> Float[Tensor, "c width"]:
    """The activations of natural cells, computed once."""
    if isinstance(site, Recording):
        return cells.where.gather(site.activations)
    model, site = require_runnable(site)
    if cells.inputs is None:
        remedy = "give cells with inputs, as the model has to read them"
        raise UnsupportedError(f"a latent loss at {site} on the natural cells of a recording", remedy)
    return gather_site(model, site, cells.inputs, cells.where)
