"""A method as data: which maps, and which directions are trained. No tensors."""

from __future__ import annotations

from typing import Literal, NamedTuple

from mas_hooks.errors import SettingError
from mas_hooks.maps import MapSpec
from mas_hooks.settings import Settings


class Direction(NamedTuple):
    """A swap from one model into another (the numbers of two sites; the same for a swap within one model)."""

    source: int
    target: int

    def __str__(self) -> str:
        return f"{self.source}→{self.target}"


class Plan(Settings):
    """One row of the table of methods.

    models: how many sites the method takes (`one`, or `any`). into: `every` ordered pair is trained, or only the
    directions into the `accessible` model. maps: the map specification, None to keep that of the alignment.
    loss_average: `trial` (mean over a trial's labels, then over trials; eq. 5) or `token`. direction_average:
    directions are summed (eq. 6) or averaged (App. A.2).
    """

    method: str
    models: Literal["one", "any"] = "any"
    into: Literal["every", "accessible"] = "every"
    accessible: int = 0
    maps: MapSpec | None = None
    loss_average: Literal["trial", "token"] = "trial"
    direction_average: Literal["sum", "mean"] = "sum"

    def directions(self, models: int) -> list[Direction]:
        """The trained directions among that many models. Raises SettingError where the method does not take so many."""
        if self.models == "one" and models != 1:
            raise SettingError(f"the number of sites for {self.method}", models, "1")
        if self.into == "accessible" and not 0 <= self.accessible < models:
            raise SettingError(f"the accessible model of {self.method}", self.accessible, f"one of 0 to {models - 1}")
        targets = range(models) if self.into == "every" else [self.accessible]
        return [Direction(source, target) for target in targets for source in range(models)]
