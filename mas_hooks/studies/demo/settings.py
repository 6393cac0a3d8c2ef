"""Settings of the study `demo`, with their defaults and presets."""

from __future__ import annotations

from pydantic import model_validator

from mas_hooks.alignment import Init, MapSpec, methods
from mas_hooks.core.settings import Settings
from mas_hooks.models.toys import ToySettings, TrainSettings
from mas_hooks.studies.work.toy_comparison import ControlName, ToyComparison
from mas_hooks.training import FitSettings


class DemoSettings(Settings):
    """What the two toys learn, and how they are aligned.

    Example:
        >>> DemoSettings(rank=8).rank
        8
    """

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
    def _check_comparisons(self) -> DemoSettings:
        """Refuse a setting that fits no comparison before anything is trained."""
        plan_comparisons(self, "cpu")
        return self


def plan_comparisons(settings: DemoSettings, device: str) -> dict[str, ToyComparison]:
    """What is fitted, longest first: MAS between the two models from both starts, DAS within each."""
    seeds = (2 * settings.seed, 2 * settings.seed + 1)
    schedules = [settings.training.model_copy(update={"seed": seed}) for seed in seeds]
    toys = tuple(ToySettings(task=settings.task, width=settings.width, training=schedule) for schedule in schedules)
    other: Init = "procrustes" if settings.init == "random" else "random"
    planned = {}
    for variable in ("full", "count"):
        for init in (settings.init, other):
            maps = MapSpec(rank=settings.rank, init=init, centre=True)
            planned[f"mas-{variable}-{init}"] = (toys, variable, methods.mas(maps))

        for toy in toys:
            maps = MapSpec(rank=settings.rank, init=settings.init, centre=True)
            planned[f"das-{variable}-{toy.name}"] = ((toy,), variable, methods.das(maps))
    return {
        name: ToyComparison(
            toys=members,
            sites=("state",) * len(members),
            variables=(variable,) * len(members),
            plan=plan,
            fit=settings.fit,
            sizes=settings.sizes,
            controls=settings.controls if plan.method == "mas" and plan.init == settings.init else (),
            device=device,
            seed=settings.seed,
        )
        for name, (members, variable, plan) in planned.items()
    }
