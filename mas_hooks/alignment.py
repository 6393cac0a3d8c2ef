"""An alignment: one map per site into a shared space, and the swaps it makes possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mas_hooks import checkpoints
from mas_hooks.engine.cache import ActivationCache
from mas_hooks.engine.run import Part, runner
from mas_hooks.errors import CheckpointError, DeviceError, EmptyError, SettingError, UnsupportedError
from mas_hooks.hooks.handle import HookedModel
from mas_hooks.hooks.taps import Edit
from mas_hooks.interventions import interchange
from mas_hooks.maps import AbstractMap, AbstractView, MapSpec
from mas_hooks.maps.starts import identity_frame, random_frame
from mas_hooks.pairs import Directed, of_direction
from mas_hooks.plan import Plan
from mas_hooks.sites import Recording, Site, Where

KIND = "mas_hooks.alignment"


@dataclass(frozen=True, eq=False)
class Patched:
    """One patched forward.

    logits (m, vocabulary), labels (m,), pair (m,): at the labelled cells, and which pair each belongs to.
    vectors (n, width): what was put at the target cells. path: `tail` or `reference`, as it was run.
    """

    logits: Float[Tensor, "m vocabulary"]
    labels: Int[Tensor, " m"]
    pair: Int[Tensor, " m"]
    vectors: Float[Tensor, "n width"]
    path: str


class Alignment(nn.Module):
    """The maps of a set of sites, in order; sites are numbered from 0.

    sites: from `HookedModel.at`, or recordings. The keywords are those of `MapSpec`: rank or subspaces, kind,
    parametrization, scale, centre, zscore, init. seed: of the random start. The default plan is MAS (DAS for one site).
    """

    def __init__(self, sites: Sequence[Site | Recording], rank: int | None = None, *, seed: int = 0, **spec: Any):
        super().__init__()
        method = "das" if len(sites) == 1 else "mas"
        self._build(Plan(method=method, maps=MapSpec(rank=rank, **spec)), sites, seed)

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
        if plan.maps is None:
            raise SettingError("plan.maps", None, "a MapSpec, for example MapSpec(rank=16)")
        devices = {str(site): str(_handle(site).device) for site in sites if isinstance(site, Site)}
        if len(set(devices.values())) > 1:
            raise DeviceError.several(devices)
        self.plan, self.spec, self.sites, self.seed = plan, plan.maps, tuple(sites), seed
        self.maps = nn.ModuleList([self.spec.make(site.width, str(site)) for site in sites])
        self.start([self._first_frame(index, site.width) for index, site in enumerate(sites)])
        if devices:
            self.to(next(iter(devices.values())))

    def _first_frame(self, index: int, width: int) -> Tensor:
        if self.spec.init == "identity":
            return identity_frame(width, self.spec.total)
        return random_frame(width, self.spec.total, torch.Generator().manual_seed(1_000 * self.seed + index))

    def start(self, frames: Sequence[Float[Tensor, "width rank"]]) -> None:
        """Set where every map begins."""
        for one, frame in zip(self.own_maps, frames, strict=True):
            one.start(frame)

    @property
    def own_maps(self) -> list[AbstractMap]:
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
        """Every map evaluated: once per optimiser step, then handed to every use."""
        return [one.view() for one in self.own_maps]

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
        view_t, view_s = self.own_maps[target].view(), self.own_maps[source].view()
        dims = self.spec.block(subspace, self.sites[target].width)
        return interchange(h_target, h_source, view_t, view_s, dims)

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
        site = self.sites[target]
        if isinstance(site, Recording):
            raise UnsupportedError(f"an edit of recording {site.name!r}", "swap into a model that can be run")

        def swap(h: Tensor, given: Tensor) -> Tensor:
            return self.interchange(h, given, target=target, source=source, subspace=subspace)

        return Edit(site, swap, where, vectors)

    def run(
        self, pairs: Directed, *, source: int, target: int, subspace: str | None = None, path: str = "auto"
    ) -> Patched:
        """One patched forward over all pairs of a direction, with gradient to the maps where gradients are on.

        path: `auto` runs only what the swap can change, where that is proven equal; `reference` the whole forward.
        """
        own = of_direction(pairs, source, target)
        model, site = runnable(self, target)
        cache = ActivationCache(self.sites, self.models)
        vectors = self.interchange(
            cache.target(target, own), cache.source(source, own), target=target, source=source, subspace=subspace
        )
        chosen = runner(model, site, own, path)
        out = chosen.run([Part(own, torch.arange(len(own)), vectors)])
        return Patched(out.logits, out.labels, out.row, vectors, chosen.name)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write config.json and model.safetensors, whole or not at all. The folder holds no device and no model."""
        sites = [
            {"model": None, "name": site.name, "side": None, "width": site.width}
            if isinstance(site, Recording)
            else {"model": site.model.name, "name": site.name, "side": site.side, "width": site.width}
            for site in self.sites
        ]
        config = {"plan": self.plan.model_dump(mode="json"), "sites": sites, "seed": self.seed}
        checkpoints.save(folder, KIND, config, self.state_dict())

    @classmethod
    def from_pretrained(cls, folder: Path | str, models: Sequence[HookedModel | Recording]) -> Alignment:
        """Load an alignment onto its models, given in the order of its sites.

        Raises CheckpointError for a folder that is damaged, foreign, or does not fit the models.
        """
        config, tensors = checkpoints.load(folder, KIND)
        named = config["sites"]
        if len(models) != len(named):
            raise CheckpointError(folder, f"aligns {len(named)} sites, not {len(models)}", "give one model per site")
        sites = [_site(folder, entry, model) for entry, model in zip(named, models, strict=True)]
        made = cls.from_plan(Plan(**config["plan"]), sites, config["seed"])
        expected = {name: tuple(tensor.shape) for name, tensor in made.state_dict().items()}
        if expected != {name: tuple(tensor.shape) for name, tensor in tensors.items()}:
            raise CheckpointError(folder, "holds other tensors than its config asks for", "write it anew")
        made.load_state_dict(tensors)
        return made


def _handle(site: Site) -> HookedModel:
    """The handle of a site. Sites see it as a Protocol, so that they can lie below it."""
    if not isinstance(site.model, HookedModel):
        raise SettingError("the model of a site", site.model, "a handle made by wrap()")
    return site.model


def _site(folder: Path | str, entry: dict[str, Any], model: HookedModel | Recording) -> Site | Recording:
    if isinstance(model, Recording) != (entry["model"] is None):
        kind = "a recording" if entry["model"] is None else "a model"
        raise CheckpointError(folder, f"has {kind} at site {entry['name']!r}", "give the sites in the saved order")
    site = model if isinstance(model, Recording) else model.at(entry["name"], entry["side"], entry["width"])
    if site.width != entry["width"]:
        problem = f"aligns site {entry['name']!r} of width {entry['width']}, the given one has {site.width}"
        raise CheckpointError(folder, problem, "give the models it was fitted on")
    return site


def runnable(alignment: Alignment, target: int) -> tuple[HookedModel, Site]:
    """The model and site of a target. Raises UnsupportedError for a recording, which cannot be run."""
    site = alignment.sites[target]
    if isinstance(site, Recording):
        raise UnsupportedError(
            f"a swap into recording {site.name!r}", "train only into models that run, for example methods.unimas()"
        )
    return _handle(site), site
