"""A method as data: which maps, and which directions are trained by which loss. No tensors."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from mas_hooks.alignment.maps import MapSpec
from mas_hooks.alignment.transports import TransportSpec
from mas_hooks.core.errors import SettingError, UnsupportedError
from mas_hooks.core.settings import Settings


class Direction(NamedTuple):
    """A swap from one model into another (the numbers of two sites; the same for a swap within one model).

    Example:
        >>> from mas_hooks.alignment import Direction
        >>> str(Direction(source=0, target=1))
        '0→1'
    """

    source: int
    target: int

    def __str__(self) -> str:
        return f"{self.source}→{self.target}"


class Plan(Settings):
    """One row of the table of methods.

    Args:
        method: the name in tables and records.
        models: how many sites the method takes, `one` or `any` number.
        into: the behaviour loss is on swaps into `every` model, into the `accessible` one, or on `none`.
        latent_into: the latent loss is on swaps into the `inaccessible` models (all but the accessible one), or on
            `none`.
        within: whether swaps of a model into itself are trained too.
        accessible: the number of the accessible model.
        maps: the map specification, None to keep that of the alignment.
        transport: that of a stitch, which replaces the whole vector, in place of maps.
        latent_weight: λ in λ · latent + (1 − λ) · behaviour (Grant 2025, eq. 9).
        latent_reduction: the squared distance is summed over dims (paper) or averaged.
        loss_average: `trial` (mean over a trial's labels, then over trials; eq. 5) or `token`.
        direction_average: directions are summed (eq. 6) or averaged (App. A.2).
        select_on: what chooses the checkpoint: the directions that are `trained`, or those into the inaccessible
            models (`no_access`, which peeks).

    Example:
        >>> from mas_hooks import MapSpec, Plan
        >>> plan = Plan(method="into_the_first", into="accessible", within=False, maps=MapSpec(rank=2))
        >>> [str(direction) for direction in plan.directions(3)]
        ['1→0', '2→0']
    """

    method: str
    models: Literal["one", "any"] = "any"
    into: Literal["every", "accessible", "none"] = "every"
    latent_into: Literal["none", "inaccessible"] = "none"
    within: bool = True
    accessible: int = 0
    maps: MapSpec | None = None
    transport: TransportSpec | None = None
    latent_weight: float = Field(default=0.5, ge=0, le=1)
    latent_reduction: Literal["sum", "mean"] = "sum"
    loss_average: Literal["trial", "token"] = "trial"
    direction_average: Literal["sum", "mean"] = "sum"
    select_on: Literal["trained", "no_access"] = "trained"

    @model_validator(mode="after")
    def _one_way_of_swapping(self) -> Plan:
        if self.maps is not None and self.transport is not None:
            raise UnsupportedError(f"a plan with both maps and a transport ({self.method!r})", "give one of the two")
        return self

    @property
    def init(self) -> str | None:
        """Where the maps or transports begin; None where the specification is left to the alignment."""
        spec = self.maps if self.transport is None else self.transport
        return None if spec is None else spec.init

    def directions(self, models: int) -> list[Direction]:
        """The directions with a behaviour loss. Raises SettingError where the method does not take so many models."""
        self._check_models(models)
        targets = {"every": list(range(models)), "accessible": [self.accessible], "none": []}[self.into]
        return self._directions_into(targets, models)

    def latent_directions(self, models: int) -> list[Direction]:
        """The directions with a latent loss."""
        self._check_models(models)
        targets = [] if self.latent_into == "none" else [index for index in range(models) if index != self.accessible]
        return self._directions_into(targets, models)

    def selecting_directions(self, models: int) -> list[Direction]:
        """The directions whose behaviour on the validation pairs chooses the checkpoint, if any does."""
        if self.select_on == "trained":
            return self.directions(models)
        return self._directions_into([index for index in range(models) if index != self.accessible], models)

    def trained_directions(self, models: int) -> list[Direction]:
        """The directions that decide: with a behaviour loss, or where there is none those with a latent loss."""
        return self.directions(models) or self.latent_directions(models)

    def _directions_into(self, targets: list[int], models: int) -> list[Direction]:
        return [
            Direction(source, target)
            for target in targets
            for source in range(models)
            if self.within or source != target
        ]

    def _check_models(self, models: int) -> None:
        if self.models == "one" and models != 1:
            raise SettingError(f"the number of sites for {self.method}", models, "1")
        if not self.within and models < 2:
            raise SettingError(f"the number of sites for {self.method}", models, "2 or more")
        names_one = self.into == "accessible" or self.latent_into == "inaccessible"
        if names_one and not 0 <= self.accessible < models:
            raise SettingError(f"the accessible model of {self.method}", self.accessible, f"one of 0 to {models - 1}")
