"""The records of the recipe `figures` as values with intervals, looked up by panel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mas_hooks.core.records import Record
from mas_hooks.evaluation import mean_interval
from mas_hooks.studies.figures.fits import Shown, fit_name
from mas_hooks.studies.work.toy_comparison import ToyComparison

Key = tuple[str, str, str, str]
"""Panel, title of the part, group, key: where a value stands."""


@dataclass(frozen=True)
class Value:
    """A result: one number a seed; low, high: the 95% interval of one seed's trials, or of the mean over seeds.

    floor: without a swap, or for RSA and CKA between untrained copies. bound: the models with themselves.
    """

    seeds: tuple[float, ...]
    low: float
    high: float
    floor: float | None = None
    bound: float | None = None

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return sum(self.seeds) / len(self.seeds)

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def gather_results(marks: Iterable[Shown], rows: Sequence[Record]) -> dict[Key, Value]:
    """Every mark of every seed with its value; marks whose fit is not among the records are left out."""
    by_fit: dict[str, list[Record]] = {}
    for row in rows:
        if row.split == "test" and row.iia is not None and row.comparison is not None:
            by_fit.setdefault(row.comparison, []).append(row)
    gathered: dict[Key, list[tuple[Record, float | None]]] = {}
    for mark in marks:
        row = _find_row(mark, by_fit)
        if row is not None:
            bounds = [bound for bound in (_find_bound(fit, mark, by_fit) for fit in mark.bounds) if bound is not None]
            lowest = min(bounds) if len(bounds) == len(mark.bounds) and bounds else None
            gathered.setdefault((mark.panel, mark.title, mark.group, mark.key), []).append((row, lowest))
    return {key: _summarise(several) for key, several in gathered.items()}


def _find_row(mark: Shown, by_fit: Mapping[str, list[Record]]) -> Record | None:
    """The row of a mark's direction, or of its worst trained one."""
    rows = [row for row in by_fit.get(fit_name(mark.fit), []) if row.control == mark.control]
    ways = [mark.way] if mark.way else mark.fit.plan.trained_directions(len(mark.fit.toys))
    rows = [row for row in rows if (row.source, row.target) in ways]
    return min(rows, key=lambda row: row.iia or 0.0, default=None)


def _find_bound(fit: ToyComparison, mark: Shown, by_fit: Mapping[str, list[Record]]) -> float | None:
    """What a bounding fit reaches: in the mark's own direction where it has that one, else in its worst."""
    rows = [row for row in by_fit.get(fit_name(fit), []) if row.control is None]
    same = [row for row in rows if (row.source, row.target) == mark.way]
    return min((row.iia or 0.0 for row in same or rows), default=None)


def _summarise(several: Sequence[tuple[Record, float | None]]) -> Value:
    rows = [row for row, _ in several]
    values = tuple(row.iia or 0.0 for row in rows)
    low, high = (rows[0].iia_low or 0.0, rows[0].iia_high or 0.0) if len(rows) == 1 else mean_interval(values)
    return Value(values, low, high, _mean(row.floor for row in rows), _mean(bound for _, bound in several))


def read_correlations(rows: Iterable[Record]) -> dict[Key, Value]:
    """RSA and CKA of panel a; the floor is that of untrained copies."""
    measured: dict[Key, list[Record]] = {}
    untrained: dict[Key, list[float]] = {}
    for row in rows:
        if row.measure in ("rsa", "cka") and row.comparison is not None and row.value is not None:
            title, _, group = row.comparison.partition(" · ")
            key = ("a", title, group, row.measure.upper())
            if row.control is None:
                measured.setdefault(key, []).append(row)
            else:
                untrained.setdefault(key, []).append(row.value)
    return {key: _summarise_values(several, untrained.get(key, [])) for key, several in measured.items()}


def _summarise_values(rows: Sequence[Record], untrained: Sequence[float]) -> Value:
    values = tuple(row.value or 0.0 for row in rows)
    low, high = (rows[0].value_low or 0.0, rows[0].value_high or 0.0) if len(rows) == 1 else mean_interval(values)
    return Value(values, low, high, _mean(untrained))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def read_null_shares(rows: Iterable[Record]) -> dict[Key, Value]:
    """The null shares of panel e by tolerance and method; the floor is the source as its own target."""
    shares: dict[Key, list[Record]] = {}
    itself: dict[Key, list[float]] = {}
    for row in rows:
        measure, _, tolerance = (row.measure or "").partition("@")
        title, _, method = (row.comparison or "").partition(" · ")
        if measure == "null_share" and title == "null" and row.value is not None:
            key = ("e", title, tolerance, method)
            if row.control is None:
                shares.setdefault(key, []).append(row)
            elif row.control == "itself":
                itself.setdefault(key, []).append(row.value)
    return {key: _summarise_values(several, itself.get(key, [])) for key, several in shares.items()}
