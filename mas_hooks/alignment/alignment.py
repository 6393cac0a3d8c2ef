"""The maps or transports of a set of sites where they are before any fit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mas_hooks.alignment import serialization
from mas_hooks.alignment.interchange import (
    AbstractSwapOperator,
    FullReplacement,
    SharedDims,
    interchange,
    needs_sequential_swap,
)
from mas_hooks.alignment.maps import AbstractMap, AbstractView, MapSpec
from mas_hooks.alignment.maps.init import identity_frame, random_frame
from mas_hooks.alignment.plan import Direction, Plan
from mas_hooks.alignment.transports import AbstractTransport, TransportSpec
from mas_hooks.core.errors import DeviceError, EmptyError, SettingError, UnsupportedError
from mas_hooks.core.sites import Recording, Site, Where
from mas_hooks.data.pairs import Directed, of_direction
from mas_hooks.engine.batch import PatchBatch, PatchedForward
from mas_hooks.engine.cache import ActivationCache
from mas_hooks.engine.runner import choose_runner
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.taps import Edit


def build_maps(spec: MapSpec, sites: Sequence[Site | Recording], seed: int) -> nn.ModuleList:
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


def build_transports(
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


class Alignment(nn.Module):
    """The maps of a set of sites, in order, or the transports of ordered pairs of them; sites are numbered from 0.

    sites: from `HookedModel.at`, or recordings. The keywords are those of `MapSpec`: rank or subspaces, kind,
    parametrization, scale, centre, zscore, init. seed: of the random start. The default plan is MAS (DAS for one site).
    """

    def __init__(
        self, sites: Site | Sequence[Site | Recording], rank: int | None = None, *, seed: int = 0, **spec: Any
    ):
        super().__init__()
        maps, sites = MapSpec(rank=rank, **spec), [sites] if isinstance(sites, Site | Recording) else sites
        plan = Plan(method="das", models="one", maps=maps) if len(sites) == 1 else Plan(method="mas", maps=maps)
        self._build(plan, sites, seed)

    @classmethod
    def from_plan(cls, plan: Plan, sites: Sequence[Site | Recording], seed: int = 0) -> Alignment:
        """The alignment that a method asks for. Raises SettingError for a plan without a map specification."""
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made._build(plan, sites, seed)
        return made

    def _build(self, plan: Plan, sites: Sequence[Site | Recording], seed: int) -> None:
        if not sites:
            raise EmptyError("the list of sites", "give at least one, from model.at(name)")
        if plan.maps is None and plan.transport is None:
            raise SettingError("plan.maps", None, "a MapSpec, for example MapSpec(rank=16)")
        ways = plan.trained_directions(len(sites))  # refuses a number of sites that the method does not take
        self.plan, self.sites, self.seed = plan, tuple(sites), seed
        own = zip(self.models, self.names, strict=True)
        devices = {name: str(model.device) for model, name in own if model is not None}
        if len(set(devices.values())) > 1:
            raise DeviceError.several(devices)
        self.maps = nn.ModuleList() if plan.maps is None else build_maps(plan.maps, sites, seed)
        self.transports = nn.ModuleDict()
        if plan.transport is not None:
            self.transports = build_transports(plan.transport, sites, ways, seed)
        if devices:
            self.to(next(iter(devices.values())))

    def extend(self, sites: Site | Recording | Sequence[Site | Recording], seed: int | None = None) -> Alignment:
        """A new alignment of these sites and further ones: the maps so far as they are, the others at their start.

        The new sites are numbered on from the old. To put new models into a space that is already fitted, give
        `frozen=range(n)` to `fit`, n being the sites so far. seed: of new random starts; None for that of this one.
        Raises SettingError where the method does not take so many sites.
        """
        more = [sites] if isinstance(sites, Site | Recording) else list(sites)
        if not more:
            raise EmptyError("the list of further sites", "give at least one, from model.at(name)")
        made = Alignment.from_plan(self.plan, [*self.sites, *more], self.seed if seed is None else seed)
        made.to(next(self.buffers()).dtype).load_state_dict(self.state_dict(), strict=False)
        return made

    def set_frames(self, frames: Sequence[Float[Tensor, "_width rank"]]) -> None:
        """Set where every map begins."""
        for one, frame in zip(self.site_maps, frames, strict=True):
            one.start(frame)

    @property
    def spec(self) -> MapSpec:
        """The specification of the maps. Raises UnsupportedError for a stitch, which has none."""
        if self.plan.maps is None:
            raise UnsupportedError(f"naming the shared dims of {self.plan.method}", "it replaces whole vectors")
        return self.plan.maps

    @property
    def k(self) -> int | None:
        """Dims that are swapped; for a stitch the rank of its transports, None where that is free."""
        return self.spec.total if self.plan.transport is None else self.plan.transport.rank

    def swapped_width(self, target: int, subspace: str | None = None) -> int:
        """How many dims of a target's vector a swap decides: a stitch all of them, whatever its rank."""
        width = self.at(target).width
        return width if self.plan.transport is not None else len(range(width)[self.spec.block(subspace, width)])

    @property
    def init(self) -> str:
        """Where the maps or transports begin."""
        return self.spec.init if self.plan.transport is None else self.plan.transport.init

    @property
    def direction_transports(self) -> dict[Direction, AbstractTransport]:
        """The transport of each ordered pair that has one."""
        own = {Direction(*map(int, key.split("_"))): one for key, one in self.transports.items()}
        return {way: one for way, one in own.items() if isinstance(one, AbstractTransport)}

    @property
    def site_maps(self) -> list[AbstractMap]:
        """The map of each site, in order."""
        return [one for one in self.maps if isinstance(one, AbstractMap)]

    @property
    def models(self) -> list[HookedModel | None]:
        """The handle of each site's model; None for a recording."""
        return [None if isinstance(site, Recording) else _handle(site) for site in self.sites]

    @property
    def names(self) -> list[str]:
        """The models' names, numbered where two are the same."""
        names = [site.name if isinstance(site, Recording) else site.model.name for site in self.sites]
        return names if len(set(names)) == len(names) else [f"{name}-{index}" for index, name in enumerate(names)]

    def views(self) -> list[AbstractView]:
        """Every map evaluated."""
        return [one.view() for one in self.site_maps]

    def swap_operator(self) -> AbstractSwapOperator:
        """Every map or transport evaluated: once per optimiser step, then handed to every use."""
        if self.plan.transport is not None:
            return FullReplacement({way: one.view() for way, one in self.direction_transports.items()})
        return SharedDims(self.views(), self.spec)

    def directions(self) -> list[Direction]:
        """Every direction in which something can be swapped and run: of a stitch those with a way there or back."""
        models = range(len(self.sites))
        every = [Direction(source, target) for source in models for target in models]
        stitched, spec = set(self.direction_transports), self.plan.transport
        if spec is not None and spec.layer_norm == "none":
            stitched |= {Direction(way.target, way.source) for way in stitched}
        able = every if spec is None else [way for way in every if way in stitched]
        return [way for way in able if not isinstance(self.sites[way.target], Recording)]

    def interchange(
        self,
        h_target: Float[Tensor, "n width_t"],
        h_source: Float[Tensor, "n width_s"],
        *,
        target: int,
        source: int,
        subspace: str | None = None,
    ) -> Float[Tensor, "n width_t"]:
        """`h_target` with the aligned dims of `h_source` in its own space (Grant 2025, eq. 4); float32 inside."""
        site_t, site_s = self.at(target), self.at(source)
        if self.plan.transport is not None and subspace is None:
            return self.swap_operator().swap(Direction(source, target), h_target, h_source)
        if subspace == "extra" and site_t.width != site_s.width:
            raise UnsupportedError(
                f"swapping 'extra' from {site_s} to {site_t}, which differ in width,", "name a subspace"
            )
        dims = self.spec.block(subspace, site_t.width)
        return interchange(h_target, h_source, self.site_maps[target].view(), self.site_maps[source].view(), dims)

    def edit(
        self,
        *,
        target: int,
        source: int,
        vectors: Float[Tensor, "n width_s"],
        where: Where,
        subspace: str | None = None,
    ) -> Edit:
        """The swap as a hook on the target model: the i-th cell of `where` receives from the i-th of `vectors`."""
        _, site = runnable_site(self, target)

        def swap(h: Tensor, given: Tensor) -> Tensor:
            home = next(self.buffers()).device  # a model spread over devices may fire on another
            swapped = self.interchange(h.to(home), given.to(home), target=target, source=source, subspace=subspace)
            return swapped.to(h.device)

        return Edit(site, swap, where, vectors)

    def run(
        self, pairs: Directed, *, source: int, target: int, subspace: str | None = None, path: str = "auto"
    ) -> PatchedForward:
        """One patched forward over all pairs of a direction, with gradient to the maps where gradients are on.

        path: `auto` runs only what the swap can change, where that is proven equal; `reference` the whole forward.
        """
        self.at(source)
        model, site = runnable_site(self, target)
        own = of_direction(pairs, source, target)
        cache, index = ActivationCache(self.sites, self.models), torch.arange(len(own))
        swap = partial(self.interchange, target=target, source=source, subspace=subspace)
        one_by_one = needs_sequential_swap(model, site, own, self.swapped_width(target, subspace))
        chosen = choose_runner(model, site, own, path, one_by_one=one_by_one)
        if one_by_one:
            out = chosen.run([PatchBatch(own, index, cache.source(source, own), swap)])
            return PatchedForward(out.logits, out.labels, out.row, None, chosen.name)
        vectors = swap(cache.target(target, own), cache.source(source, own))
        out = chosen.run([PatchBatch(own, index, vectors)])
        return PatchedForward(out.logits, out.labels, out.row, vectors, chosen.name)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write config.json and model.safetensors, whole or not at all. The folder holds no device and no model."""
        serialization.save_alignment(folder, self.plan, self.sites, self.seed, self.state_dict())

    @classmethod
    def from_pretrained(cls, folder: Path | str, models: Sequence[HookedModel | Recording]) -> Alignment:
        """Load an alignment onto its models, given in the order of its sites.

        Raises CheckpointError for a folder that is damaged, foreign, or does not fit the models.
        """
        plan, sites, seed, tensors = serialization.load_alignment(folder, models)
        made = cls.from_plan(plan, sites, seed)
        serialization.check_tensors(folder, made.state_dict(), tensors)
        made.to(next(iter(tensors.values())).dtype).load_state_dict(tensors)
        return made

    def at(self, index: int) -> Site | Recording:
        """The site of that number."""
        if not 0 <= index < len(self.sites):
            raise SettingError("the number of a site", index, f"one of 0 to {len(self.sites) - 1}")
        return self.sites[index]


def _handle(site: Site) -> HookedModel:
    """The handle of a site. Sites see it as a Protocol, so that they can lie below it."""
    if not isinstance(site, Site) or not isinstance(site.model, HookedModel):
        raise SettingError("a site", type(site).__name__, "made by model.at(name), or a recording")
    return site.model


def runnable_site(alignment: Alignment, target: int) -> tuple[HookedModel, Site]:
    """The model and site of a target. Raises UnsupportedError for a recording, which cannot be run."""
    site = alignment.at(target)
    if isinstance(site, Recording):
        raise UnsupportedError(f"a swap into recording {site.name!r}", "swap into models, as methods.unimas() does")
    return _handle(site), site
