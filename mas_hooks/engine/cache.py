"""Models that take no gradient for the length of a block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mas_hooks.core import inputs as model_inputs
from mas_hooks.core.errors import UnsupportedError
from mas_hooks.core.inputs import Inputs
from mas_hooks.core.sites import Recording, Site, Where
from mas_hooks.data.pairs import Pairs
from mas_hooks.engine.prefixes import Prefixes, suits_prefixes
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.read import read_site


@contextmanager
def freeze_models(modules: Sequence[nn.Module]) -> Iterator[None]:
    """No gradient to these modules' parameters inside the block; afterwards each is as it was."""
    with ExitStack() as undo:
        for parameter in (parameter for module in modules for parameter in module.parameters()):
            if parameter.requires_grad:
                undo.callback(parameter.requires_grad_, True)
                parameter.requires_grad_(False)
        yield


CHUNK = 1024


def gather_site(
    model: HookedModel, site: Site, inputs: Inputs, where: Where, chunk: int = CHUNK
) -> Float[Tensor, "n width"]:
    """The vectors of `where` from a whole data set of inputs, `chunk` rows of the batch at a time, in float32."""
    found = torch.empty(len(where), site.width, device=model.device)
    batch = len(model_inputs.leading_tensor(inputs))
    for begin in range(0, batch, chunk):
        inside = ((where.rows >= begin) & (where.rows < begin + chunk)).nonzero()[:, 0]
        if len(inside):
            part = model_inputs.select_rows(inputs, slice(begin, begin + chunk))
            cells = Where(where.rows[inside] - begin, where.columns[inside])
            found[inside.to(found.device)] = read_site(model, site, part, cells).to(found)
    return found


@dataclass(frozen=True, eq=False)
class SiteActivations:
    """Activations of some cells. rows: their vectors; where several cells share a vector, `place` tells which it is."""

    site: Site | Recording
    inputs: Inputs | None
    where: Where
    rows: Tensor | Prefixes
    place: Int[Tensor, " n"] | None = None

    def at(self, cells: Int[Tensor, " m"] | None) -> Float[Tensor, "m width"]:
        """Those of some cells, by number, or of all; float32."""
        rows = self.rows.vectors if isinstance(self.rows, Prefixes) else self.rows
        assert rows is not None
        found = self.place if cells is None or self.place is None else self.place[cells.cpu()]
        found = cells if self.place is None else found
        return rows.float() if found is None else rows[found.to(rows.device)].float()


@dataclass(frozen=True, eq=False)
class SharedActivations:
    """What caches have computed: by site, inputs and cells, and what decoders hold by what they have read, by site."""

    held: dict[tuple[int, int, int], SiteActivations] = field(default_factory=dict)
    prefixes: dict[int, Prefixes | None] = field(default_factory=dict)

    def forget(self, site: Site) -> None:
        """Let go of what a site holds."""
        for entry in [entry for entry in self.held if entry[0] == id(site)]:
            del self.held[entry]
        self.prefixes.pop(id(site), None)


_shared: ContextVar[SharedActivations | None] = ContextVar("shared activations", default=None)


@contextmanager
def share_activations(kept: SharedActivations) -> Iterator[None]:
    """Inside, every cache keeps its activations here: several fits of the same sites and pairs compute them once.

    For whoever knows that the models stay as they are from one to the next.
    """
    token = _shared.set(kept)
    try:
        yield
    finally:
        _shared.reset(token)


class ActivationCache:
    """Activations of the cells of pairs, each computed at its first use and kept as long as the cache lives.

    A decoder that reads plain ids keeps one vector for equal tokens up to a position (`Prefixes`).
    """

    def __init__(self, sites: Sequence[Site | Recording], models: Sequence[HookedModel | None]) -> None:
        self._sites, self._models = sites, models
        shared = _shared.get()
        self._kept = SharedActivations() if shared is None else shared

    def source(self, index: int, pairs: Pairs, cells: Int[Tensor, " m"] | None = None) -> Float[Tensor, "m width"]:
        """What model `index` holds at the source cells, at all or at those of some numbers; float32."""
        return self._held(index, pairs.source_inputs, pairs.source_where).at(cells)

    def target(self, index: int, pairs: Pairs, cells: Int[Tensor, " m"] | None = None) -> Float[Tensor, "m width"]:
        """What model `index` holds at the target cells, without intervention, at all or at those of some numbers."""
        return self._held(index, pairs.target_inputs, pairs.target_where).at(cells)

    def sources(self, index: int, sets: Iterable[Pairs]) -> tuple[Float[Tensor, "n width"], Tensor]:
        """All source activations of a model over several sets of pairs, and the key of each."""
        distinct = list({id(pairs): pairs for pairs in sets}.values())
        found = [self.source(index, pairs) for pairs in distinct]
        return torch.cat(found), torch.cat([pairs.source_key for pairs in distinct]).to(found[0].device)

    def _held(self, index: int, inputs: Inputs | None, where: Where) -> SiteActivations:
        site = self._sites[index]
        entry = (id(site), id(inputs), id(where))
        if entry not in self._kept.held:  # all three are kept beside, so that their ids stay theirs
            self._kept.held[entry] = self._compute(index, inputs, where)
        return self._kept.held[entry]

    def _compute(self, index: int, inputs: Inputs | None, where: Where) -> SiteActivations:
        site, model = self._sites[index], self._models[index]
        if isinstance(site, Recording):
            if inputs is not None:
                raise UnsupportedError(
                    f"running recording {site.name!r} on inputs",
                    "give pairs with source_inputs=None whose source_where names cells of the recording",
                )
            rows, positions = site.activations.shape[:2]
            where.check(rows, positions, None, f"recording {site.name!r}")
            return SiteActivations(site, inputs, where, where.gather(site.activations))
        if inputs is None or model is None:
            raise UnsupportedError(f"pairs without source inputs for {site}", "give the inputs that this model reads")
        if id(site) not in self._kept.prefixes:
            self._kept.prefixes[id(site)] = Prefixes(model, site) if suits_prefixes(model, site, inputs) else None
        known = self._kept.prefixes[id(site)]
        if known is None or not isinstance(inputs, Tensor) or inputs.ndim != 2:
            return SiteActivations(site, inputs, where, gather_site(model, site, inputs, where))
        return SiteActivations(site, inputs, where, known, known.places(inputs, where))
