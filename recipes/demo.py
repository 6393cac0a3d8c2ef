"""Train two GRUs to count, align them by cause, and show what they share: the main job on an embedded default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import model_validator
from rich.console import Console

import mas_hooks as mh
from mas_hooks import correlations, report
from mas_hooks.comparison import Comparison, ControlName
from mas_hooks.fit_loop import FitSettings
from mas_hooks.maps.spec import Init
from mas_hooks.records import Record
from mas_hooks.run_folder import RunFolder
from mas_hooks.settings import Settings as Base
from mas_hooks.shipped import Options
from mas_hooks.study import accuracy, run_comparisons, tell_files, train_toys
from mas_hooks.toys.training import TrainSettings
from mas_hooks.trained import ToySettings


class Settings(Base):
    """Settings of the demo."""

    seed: int = 0
    """Of models, pairs and maps."""
    task: str = "multi_object"
    """What the two models learn."""
    width: int = 48
    """Units of each model's state."""
    rank: int = 16
    """Aligned dims out of width."""
    init: Init = "random"
    """The start whose maps are tested (`random` is the paper's); the other one is trained too, for the curves."""
    sizes: tuple[int, int, int] = (10_000, 1_000, 1_000)
    """Training, validation and test pairs."""
    controls: tuple[ControlName, ...] = ("random_maps", "untrained")
    """Refits of MAS where there is nothing to find."""
    training: TrainSettings = TrainSettings()
    fit: FitSettings = FitSettings(validate_every=20, patience=8)

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        """A setting that fits no comparison is told before anything is trained."""
        comparisons(self, "cpu")
        return self


def comparisons(settings: Settings, device: str) -> dict[str, Comparison]:
    """What is fitted, longest first: MAS between the two models from both starts, DAS within each."""
    seeds = (2 * settings.seed, 2 * settings.seed + 1)
    schedules = [settings.training.model_copy(update={"seed": seed}) for seed in seeds]
    toys = tuple(ToySettings(task=settings.task, width=settings.width, training=own) for own in schedules)
    other: Init = "procrustes" if settings.init == "random" else "random"
    planned = {}
    for variable in ("full", "count"):
        for init in (settings.init, other):
            maps = mh.MapSpec(rank=settings.rank, init=init, centre=True)
            planned[f"mas-{variable}-{init}"] = (toys, variable, mh.methods.mas(maps))
        for own in toys:
            maps = mh.MapSpec(rank=settings.rank, init=settings.init, centre=True)
            planned[f"das-{variable}-{own.name}"] = ((own,), variable, mh.methods.das(maps))
    return {
        name: Comparison(
            toys=own,
            sites=("state",) * len(own),
            variables=(variable,) * len(own),
            plan=plan,
            fit=settings.fit,
            sizes=settings.sizes,
            controls=settings.controls if plan.method == "mas" and plan.init == settings.init else (),
            device=device,
            seed=settings.seed,
        )
        for name, (own, variable, plan) in planned.items()
    }


def main(settings: Settings, run: RunFolder, options: Options) -> None:
    """Run every stage that is not done yet, then print the table and draw the figures."""
    planned = comparisons(settings, options.device)
    toys = planned[f"mas-full-{settings.init}"].toys
    models = [own.name for own in toys]
    trained = [accuracy(own, one) for own, one in train_toys(toys, options)]
    run.finish("toys", keep(sorted(trained, key=lambda row: str(row.source_model)), models, final=True))
    if run.finished("correlations") is None:
        run.finish(
            "correlations", keep(correlations.correlate(toys, ["state"] * len(toys), settings.seed), models, final=True)
        )
    for name, rows in run_comparisons(planned, run, options):
        run.finish(name, keep(rows, models, final=planned[name].plan.init == settings.init))
    rows = run.write_records([*planned, "correlations", "toys"])
    Console().print(report.table(rows))
    tell_files(report.draw(run.path))


def keep(rows: list[Record], models: Sequence[str], *, final: bool) -> list[Record]:
    """The rows as those of one comparison, DAS within each model included; test rows only of the settings' start."""
    told = {"recipe": "demo", "comparison": " × ".join(models)}
    number = {name: index for index, name in enumerate(models)}
    kept = [row for row in rows if final or row.split != "test"]
    ways = [(number[str(row.source_model)], number[str(row.target_model)]) for row in kept]
    return [replace(row, source=way[0], target=way[1], **told) for row, way in zip(kept, ways, strict=True)]
