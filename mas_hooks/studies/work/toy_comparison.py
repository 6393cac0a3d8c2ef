"""One comparison of toys as data. It can run in a separate process, be interrupted and be resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from pydantic import model_validator

from mas_hooks.alignment import Alignment, Plan
from mas_hooks.core.errors import SettingError
from mas_hooks.core.memory import ProcessCache
from mas_hooks.core.parallel import Work
from mas_hooks.core.records import Record
from mas_hooks.core.settings import Settings
from mas_hooks.core.sites import Site
from mas_hooks.data.counterfactual_latents import natural_cells
from mas_hooks.data.pairs import Pairs
from mas_hooks.data.task_pairs import task_pairs
from mas_hooks.data.tasks import AbstractTask, task
from mas_hooks.engine import SharedActivations, share_activations
from mas_hooks.evaluation import evaluate
from mas_hooks.hooks import HookedModel, wrap
from mas_hooks.models.toys import MODELS, Architecture, ToyModel, ToySettings, load_toy
from mas_hooks.training import ControlName, Fit, FitSettings, controls_by_name, fit


class ToyComparison(Settings):
    """Which toys, at which sites, on which variables, by which method.

    sites, variables: one per toy. plan: with its maps or its transport. stepwise: every position up to the intervened
    one is swapped. sizes: training, validation and test pairs. seed: of pairs and maps.
    """

    toys: tuple[ToySettings, ...]
    sites: tuple[str, ...]
    variables: tuple[str, ...]
    plan: Plan
    stepwise: bool = False
    fit: FitSettings = FitSettings()
    sizes: tuple[int, int, int] = (10_000, 1_000, 1_000)
    controls: tuple[ControlName, ...] = ()
    device: str = "cpu"
    seed: int = 0

    @model_validator(mode="after")
    def _check_values(self) -> ToyComparison:
        """Raise SettingError for what would fail after the toys are trained; no toy is built for this check."""
        for name, given in (("variables", self.variables), ("sites", self.sites)):
            if len(given) != len(self.toys):
                raise SettingError(name, given, f"a list of {len(self.toys)}, one per toy")
        if min(self.sizes) < 1:
            raise SettingError("sizes", self.sizes, "three numbers of pairs, 1 or more each")
        self.draw_pairs([task(toy.task, **toy.task_settings) for toy in self.toys], (1, 1, 1))
        self._check_plan()
        return self

    def _check_plan(self) -> None:
        """Refuse a plan that does not fit the number of toys or the widths of their sites."""
        if self.plan.maps is None and self.plan.transport is None:
            raise SettingError("plan.maps", None, "a MapSpec, for example MapSpec(rank=16)")
        directions = self.plan.trained_directions(len(self.toys))
        named = zip(self.toys, self.names, self.sites, strict=True)
        ends = [(_site_width(toy.cell, toy.width, name, site), f"{name}:{site}") for toy, name, site in named]
        if self.plan.maps is not None:
            for width, name in ends:
                self.plan.maps.make(width, name)
        if self.plan.transport is not None:
            for (source, a), (target, b) in ((ends[way.source], ends[way.target]) for way in directions):
                self.plan.transport.make(source, target, f"{a} → {b}")

    @property
    def names(self) -> list[str]:
        """The names of the toys: `gru-0`, after its task where the toys have different tasks."""
        several = len({toy.task for toy in self.toys}) > 1
        return [f"{toy.task} {toy.name}" if several else toy.name for toy in self.toys]

    def wrap_toys(self, models: Sequence[ToyModel]) -> list[HookedModel]:
        """Handles of models of these toys, by the names of this comparison."""
        parts = zip(models, self.toys, self.names, strict=True)
        return [wrap(model, name=name, layer_path=MODELS[toy.cell].layer_path) for model, toy, name in parts]

    def draw_pairs(
        self, tasks: Sequence[AbstractTask[Any]], sizes: tuple[int, int, int]
    ) -> tuple[Mapping[tuple[int, int], Pairs], ...]:
        """Training, validation and test pairs."""
        return task_pairs(tasks, self.variables, sizes, self.seed, stepwise=self.stepwise)


@cache
def _site_width(cell: Architecture, width: int, name: str, site: str) -> int:
    """The width of a site of a kind of toy, read from an untrained toy of a single token; once in a process.

    Raises UnknownNameError, with the nearest name, for a site that this kind lacks.
    """
    with torch.random.fork_rng(devices=[]):
        bare = MODELS[cell].make(1, width, dropout=0.0)
    return wrap(bare.eval(), name=name, layer_path=MODELS[cell].layer_path).at(site).width


def run_toy_comparison(work: Work[ToyComparison]) -> list[Record]:
    """Fit and test; the curve first (split="valid"), then the final rows and those of the controls.

    Continues where an interrupted run of the same work left off, and ends with the same numbers.
    """
    comparison, shared = work.comparison, _prepare(work.comparison, progress=work.progress)
    train, valid, test = shared.sets
    alignment = Alignment.from_plan(comparison.plan, shared.sites, comparison.seed)
    inaccessible = {way.target for way in comparison.plan.latent_directions(len(shared.sites))}
    latents = {index: natural_cells(shared.tasks[index], seed=comparison.seed) for index in sorted(inaccessible)}
    kept, shown = work.state, work.progress
    with share_activations(shared.activations):
        fitted = fit(
            alignment, comparison.plan, train, valid, comparison.fit, latents=latents, folder=kept, progress=shown
        )
        alignment.save_pretrained(work.alignment)
        controls = controls_by_name(comparison.controls, (train, valid), comparison.fit, comparison.seed, latents)
        table = evaluate(alignment, test, controls)
    final = [replace(row, seconds=None if row.control else round(fitted.seconds, 3)) for row in table.rows]
    if latents:
        final.append(_dropped_record(comparison, fitted))
    return [replace(row, **_keys(comparison)) for row in (*fitted.curve, *final)]


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What comparisons of the same toys, sites and variables share, whatever their method."""

    tasks: list[AbstractTask[Any]]
    sites: list[Site]
    sets: tuple[Mapping[tuple[int, int], Pairs], ...]
    activations: SharedActivations = field(default_factory=SharedActivations)


_PREPARED = ProcessCache[_Prepared]()


def _prepare(comparison: ToyComparison, *, progress: bool) -> _Prepared:
    """Load or reuse what the comparison needs; the process keeps the latest."""
    key = comparison.model_dump_json(include={"toys", "sites", "variables", "stepwise", "sizes", "device", "seed"})

    def make() -> _Prepared:
        toys = [load_toy(settings, progress=progress) for settings in comparison.toys]
        tasks = [toy.task for toy in toys]
        models = comparison.wrap_toys([toy.model.to(comparison.device) for toy in toys])
        sites = [model.at(site) for model, site in zip(models, comparison.sites, strict=True)]
        return _Prepared(tasks, sites, comparison.draw_pairs(tasks, comparison.sizes))

    return _PREPARED.get(key, make)


def _dropped_record(comparison: ToyComparison, fitted: Fit) -> Record:
    """How many training pairs found no counterfactual latent, out of how many."""
    pairs = len(comparison.plan.latent_directions(len(comparison.toys))) * comparison.sizes[0]
    described = Record(
        comparison=" × ".join(comparison.names), method=comparison.plan.method, split="train", measure="latents_dropped"
    )
    return replace(described, value=float(fitted.latents_dropped), trials=pairs)


def _keys(comparison: ToyComparison) -> dict[str, str | int]:
    """What every record of a comparison says of it."""
    tasks, variables = (
        " / ".join(dict.fromkeys(names)) for names in ((toy.task for toy in comparison.toys), comparison.variables)
    )
    return {"task": tasks, "variable": variables, "seed": comparison.seed}
