"""IIA of every direction on held-out pairs, with its interval and the no-op floor beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.directions import PatchedDirections
from mas_hooks.alignment.plan import Direction
from mas_hooks.core.errors import SettingError, UnknownNameError
from mas_hooks.core.records import Record
from mas_hooks.data.pairs import Directed
from mas_hooks.engine.cache import ActivationCache
from mas_hooks.engine.scores import Score
from mas_hooks.evaluation.metrics import wilson_interval


@runtime_checkable
class Control(Protocol):
    """A way to ask how much of an IIA is no evidence (see controls.py)."""

    @property
    def name(self) -> str:
        """What its rows are marked with."""
        ...

    def run(self, alignment: Alignment, test: Directed) -> Evaluation:
        """The same table under the control."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """Final rows of an alignment: one per direction, then those of the controls. trained: by its plan."""

    rows: tuple[Record, ...]
    trained: tuple[Direction, ...]

    def of(self, source: int, target: int) -> Record:
        """The row of a direction, controls aside. Raises UnknownNameError where it was not evaluated."""
        found = [row for row in self._own() if (row.source, row.target) == (source, target)]
        if not found:
            known = [f"{row.source}→{row.target}" for row in self._own()]
            raise UnknownNameError("direction", f"{source}→{target}", known, "the evaluation")
        return found[0]

    @property
    def worst(self) -> Record:
        """The trained direction with the lowest IIA: the IIA of the comparison."""
        return min((self.of(*way) for way in self.trained), key=lambda row: row.iia or 0.0)

    def records(self, **keys: object) -> list[Record]:
        """The rows with further keys filled in, such as recipe= or variable=. An unknown key is an error."""
        return [replace(row, **keys) for row in self.rows]  # pyright: ignore[reportArgumentType]

    def __str__(self) -> str:
        from rich.console import Console

        from mas_hooks.report import results_table

        console = Console(width=100, color_system=None)
        with console.capture() as captured:
            console.print(results_table(list(self.rows)))
        return captured.get().rstrip()

    def _own(self) -> list[Record]:
        return [row for row in self.rows if row.control is None]


def evaluate(alignment: Alignment, test: Directed, controls: Iterable[Control] = ()) -> Evaluation:
    """Every direction on held-out pairs: IIA with a 95% Wilson interval, token accuracy, no-op floor.

    A trial counts when the argmax is right at every deterministic position. Directions into recordings
    are left out: nothing can be run there. controls: from `mas_hooks.controls`; each adds rows named after it.
    """
    controls = list(controls)
    for control in controls:
        if not isinstance(control, Control):
            raise SettingError("a control", control, "an object such as mas_hooks.controls.RandomMaps()")
    ways = alignment.directions()
    swaps = PatchedDirections(alignment, test, ways, ActivationCache(alignment.sites, alignment.models))
    found, floors = swaps.scores(), swaps.scores(edited=False)
    rows = [_record(swaps, way, found[way], floors[way]) for way in ways]
    for control in controls:
        rows += [replace(row, control=control.name) for row in control.run(alignment, test).rows]
    trained = [way for way in alignment.plan.trained_directions(len(alignment.sites)) if way in ways]
    return Evaluation(tuple(rows), tuple(trained))


def _record(swaps: PatchedDirections, way: Direction, found: Score, floor: Score) -> Record:
    low, high = wilson_interval(found.right_trials, found.trials)
    alignment, names = swaps.alignment, swaps.alignment.names
    return Record(
        comparison=" × ".join(names),
        method=alignment.plan.method,
        source_model=names[way.source],
        source_site=alignment.sites[way.source].name,
        target_model=names[way.target],
        target_site=alignment.sites[way.target].name,
        source=way.source,
        target=way.target,
        k=alignment.k,
        init=alignment.init,
        split="test",
        selected_on=alignment.plan.select_on,
        iia=found.iia,
        iia_low=low,
        iia_high=high,
        token_accuracy=found.token_accuracy,
        floor=floor.iia,
        token_floor=floor.token_accuracy,
        trials=found.trials,
        dropped=swaps.pairs[way].redraws,
    )
