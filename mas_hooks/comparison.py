"""One comparison of toys as data, so that it can run in a process of its own, be interrupted and be resumed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from mas_hooks.alignment import Alignment
from mas_hooks.controls import RandomMaps, ShuffledLabels, Untrained
from mas_hooks.errors import SettingError
from mas_hooks.evaluate import Control, evaluate
from mas_hooks.fit import fit
from mas_hooks.fit_loop import FitSettings
from mas_hooks.hooks.wrap import wrap
from mas_hooks.maps import MapSpec
from mas_hooks.pairs import Directed, task_pairs
from mas_hooks.plan import Plan
from mas_hooks.records import Record
from mas_hooks.settings import Settings
from mas_hooks.tasks import Party, task
from mas_hooks.trained import ToySettings, toy

ControlName = Literal["untrained", "shuffled_labels", "random_maps"]


class Comparison(Settings):
    """Which toys, at which site, on which variables, by which method.

    variables: one per toy. sizes: training, validation and test pairs. seed: of pairs and maps.
    """

    toys: tuple[ToySettings, ...]
    site: str = "state"
    variables: tuple[str, ...]
    plan: Plan
    maps: MapSpec
    fit: FitSettings = FitSettings()
    sizes: tuple[int, int, int] = (10_000, 1_000, 1_000)
    controls: tuple[ControlName, ...] = ()
    device: str = "cpu"
    seed: int = 0

    @model_validator(mode="after")
    def _fits(self) -> Comparison:
        """Everything that would fail after the toys are trained fails here."""
        if len(self.variables) != len(self.toys):
            raise SettingError("variables", self.variables, f"one per toy, {len(self.toys)}")
        for own, variable in zip(self.toys, self.variables, strict=True):
            Party(task(own.task, **own.task_settings), variable)
            self.maps.make(own.width, f"the state of {own.name}, which has {own.width} units")
        if min(self.sizes) < 1:
            raise SettingError("sizes", self.sizes, "three numbers of pairs, 1 or more each")
        self.plan.directions(len(self.toys))
        return self


@dataclass(frozen=True)
class Work:
    """A comparison, where its interrupted state lies, and where the fitted alignment goes."""

    name: str
    comparison: Comparison
    state: Path
    alignment: Path
    progress: bool = True


def run(work: Work) -> list[Record]:
    """Fit and test; the curve first (split="valid"), then the final rows and those of the controls.

    Continues where an interrupted run of the same work left off, and ends with the same numbers.
    """
    own = work.comparison
    toys = [toy(settings, progress=work.progress) for settings in own.toys]
    models = [one.model.to(own.device) for one in toys]
    named = zip(models, own.toys, toys, strict=True)
    sites = [wrap(model, name=asked.name, layer_path=one.layer_path).at(own.site) for model, asked, one in named]
    train, valid, test = task_pairs([one.task for one in toys], own.variables, own.sizes, own.seed)
    alignment = Alignment.from_plan(own.plan.model_copy(update={"maps": own.maps}), sites, own.seed)
    done = fit(alignment, own.plan, train, valid, own.fit, folder=work.state, resume=True, progress=work.progress)
    alignment.save_pretrained(work.alignment)
    table = evaluate(alignment, test, _controls(own, train, valid))
    final = [replace(row, seconds=None if row.control else round(done.seconds, 3)) for row in table.rows]
    return [replace(row, **_keys(own)) for row in (*done.curve, *final)]


def _controls(own: Comparison, train: Directed, valid: Directed) -> list[Control]:
    make: dict[str, Control] = {
        "random_maps": RandomMaps(own.seed),
        "untrained": Untrained(train, valid, own.fit, own.seed),
        "shuffled_labels": ShuffledLabels(train, valid, own.fit, own.seed),
    }
    return [make[name] for name in own.controls]


def _keys(own: Comparison) -> dict[str, str | int]:
    """What every record of a comparison says of it."""
    tasks, variables = (" / ".join(dict.fromkeys(names)) for names in ((t.task for t in own.toys), own.variables))
    return {"task": tasks, "variable": variables, "seed": own.seed}
