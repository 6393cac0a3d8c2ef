"""What a decoder holds at a site, by what it has read: equal tokens up to a position are run and kept once."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mas_hooks.core import inputs as model_inputs
from mas_hooks.core.inputs import Inputs
from mas_hooks.core.sites import Site, Where
from mas_hooks.engine.store.streams import cut_batches
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.outputs import agree_up_to_rounding
from mas_hooks.hooks.read import read_site

CHUNK_TOKENS = 16_384
"""How many tokens are run at a time where activations are computed to be kept."""


class Prefixes:
    """The vectors of one site for every sequence of tokens that it was read for so far, in the model's own dtype.

    Memory follows the distinct prefixes, not the pairs that use them: the same text counts once as a source, as a
    target, and in every direction.
    """

    def __init__(self, model: HookedModel, site: Site) -> None:
        self.model, self.site = model, site
        self.vectors: Float[Tensor, "prefix width"] | None = None
        self._keys = torch.zeros(0, dtype=torch.int64)  # in rising order
        self._row = torch.zeros(0, dtype=torch.int64)  # of each key, in `vectors`

    def find_places(self, ids: Int[Tensor, "row position"], where: Where) -> Int[Tensor, " n"]:
        """Which of `vectors` each cell has; those that are not there yet are computed now."""
        ids, where = ids.cpu(), where.to(torch.device("cpu"))
        keys = model_inputs.prefix_keys(ids)[where.rows, where.columns]
        distinct, which = keys.unique(return_inverse=True)
        missing = distinct[~torch.isin(distinct, self._keys)]
        if len(missing):
            self._add(ids, where, keys, missing)
        return self._row[torch.searchsorted(self._keys, distinct)][which].int()

    def _add(self, ids: Tensor, where: Where, keys: Tensor, missing: Tensor) -> None:
        chosen = _choose_cells(where, keys, missing)
        cells = Where(where.rows[chosen], where.columns[chosen])
        read = ids[:, : int(cells.columns.max()) + 1]
        batches, _ = cut_batches(self.model, read, cells, max(1, CHUNK_TOKENS // read.shape[1]))
        vectors = [read_site(self.model, self.site, rows, asked) for rows, asked in batches]
        before = 0 if self.vectors is None else len(self.vectors)
        self.vectors = torch.cat(vectors if self.vectors is None else [self.vectors, *vectors])
        both = torch.cat([self._keys, keys[chosen]])
        rows = torch.cat([self._row, before + torch.arange(len(chosen))])
        self._keys, order = both.sort()
        self._row = rows[order]


def suits_prefixes(model: HookedModel, site: Site, inputs: Inputs) -> bool:
    """Whether what a model holds at a site depends on the tokens up to a position alone.

    Args:
        model: The model.
        site: One of its sites.
        inputs: What it reads; its first row is run whole and cut in half, to see that what comes later changes nothing.

    Returns:
        True for plain ids of a known decoder that passes that trial.
    """
    if model.family is None or not model.family.decoder or not isinstance(inputs, Tensor):
        return False
    if inputs.ndim != 2 or inputs.is_floating_point() or inputs.shape[1] < 2:
        return False
    half = inputs.shape[1] // 2
    cells = Where([0] * half, list(range(half)))
    whole, begun = (read_site(model, site, ids, cells) for ids in (inputs[:1], inputs[:1, :half]))
    return agree_up_to_rounding(begun, whole)


def _choose_cells(where: Where, keys: Int[Tensor, " n"], missing: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
    """Choose one cell for every missing key, from the rows with the most cells, in the order of the rows."""
    at = torch.searchsorted(missing, keys).clamp(max=len(missing) - 1)
    new = (missing[at] == keys).nonzero()[:, 0]
    order = new[where.rows.bincount()[where.rows[new]].argsort(descending=True, stable=True)]
    first = torch.full((len(missing),), len(order)).scatter_reduce(0, at[order], torch.arange(len(order)), "amin")
    return order[first].sort().values
