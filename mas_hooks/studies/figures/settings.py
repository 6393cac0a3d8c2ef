"""Settings of the study `figures`, with their defaults and presets."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro
from pydantic import Field, model_validator

from mas_hooks.core.errors import SettingError
from mas_hooks.core.settings import Settings
from mas_hooks.models.toys import TrainSettings
from mas_hooks.studies.figures.fits import Fits, Shown, add_controls
from mas_hooks.studies.figures.panels import PANELS
from mas_hooks.training import FitSettings

FULL = FitSettings(validate_every=20)
QUICK = FitSettings(batch_size=256, learning_rate=1e-2, validate_every=20, patience=5, min_gain=0.005)
Letter = Literal["a", "b", "c", "d", "e", "f", "g"]


class FiguresSettings(Settings):
    """What the figures show. What is None is decided by --quick.

    Example:
        >>> FiguresSettings(panels=("b",), quick=True).panels
        ('b',)
    """

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
    def _check_values(self) -> FiguresSettings:
        """Raise SettingError for a setting that fits no comparison, before anything is trained."""
        if not self.panels:
            raise SettingError("panels", (), "one or more of a to g")
        self.marks()
        return self

    def of_seed(self, seed: int) -> Fits:
        """What the fits of one seed have in common."""
        quick = self.quick
        return Fits(
            seed=seed,
            settings=QUICK if quick and self.fit == FULL else self.fit,
            sizes=self.sizes,
            ranks=self.ranks or ((1, 2, 4, 8, 16, 48) if quick else (1, 2, 4, 8, 16, 32, 48)),
            controls=self.controls or ("headlines" if quick else "every"),
            width=self.width,
            scale=self.scale,
            training=self.training,
        )

    def every_seed(self) -> list[Fits]:
        """The same for all seeds."""
        count = self.seeds or (1 if self.quick else 5)
        return [self.of_seed(seed) for seed in range(self.seed, self.seed + count)]

    def marks(self) -> list[Shown]:
        """Everything that is shown, over panels and seeds."""
        drawn = [(fits, letter) for fits in self.every_seed() for letter in dict.fromkeys(self.panels)]
        return [mark for fits, letter in drawn for mark in add_controls(fits, list(PANELS[letter](fits)))]
