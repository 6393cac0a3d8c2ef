"""Regenerate the figures of the Model Alignment Search paper on numeric tasks, beside what the paper says.

Writes one PNG a panel and `figures.md`, a table *ours | paper | agrees?*. Every toy is trained once and kept in the
cache; every fit runs once, however many panels show it. All fits begin at random orthonormal maps, as the paper's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import Field, model_validator

from mas_hooks import records
from mas_hooks.errors import SettingError
from mas_hooks.fit_loop import FitSettings
from mas_hooks.progress import say
from mas_hooks.run_folder import RECORDS, SETTINGS, RunFolder, read_json
from mas_hooks.settings import Settings as Base
from mas_hooks.shipped import Options, beside
from mas_hooks.study import accuracy, run_comparisons, tell_files, train_toys
from mas_hooks.toys.training import TrainSettings

fits: Any = beside(__file__, "_figures_fits")
panels: Any = beside(__file__, "_figures_panels")
work: Any = beside(__file__, "_figures_work")
drawing: Any = beside(__file__, "_figures_drawing")

FULL = FitSettings(validate_every=20)
QUICK = FitSettings(batch_size=256, learning_rate=1e-2, validate_every=20, patience=5, min_gain=0.005)
Letter = Literal["a", "b", "c", "d", "e", "f", "g"]


class Settings(Base):
    """Settings of the figures. What is None is decided by --quick."""

    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """One seed, fewer sizes, controls once a panel, and fits that stop earlier: about 20 minutes on 2 cores."""
    panels: tuple[Letter, ...] = ("a", "b", "c", "d", "e", "f", "g")
    """Which panels."""
    seed: int = 0
    """The first seed: of models, pairs and maps."""
    seeds: int | None = Field(default=None, ge=1)
    """How many seeds, each with models of its own (default 5, quick 1)."""
    ranks: tuple[int, ...] | None = None
    """Subspace sizes of panel b (default 1 2 4 8 16 32 48, quick 1 2 4 8 16 48)."""
    controls: Literal["headlines", "every"] | None = None
    """Controls beside the main fits of each panel, or beside every one (default every, quick headlines)."""
    sizes: tuple[int, int, int] = (10_000, 1_000, 1_000)
    """Training, validation and test pairs."""
    width: int = 48
    """Units of every model."""
    scale: Literal["fixed", "learned"] = "fixed"
    """Of the maps: 1, or a learned positive number per map (the early text of the paper)."""
    training: TrainSettings = TrainSettings()
    """Of the toys; Arithmetic has its own where this is left as it is."""
    fit: FitSettings = FULL
    """Of the maps: the paper's; --quick learns faster and stops earlier where this is left as it is."""

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        """A setting that fits no comparison is told before anything is trained."""
        if not self.panels:
            raise SettingError("panels", (), "one or more of a to g")
        self.marks()
        return self

    def of_seed(self, seed: int) -> Any:
        """What makes the fits of one seed."""
        quick = self.quick
        return fits.Fits(
            seed=seed,
            settings=QUICK if quick and self.fit == FULL else self.fit,
            sizes=self.sizes,
            ranks=self.ranks or ((1, 2, 4, 8, 16, 48) if quick else (1, 2, 4, 8, 16, 32, 48)),
            controls=self.controls or ("headlines" if quick else "every"),
            width=self.width,
            scale=self.scale,
            training=self.training,
        )

    def every_seed(self) -> list[Any]:
        """The same for all seeds."""
        count = self.seeds or (1 if self.quick else 5)
        return [self.of_seed(seed) for seed in range(self.seed, self.seed + count)]

    def marks(self) -> list[Any]:
        """Everything that is shown, over panels and seeds."""
        own = [(panels.PANELS[letter], one) for one in self.every_seed() for letter in dict.fromkeys(self.panels)]
        return [mark for make, one in own for mark in fits.with_controls(one, list(make(one)))]


def main(settings: Settings, run: RunFolder, options: Options) -> None:
    """Train every toy once, run every fit once, then draw the panels and compare with the paper."""
    planned = work.planned(settings.marks(), settings.every_seed(), settings.panels, options.device)
    toys = [own for fit in planned.values() for own in fit.toys]
    trained = train_toys(toys, options)
    short = {own.key for own, one in trained if not one.trained.reached}
    run.finish("toys", [work.told(accuracy(own, one), f"{own.task} {own.name}") for own, one in trained])
    going = {name: fit for name, fit in planned.items() if not short & {own.key for own in fit.toys}}
    if len(going) < len(planned):
        say(f"{len(planned) - len(going)} fits are left out: a model of theirs is short of the stop rule")
    stages = ["toys"]
    if "a" in settings.panels:
        asked = [(own, one) for one in settings.every_seed() for own in panels.correlated(one)]
        stages += [work.correlate(own, one, run, short) for own, one in asked]
    for name, rows in run_comparisons(going, run, options):
        run.finish(name, [work.told(row, name) for row in rows])
    if "e" in settings.panels:
        stages += work.null_spaces(settings.every_seed(), going, run)
    run.write_records([*stages, *going])
    tell_files(draw(run.path))


def draw(run_dir: Path) -> list[Path]:
    """Draw the panels and write `figures.md`, from the settings and records of a run alone."""
    own = {key: value for key, value in read_json(run_dir / SETTINGS).items() if key != "recipe"}
    settings = Settings(**own)
    return drawing.draw(run_dir, settings.marks(), records.read(run_dir / RECORDS), settings.panels)
