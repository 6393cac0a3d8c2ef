"""What the recipe `figures` fits: every bar and point of its panels as data, for one seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mas_hooks.alignment import Init, MapSpec, Plan, methods
from mas_hooks.models.toys import Architecture, ToySettings, TrainSettings
from mas_hooks.studies.work.toy_comparison import ToyComparison
from mas_hooks.training import FitSettings

Place = Literal["embeddings", "hidden state"]
RANK = 10
"""Shared dims unless swept (Grant 2025, §2.4.2)."""
PAIRS: dict[str, tuple[Architecture, Architecture]] = {
    "GRU × GRU": ("gru", "gru"),
    "GRU × LSTM": ("gru", "lstm"),
    "GRU × transformer": ("gru", "transformer"),
    "transformer × transformer": ("transformer", "transformer"),
}
VARIABLES = {
    "full": "Full",
    "count": "Count",
    "last_value": "Last Value",
    "cumu_val": "Cumu Val",
    "cumu_val_low": "Cumu Val, low",
    "cumu_val_high": "Cumu Val, high",
    "rem_ops": "Rem Ops",
}
SLOW_TO_LEARN = TrainSettings(learning_rate=3e-3, warmup=1_000)
"""Arithmetic is learned with these and without dropout; with the defaults 3,000 steps are not enough."""


@dataclass(frozen=True)
class Shown:
    """One mark of a panel: where it stands, the fit it is taken from, and in which direction.

    way: source and target; None is the worst trained direction. bounds: fits of the models with themselves, of which
    the lower one is the dashed line. headline: whether the panel is about this mark; its controls are then always
    run. control: the control of the fit that is shown in place of the fit itself.
    """

    panel: str
    title: str
    group: str
    key: str
    fit: ToyComparison
    way: tuple[int, int] | None = None
    bounds: tuple[ToyComparison, ...] = ()
    headline: bool = False
    control: str | None = None


@dataclass(frozen=True)
class Correlated:
    """RSA and CKA of toys at one place, shown in panel a. titles: of each pair of them, by number."""

    group: Place
    toys: tuple[ToySettings, ...]
    titles: dict[tuple[int, int], str]


def fit_name(fit: ToyComparison) -> str:
    """The name of a fit in records and folders: readable and unique. Fits that differ in controls alone share it."""
    bare = fit.model_copy(update={"controls": (), "device": "cpu"})
    toys = "_".join(f"{toy.task}.{toy.name}" for toy in fit.toys)
    size = f"-k{fit.plan.maps.rank}" if fit.plan.maps else ""
    # Without what is at its default: a setting that is new leaves the names of old runs alone.
    set_by_user = bare.model_dump_json(exclude_defaults=True)
    digest = hashlib.sha256(set_by_user.encode()).hexdigest()[:8]
    return f"{fit.plan.method}-{'_'.join(dict.fromkeys(fit.variables))}-{toys}{size}-{digest}"


@dataclass(frozen=True)
class Fits:
    """What the fits of one seed have in common; its methods make them."""

    seed: int
    settings: FitSettings
    sizes: tuple[int, int, int]
    ranks: tuple[int, ...]
    controls: Literal["headlines", "every"]
    width: int
    scale: Literal["fixed", "learned"]
    training: TrainSettings

    def maps(self, rank: int = RANK, init: Init = "random", *, zscore: bool = False) -> MapSpec:
        """Describe the maps of a fit, which are centred.

        Args:
            rank: Shared dims.
            init: Where the maps begin; random as in the paper.
            zscore: Whether each unit is scaled to unit variance first.

        Returns:
            What makes the maps at any width.
        """
        return MapSpec(rank=rank, centre=True, zscore=zscore, scale=self.scale, init=init)

    def toy(self, task: str, cell: Architecture = "gru", number: int = 0) -> ToySettings:
        """Describe a toy of this seed.

        Two toys of the same number begin with the same embeddings: never compare those.

        Args:
            task: What the toy learns.
            cell: Its architecture.
            number: 0 or 1, the first or the second toy of its kind.

        Returns:
            The settings that train or load the toy.
        """
        slow = task == "arithmetic" and self.training == TrainSettings()
        training = (SLOW_TO_LEARN if slow else self.training).model_copy(update={"seed": 2 * self.seed + number})
        dropout = 0.0 if task == "arithmetic" else None
        return ToySettings(task=task, cell=cell, width=self.width, dropout=dropout, training=training)

    def of(
        self, plan: Plan, toys: Sequence[ToySettings], variables: str | tuple[str, ...], place: Place = "hidden state"
    ) -> ToyComparison:
        """Describe a fit of some toys.

        Args:
            plan: The method with its maps or its transport.
            toys: The toys that are aligned.
            variables: One variable for all toys, or one for each.
            place: Where each toy is read and swapped.

        Returns:
            The fit.
        """
        return ToyComparison(
            stepwise=plan.method == "stepwise_mas",
            toys=tuple(toys),
            sites=tuple(choose_site(toy, place) for toy in toys),
            variables=(variables,) * len(toys) if isinstance(variables, str) else variables,
            plan=plan,
            fit=self.settings,
            sizes=self.sizes,
            seed=self.seed,
        )

    def bound(
        self, toys: Sequence[ToySettings], variables: str | tuple[str, ...], place: Place = "hidden state"
    ) -> tuple[ToyComparison, ...]:
        """Describe DAS within each toy: what the swap of a comparison can reach at best.

        Args:
            toys: The toys of the comparison.
            variables: One variable for all toys, or one for each.
            place: Where each toy is read and swapped.

        Returns:
            One fit for each different pair of toy and variable.
        """
        named = (variables,) * len(toys) if isinstance(variables, str) else variables
        members = {(toy.key, name): (toy, name) for toy, name in zip(toys, named, strict=True)}
        return tuple(self.of(methods.das(self.maps()), [toy], name, place) for toy, name in members.values())


def choose_site(toy: ToySettings, place: Place) -> str:
    """Where a kind of model is looked at."""
    if place == "embeddings":
        return "embed"
    return "blocks.0.hook_resid_post" if toy.cell == "transformer" else "state"


def add_controls(fits: Fits, marks: Sequence[Shown]) -> Iterator[Shown]:
    """The marks, each followed by its controls: those of headlines, or of everything that is trained both ways."""
    for mark in marks:
        yield mark
        both_ways = mark.fit.plan.method in ("mas", "stepwise_mas")
        if mark.headline or (fits.controls == "every" and both_ways):
            for control in ("untrained", "shuffled_labels"):
                key = f"{mark.key}, {control.replace('_', ' ')}"
                yield Shown(mark.panel, mark.title, mark.group, key, mark.fit, mark.way, control=control)
