"""Activations of frozen models, computed once: of all cells of a data set, of pairs, and shared between fits."""

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

CHUNK_ROWS = 1024
"""How many rows of a data set are run at a time."""


@dataclass(frozen=True, eq=False)
class SiteActivations:
    """Activations of some cells of a site.

    Attributes:
        site: The site.
        inputs: What the model read; None for a recording.
        where: The cells.
        rows: Their vectors, or the vectors of all prefixes that the site's model has read.
        place: Which of the vectors each cell has, where several cells share one; None where each has its own.
    """

    site: Site | Recording
    inputs: Inputs | None
    where: Where
    rows: Tensor | Prefixes
    place: Int[Tensor, " n"] | None = None

    def select_cells(self, cells: Int[Tensor, " m"] | None) -> Float[Tensor, "m width"]:
        """The vectors of some cells, by number, or of all; float32."""
        vectors = self.rows.vectors if isinstance(self.rows, Prefixes) else self.rows
        assert vectors is not None
        place = self.place if cells is None or self.place is None else self.place[cells.cpu()]
        index = cells if place is None else place
        return vectors.float() if index is None else vectors[index.to(vectors.device)].float()


@dataclass(frozen=True, eq=False)
class SharedActivations:
    """What several caches have computed.

    Attributes:
        held: Activations by the ids of their site, inputs and cells.
        prefixes: By the id of a site, what a decoder holds there by what it has read; None where prefixes do not suit.

    Example:
        >>> from torch import nn
        >>> from mas_hooks.engine import SharedActivations
        >>> from mas_hooks.hooks import wrap
        >>> site = wrap(nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5))).at("embed")
        >>> shared = SharedActivations()
        >>> shared.forget(site)
        >>> len(shared.held)
        0
    """

    held: dict[tuple[int, int, int], SiteActivations] = field(default_factory=dict)
    prefixes: dict[int, Prefixes | None] = field(default_factory=dict)

    def forget(self, site: Site) -> None:
        """Let go of what is held of a site."""
        for entry in [entry for entry in self.held if entry[0] == id(site)]:
            del self.held[entry]
        self.prefixes.pop(id(site), None)


class ActivationCache:
    """Activations of the cells of pairs, each computed at its first use and kept as long as the cache lives.

    A decoder that reads plain ids keeps one vector for equal tokens up to a position (`Prefixes`).

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> from torch import nn
        >>> from mas_hooks.engine import ActivationCache
        >>> model = mh.wrap(nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5)))
        >>> ids, cells = torch.tensor([[0, 1, 2], [3, 4, 0]]), mh.Where([0, 1], [1, 2])
        >>> pairs = mh.Pairs.from_tensors(ids, cells, ids, cells, ids, torch.ones(2, 3))
        >>> ActivationCache([model.at("embed")], [model]).source(0, pairs).shape
        torch.Size([2, 8])
    """

    def __init__(self, sites: Sequence[Site | Recording], models: Sequence[HookedModel | None]) -> None:
        self._sites, self._models = sites, models
        shared = _shared.get()
        self._activations = SharedActivations() if shared is None else shared

    def source(self, index: int, pairs: Pairs, cells: Int[Tensor, " m"] | None = None) -> Float[Tensor, "m width"]:
        """What a model holds at the source cells; float32.

        Args:
            index: The number of the model.
            pairs: Pairs whose sources this model reads.
            cells: The numbers of some source cells; None for all.

        Returns:
            One vector for each cell.

        Raises:
            UnsupportedError: The pairs have inputs for a recording, or none for a model.
            PositionError: A cell lies outside a recording.
        """
        return self._find(index, pairs.source_inputs, pairs.source_where).select_cells(cells)

    def target(self, index: int, pairs: Pairs, cells: Int[Tensor, " m"] | None = None) -> Float[Tensor, "m width"]:
        """What a model holds at the target cells without an intervention; float32.

        Args:
            index: The number of the model.
            pairs: Pairs whose targets this model reads.
            cells: The numbers of some target cells; None for all.

        Returns:
            One vector for each cell.

        Raises:
            UnsupportedError: The pairs have inputs for a recording, or none for a model.
            PositionError: A cell lies outside a recording.
        """
        return self._find(index, pairs.target_inputs, pairs.target_where).select_cells(cells)

    def sources(self, index: int, sets: Iterable[Pairs]) -> tuple[Float[Tensor, "n width"], Tensor]:
        """All source activations of model `index` over several sets of pairs, and the key of each."""
        distinct = list({id(pairs): pairs for pairs in sets}.values())
        vectors = torch.cat([self.source(index, pairs) for pairs in distinct])
        return vectors, torch.cat([pairs.source_key for pairs in distinct]).to(vectors.device)

    def _find(self, index: int, inputs: Inputs | None, where: Where) -> SiteActivations:
        site = self._sites[index]
        entry = (id(site), id(inputs), id(where))
        if entry not in self._activations.held:  # `SiteActivations` holds all three, so that their ids stay theirs
            self._activations.held[entry] = self._compute(index, inputs, where)
        return self._activations.held[entry]

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
            what = f"a set of pairs without source inputs for {site}"
            raise UnsupportedError(what, "give the inputs that this model reads")
        prefixes = self._find_prefixes(model, site, inputs)
        if prefixes is None or not isinstance(inputs, Tensor) or inputs.ndim != 2:
            return SiteActivations(site, inputs, where, gather_site(model, site, inputs, where))
        return SiteActivations(site, inputs, where, prefixes, prefixes.find_places(inputs, where))

    def _find_prefixes(self, model: HookedModel, site: Site, inputs: Inputs) -> Prefixes | None:
        prefixes = self._activations.prefixes
        if id(site) not in prefixes:
            prefixes[id(site)] = Prefixes(model, site) if suits_prefixes(model, site, inputs) else None
        return prefixes[id(site)]


_shared: ContextVar[SharedActivations | None] = ContextVar("shared activations", default=None)


@contextmanager
def share_activations(shared: SharedActivations) -> Iterator[None]:
    """Let every cache that is made inside keep its activations in `shared`.

    Several fits of the same sites and pairs then compute them once. Use it where the models stay as they are from one
    fit to the next.

    Example:
        >>> from mas_hooks.engine import SharedActivations, share_activations
        >>> shared = SharedActivations()
        >>> with share_activations(shared):
        ...     pass  # fits of the same sites and pairs
    """
    token = _shared.set(shared)
    try:
        yield
    finally:
        _shared.reset(token)


def gather_site(
    model: HookedModel, site: Site, inputs: Inputs, where: Where, chunk: int = CHUNK_ROWS
) -> Float[Tensor, "n width"]:
    """Gather the vectors of some cells of a whole data set.

    Args:
        model: The model to run.
        site: One of its sites.
        inputs: The whole data set.
        where: Cells of the data set.
        chunk: How many rows of the data set are run at a time.

    Returns:
        The vectors in the order of `where`, float32, on the model's device.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> from torch import nn
        >>> from mas_hooks.engine import gather_site
        >>> model = mh.wrap(nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5)))
        >>> ids = torch.tensor([[0, 1, 2], [3, 4, 0]])
        >>> gather_site(model, model.at("embed"), ids, mh.Where([1, 0], [2, 0])).shape
        torch.Size([2, 8])
    """
    vectors = torch.empty(len(where), site.width, device=model.device)
    batch = len(model_inputs.leading_tensor(inputs))
    for begin in range(0, batch, chunk):
        inside = ((where.rows >= begin) & (where.rows < begin + chunk)).nonzero()[:, 0]
        if len(inside):
            rows = model_inputs.select_rows(inputs, slice(begin, begin + chunk))
            cells = Where(where.rows[inside] - begin, where.columns[inside])
            vectors[inside.to(vectors.device)] = read_site(model, site, rows, cells).to(vectors)
    return vectors


@contextmanager
def freeze_models(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Turn off the gradient of all parameters of these modules inside the block; afterwards each is as it was.

    Example:
        >>> from torch import nn
        >>> from mas_hooks.engine import freeze_models
        >>> module = nn.Linear(2, 2)
        >>> with freeze_models([module]):
        ...     module.weight.requires_grad
        False
        >>> module.weight.requires_grad
        True
    """
    with ExitStack() as undo:
        for parameter in (parameter for module in modules for parameter in module.parameters()):
            if parameter.requires_grad:
                undo.callback(parameter.requires_grad_, True)
                parameter.requires_grad_(False)
        yield
