"""Source and base activations of frozen models, computed once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float
from torch import Tensor

from mas_hooks import inputs as model_inputs
from mas_hooks.errors import UnsupportedError
from mas_hooks.hooks.collect import collect
from mas_hooks.hooks.handle import HookedModel
from mas_hooks.inputs import Inputs
from mas_hooks.pairs import Pairs
from mas_hooks.sites import Recording, Site, Where

CHUNK = 1024


def gather_site(
    model: HookedModel, site: Site, inputs: Inputs, where: Where, chunk: int = CHUNK
) -> Float[Tensor, "n width"]:
    """The vectors of `where` from a whole data set of inputs, `chunk` rows of the batch at a time, in float32."""
    found = torch.empty(len(where), site.width, device=model.device)
    batch = len(model_inputs.leading(inputs))
    for begin in range(0, batch, chunk):
        inside = ((where.rows >= begin) & (where.rows < begin + chunk)).nonzero()[:, 0]
        if len(inside):
            part = model_inputs.rows(inputs, slice(begin, begin + chunk))
            cells = Where(where.rows[inside] - begin, where.columns[inside])
            found[inside.to(found.device)] = collect(model, site, part, cells).to(found)
    return found


Kept = dict[tuple[int, int, str], tuple[Site | Recording, Pairs, Tensor]]
"""Activations by site, pairs and role."""
_shared: ContextVar[Kept | None] = ContextVar("shared activations", default=None)


@contextmanager
def shared(kept: Kept) -> Iterator[None]:
    """Inside, every cache keeps its activations here: several fits of the same sites and pairs compute them once.

    For whoever knows that the models stay as they are from one to the next.
    """
    token = _shared.set(kept)
    try:
        yield
    finally:
        _shared.reset(token)


class ActivationCache:
    """Activations of the cells of pairs, each computed at its first use and kept as long as the cache lives."""

    def __init__(self, sites: Sequence[Site | Recording], models: Sequence[HookedModel | None]) -> None:
        self._sites, self._models = sites, models
        shared = _shared.get()
        self._kept: Kept = {} if shared is None else shared

    def source(self, index: int, pairs: Pairs) -> Float[Tensor, "n width"]:
        """What model `index` holds at the source cells."""
        return self._get(index, pairs, "source")

    def target(self, index: int, pairs: Pairs) -> Float[Tensor, "n width"]:
        """What model `index` holds at the target cells, without intervention."""
        return self._get(index, pairs, "target")

    def sources(self, index: int, sets: Iterable[Pairs]) -> tuple[Float[Tensor, "n width"], Tensor]:
        """All source activations of a model over several sets of pairs, and the key of each."""
        distinct = list({id(pairs): pairs for pairs in sets}.values())
        keys = [pairs.source_key.to(self.source(index, pairs).device) for pairs in distinct]
        return torch.cat([self.source(index, pairs) for pairs in distinct]), torch.cat(keys)

    def _get(self, index: int, pairs: Pairs, role: str) -> Tensor:
        site = self._sites[index]
        entry = (id(site), id(pairs), role)
        if entry not in self._kept:  # site and pairs are kept beside, so that their ids stay theirs
            self._kept[entry] = (site, pairs, self._compute(index, pairs, role))
        return self._kept[entry][2]

    def _compute(self, index: int, pairs: Pairs, role: str) -> Tensor:
        inputs, where = (
            (pairs.source_inputs, pairs.source_where) if role == "source" else (pairs.target_inputs, pairs.target_where)
        )
        site, model = self._sites[index], self._models[index]
        if isinstance(site, Recording):
            if inputs is not None:
                raise UnsupportedError(
                    f"running recording {site.name!r} on inputs",
                    "give pairs with source_inputs=None whose source_where names cells of the recording",
                )
            rows, positions = site.activations.shape[:2]
            where.check(rows, positions, None, f"recording {site.name!r}")
            return where.gather(site.activations)
        if inputs is None or model is None:
            raise UnsupportedError(f"pairs without source inputs for {site}", "give the inputs that this model reads")
        return gather_site(model, site, inputs, where)
