"""IIA of every direction on held-out pairs, with its interval and the no-op floor beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.directions import PatchedDirections, direction_record
from mas_hooks.alignment.plan import Direction
from mas_hooks.core.errors import SettingError, UnknownNameError
from mas_hooks.core.records import Record
from mas_hooks.data.pairs import Directed
from mas_hooks.engine.cache import ActivationCache
from mas_hooks.engine.scores import Score
from mas_hooks.evaluation.metrics import wilson_interval


@runtime_checkable
class Control(Protocol):
    """A way to ask how much of an IIA is no evidence: the objects of `mas_hooks.controls` are such."""

    @property
    def name(self) -> str:
        """What its rows are marked with."""
        ...

    def run(self, alignment: Alignment, test: Directed) -> Evaluation:
        """The same table under the control."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """Final rows of an alignment: one per direction, then those of the controls. trained: by its plan.

    Example:
        >>> from mas_hooks import Record
        >>> from mas_hooks.alignment import Direction
        >>> from mas_hooks.evaluation import Evaluation
        >>> rows = (Record(source=0, target=1, iia=0.9), Record(source=1, target=0, iia=0.7))
        >>> table = Evaluation(rows, trained=(Direction(0, 1), Direction(1, 0)))
        >>> table.of(0, 1).iia, table.worst.iia, table.records(variable="count")[0].variable
        (0.9, 0.7, 'count')
    """

    rows: tuple[Record, ...]
    trained: tuple[Direction, ...]

    def of(self, source: int, target: int) -> Record:
        """The row of a direction, controls aside. Raises UnknownNameError where it was not evaluated."""
        rows = {(row.source, row.target): row for row in reversed(self.rows) if row.control is None}
        if (source, target) not in rows:
            known = [f"{row.source}→{row.target}" for row in self.rows if row.control is None]
            raise UnknownNameError("direction", f"{source}→{target}", known, "the evaluation")
        return rows[source, target]

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


def evaluate(alignment: Alignment, test: Directed, controls: Iterable[Control] = ()) -> Evaluation:
    """Score every direction on held-out pairs: IIA with a 95% Wilson interval, token accuracy, no-op floor.

    A trial counts when the argmax is right at every deterministic position. Directions into recordings are left out:
    nothing can be run there.

    Args:
        alignment: fitted, or at its start.
        test: held-out pairs: one set for every direction, or sets by (source, target).
        controls: from `mas_hooks.controls`; each adds rows named after it.

    Returns:
        One row per direction, then those of the controls.

    Raises:
        SettingError: something else is given as a control.
        UnknownNameError: a direction has no pairs.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> model = mh.wrap(torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 5)))
        >>> ids, where = torch.tensor([[1, 2], [3, 4]]), mh.Where.one_per_row([1, 0])
        >>> pairs = mh.Pairs.from_tensors(ids, where, ids, where, labels=ids, label_mask=ids > 0)
        >>> alignment = mh.Alignment(model.at("0"), rank=2)
        >>> table = mh.evaluate(alignment, pairs)
        >>> [(row.source, row.target, row.trials) for row in table.rows]
        [(0, 0, 2)]
    """
    controls = list(controls)
    for control in controls:
        if not isinstance(control, Control):
            raise SettingError("a control", control, "an object such as mas_hooks.controls.RandomMaps()")
    directions = alignment.directions()
    patched = PatchedDirections(alignment, test, directions, ActivationCache(alignment.sites, alignment.models))
    scores, floors = patched.scores(), patched.scores(edited=False)
    rows = [_make_row(patched, direction, scores[direction], floors[direction]) for direction in directions]
    for control in controls:
        rows += [replace(row, control=control.name) for row in control.run(alignment, test).rows]
    trained = alignment.plan.trained_directions(len(alignment.sites))
    return Evaluation(tuple(rows), tuple(direction for direction in trained if direction in directions))


def _make_row(patched: PatchedDirections, direction: Direction, score: Score, floor: Score) -> Record:
    low, high = wilson_interval(score.right_trials, score.trials)
    return direction_record(
        patched.alignment,
        direction,
        split="test",
        iia=score.iia,
        iia_low=low,
        iia_high=high,
        token_accuracy=score.token_accuracy,
        floor=floor.iia,
        token_floor=floor.token_accuracy,
        trials=score.trials,
        dropped=patched.pairs[direction].redraws,
    )
