"""The maps or transports of a set of sites, and the swaps that they make possible."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mas_hooks.alignment import serialization
from mas_hooks.alignment.interchange import AbstractSwapOperator, FullReplacement, SharedDims, interchange
from mas_hooks.alignment.maps import AbstractMap, MapSpec
from mas_hooks.alignment.maps.init import identity_frame, random_frame
from mas_hooks.alignment.plan import Direction, Plan
from mas_hooks.alignment.resolved_direction import (
    ResolvedDirection,
    model_of_site,
    needs_sequential_swap,
    require_runnable,
)
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
    """Make one map per site, at the identity or at random; starts from data are set when a fit begins.

    Args:
        spec: the specification of every map.
        sites: the sites, in order.
        seed: of random starts, which differ between sites.

    Returns:
        The maps in the order of the sites.

    Raises:
        RankError: a site has fewer units than the maps have dims.
    """
    maps = nn.ModuleList()
    for index, site in enumerate(sites):
        site_map = spec.make(site.width, str(site))
        site_map.start(_first_frame(spec, site.width, 1_000 * seed + index))
        maps.append(site_map)
    return maps


def _first_frame(spec: MapSpec, width: int, seed: int) -> Tensor:
    if spec.init == "identity":
        return identity_frame(width, spec.total)
    return random_frame(width, spec.total, torch.Generator().manual_seed(seed))


def build_transports(
    spec: TransportSpec, sites: Sequence[Site | Recording], directions: Sequence[Direction], seed: int
) -> nn.ModuleDict:
    """Make one transport per direction.

    Args:
        spec: the specification of every transport.
        sites: the sites, in order.
        directions: the ordered pairs of sites that get a transport.
        seed: of random starts, which differ between directions.

    Returns:
        The transports, each under the name `source_target`.

    Raises:
        RankError: the rank does not fit two sites.
        UnsupportedError: an identity is asked for between sites of unequal widths.
    """
    transports = nn.ModuleDict()
    for number, direction in enumerate(directions):
        source, target = sites[direction.source], sites[direction.target]
        transport = spec.make(source.width, target.width, f"{source} → {target}")
        generator = torch.Generator().manual_seed(1_000 * seed + number)
        transport.start(spec.draw_start(source.width, target.width, generator))
        transports[f"{direction.source}_{direction.target}"] = transport
    return transports


class Alignment(nn.Module):
    """The maps of a set of sites, in order, or the transports of ordered pairs of them; sites are numbered from 0.

    The plan is MAS, for one site DAS; `Alignment.from_plan` takes any other.

    Args:
        sites: from `HookedModel.at`, or recordings.
        rank: how many dims the sites share.
        seed: of the random start.
        spec: further fields of `MapSpec`: subspaces (in place of rank), kind, parametrization, scale, centre, zscore,
            init.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> def language_model(width, name):
        ...     return mh.wrap(torch.nn.Sequential(torch.nn.Embedding(5, width), torch.nn.Linear(width, 5)), name=name)
        >>> sites = [language_model(4, "wide").at("0"), language_model(3, "narrow").at("0")]
        >>> alignment = mh.Alignment(sites, rank=2)
        >>> alignment.names, alignment.k, alignment.plan.method
        (['wide', 'narrow'], 2, 'mas')
        >>> alignment.interchange(torch.zeros(6, 3), torch.ones(6, 4), target=1, source=0).shape
        torch.Size([6, 3])
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
        """Make the alignment that a method asks for.

        Args:
            plan: the method, with a map specification or a transport.
            sites: as many as the method takes, in order.
            seed: of the random start.

        Returns:
            An alignment at its start.

        Raises:
            SettingError: the plan has no map specification, or takes another number of sites.
        """
        alignment = cls.__new__(cls)
        nn.Module.__init__(alignment)
        alignment._build(plan, sites, seed)
        return alignment

    def _build(self, plan: Plan, sites: Sequence[Site | Recording], seed: int) -> None:
        if not sites:
            raise EmptyError("the list of sites", "give at least one, from model.at(name)")
        if plan.maps is None and plan.transport is None:
            raise SettingError("plan.maps", None, "a MapSpec, for example MapSpec(rank=16)")
        trained = plan.trained_directions(len(sites))  # refuses a number of sites that the method does not take
        self.plan, self.sites, self.seed = plan, tuple(sites), seed
        named_models = zip(self.models, self.names, strict=True)
        devices = {name: str(model.device) for model, name in named_models if model is not None}
        if len(set(devices.values())) > 1:
            raise DeviceError.several(devices)
        self.maps = nn.ModuleList() if plan.maps is None else build_maps(plan.maps, sites, seed)
        self.transports = nn.ModuleDict()
        if plan.transport is not None:
            self.transports = build_transports(plan.transport, sites, trained, seed)
        if devices:
            self.to(next(iter(devices.values())))

    def extend(self, sites: Site | Recording | Sequence[Site | Recording], seed: int | None = None) -> Alignment:
        """Return a new alignment of these sites and further ones; this one stays as it is.

        The new alignment holds copies of the maps so far, and the others at their start. The further sites are
        numbered on from the old. To put new models into a space that is already fitted, give `frozen=range(n)` to
        `fit`, n being the sites so far. seed: of new random starts; None for that of this one.
        Raises SettingError where the method does not take so many sites.
        """
        further = [sites] if isinstance(sites, Site | Recording) else list(sites)
        if not further:
            raise EmptyError("the list of further sites", "give at least one, from model.at(name)")
        extended = Alignment.from_plan(self.plan, [*self.sites, *further], self.seed if seed is None else seed)
        extended.to(next(self.buffers()).dtype).load_state_dict(self.state_dict(), strict=False)
        return extended

    def set_frames(self, frames: Sequence[Float[Tensor, "_width rank"]]) -> None:
        """Set where every map begins."""
        for site_map, frame in zip(self.site_maps, frames, strict=True):
            site_map.start(frame)

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

    @property
    def init(self) -> str:
        """Where the maps or transports begin."""
        return self.spec.init if self.plan.transport is None else self.plan.transport.init

    @property
    def direction_transports(self) -> dict[Direction, AbstractTransport]:
        """The transport of each ordered pair that has one."""
        named = {Direction(*map(int, key.split("_"))): transport for key, transport in self.transports.items()}
        return {direction: each for direction, each in named.items() if isinstance(each, AbstractTransport)}

    @property
    def site_maps(self) -> list[AbstractMap]:
        """The map of each site, in order."""
        return [site_map for site_map in self.maps if isinstance(site_map, AbstractMap)]

    @property
    def models(self) -> list[HookedModel | None]:
        """The handle of each site's model; None for a recording."""
        return [model_of_site(site) for site in self.sites]

    @property
    def names(self) -> list[str]:
        """The models' names, numbered where two are the same."""
        names = [site.name if isinstance(site, Recording) else site.model.name for site in self.sites]
        return names if len(set(names)) == len(names) else [f"{name}-{index}" for index, name in enumerate(names)]

    def site(self, index: int) -> Site | Recording:
        """The site of that number. Raises SettingError where there is none."""
        if not 0 <= index < len(self.sites):
            raise SettingError("the number of a site", index, f"one of 0 to {len(self.sites) - 1}")
        return self.sites[index]

    def swap_operator(self) -> AbstractSwapOperator:
        """Evaluate every map or transport: once per optimiser step, then handed to every use."""
        if self.plan.transport is not None:
            transports = self.direction_transports
            return FullReplacement({direction: transport.view() for direction, transport in transports.items()})
        return SharedDims([site_map.view() for site_map in self.site_maps], self.spec)

    def directions(self) -> list[Direction]:
        """Every direction in which something can be swapped and run: of a stitch those with a way there or back."""
        models = range(len(self.sites))
        every = [Direction(source, target) for source in models for target in models]
        stitched, spec = set(self.direction_transports), self.plan.transport
        if spec is not None and spec.layer_norm == "none":
            stitched |= {Direction(direction.target, direction.source) for direction in stitched}
        able = every if spec is None else [direction for direction in every if direction in stitched]
        return [direction for direction in able if not isinstance(self.sites[direction.target], Recording)]

    def resolve(self, direction: Direction, pairs: Directed, subspace: str | None = None) -> ResolvedDirection:
        """Look up all that the swaps of a direction need, once.

        Args:
            direction: the numbers of the two sites.
            pairs: one set for every direction, or sets by (source, target).
            subspace: the named block that is swapped; None for all of them.

        Returns:
            Sites, pairs, and whether the swaps of a sequence have to be made one by one.

        Raises:
            SettingError: a site of that number is not there.
            UnknownNameError: there are no pairs of this direction, or no subspace of this name.
        """
        source_site, target_site = self.site(direction.source), self.site(direction.target)
        chosen, model = of_direction(pairs, *direction), model_of_site(target_site)
        sequential = False
        if model is not None and isinstance(target_site, Site):
            swapped_width = _swapped_width(self.plan, target_site.width, subspace)
            sequential = needs_sequential_swap(model, target_site, chosen, swapped_width)
        return ResolvedDirection(direction, source_site, target_site, chosen, sequential)

    def interchange(
        self,
        h_target: Float[Tensor, "n width_t"],
        h_source: Float[Tensor, "n width_s"],
        *,
        target: int,
        source: int,
        subspace: str | None = None,
    ) -> Float[Tensor, "n width_t"]:
        """Replace the aligned dims of `h_target` by those of `h_source` (Grant 2025, eq. 4).

        Args:
            h_target: vectors that receive.
            h_source: vectors that give, one for each of the target's.
            target: the number of the site that receives.
            source: the number of the site that gives.
            subspace: the named block to swap; None for all of them.

        Returns:
            The swapped vectors in the target's own space, computed in float32.

        Raises:
            SettingError: a site of that number is not there.
            UnknownNameError: a stitch has no transport there or back, or the maps no subspace of this name.
            UnsupportedError: a stitch is asked for a subspace, or `extra` is swapped between sites of unequal widths.
        """
        site_t, site_s = self.site(target), self.site(source)
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
        """Make the swap a hook on the target model.

        Args:
            target: the number of the site that receives.
            source: the number of the site that gives.
            vectors: the source's; the i-th cell of `where` receives from the i-th of them.
            where: the target's cells.
            subspace: the named block to swap; None for all of them.

        Returns:
            An edit for `HookedModel.run_with_hooks` or `HookedModel.edits`.

        Raises:
            SettingError: a site of that number is not there.
            UnsupportedError: the target is a recording, which cannot be run.
        """
        _, site = require_runnable(self.site(target))

        def swap(h: Tensor, given: Tensor) -> Tensor:
            home = next(self.buffers()).device  # a model spread over devices may fire on another
            swapped = self.interchange(h.to(home), given.to(home), target=target, source=source, subspace=subspace)
            return swapped.to(h.device)

        return Edit(site, swap, where, vectors)

    def run(
        self, pairs: Directed, *, source: int, target: int, subspace: str | None = None, path: str = "auto"
    ) -> PatchedForward:
        """Run one patched forward over all pairs of a direction, with gradient to the maps where gradients are on.

        Args:
            pairs: one set for every direction, or sets by (source, target).
            source: the number of the site that gives.
            target: the number of the site that receives.
            subspace: the named block to swap; None for all of them.
            path: `auto` runs only what the swap can change, where that is proven equal; `reference` the whole forward.

        Returns:
            Logits and labels at the wanted positions, the swapped vectors, and the path that was taken.

        Raises:
            SettingError: a site of that number or a path of that name is not there.
            UnknownNameError: there are no pairs of this direction, or no subspace of this name.
            UnsupportedError: the target is a recording, which cannot be run.
        """
        self.site(source)
        model, site = require_runnable(self.site(target))
        resolved = self.resolve(Direction(source, target), pairs, subspace)
        chosen, one_by_one = resolved.pairs, resolved.sequential
        cache, index = ActivationCache(self.sites, self.models), torch.arange(len(chosen))
        swap = partial(self.interchange, target=target, source=source, subspace=subspace)
        runner = choose_runner(model, site, chosen, path, one_by_one=one_by_one)
        if one_by_one:
            out = runner.run([PatchBatch(chosen, index, cache.source(source, chosen), swap)])
            return PatchedForward(out.logits, out.labels, out.row, None, runner.name)
        vectors = swap(cache.target(target, chosen), cache.source(source, chosen))
        out = runner.run([PatchBatch(chosen, index, vectors)])
        return PatchedForward(out.logits, out.labels, out.row, vectors, runner.name)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write config.json and model.safetensors, whole or not at all. The folder holds no device and no model."""
        serialization.save_alignment(folder, self.plan, self.sites, self.seed, self.state_dict())

    @classmethod
    def from_pretrained(cls, folder: Path | str, models: Sequence[HookedModel | Recording]) -> Alignment:
        """Load an alignment onto its models, given in the order of its sites.

        Raises CheckpointError for a folder that is damaged, foreign, or does not fit the models.
        """
        plan, sites, seed, tensors = serialization.load_alignment(folder, models)
        alignment = cls.from_plan(plan, sites, seed)
        serialization.check_tensors(folder, alignment.state_dict(), tensors)
        alignment.to(next(iter(tensors.values())).dtype).load_state_dict(tensors)
        return alignment


def _swapped_width(plan: Plan, width: int, subspace: str | None) -> int:
    """How many dims of a target's vector a swap decides: a stitch all of them, whatever its rank."""
    if plan.maps is None or plan.transport is not None:
        return width
    return len(range(width)[plan.maps.block(subspace, width)])
