"""The records of the recipe `figures` as values with intervals, looked up by panel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mas_hooks.core.records import Record
from mas_hooks.evaluation import mean_interval
from mas_hooks.studies.figures import fits

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


def gather_results(marks: Iterable[Any], rows: Sequence[Record]) -> dict[Key, Value]:
    """Every mark of every seed with its value; marks whose fit is not among the records are left out."""
    by_fit: dict[str, list[Record]] = {}
    for row in rows:
        if row.split == "test" and row.iia is not None and row.comparison is not None:
            by_fit.setdefault(row.comparison, []).append(row)
    found: dict[Key, list[tuple[Record, float | None]]] = {}
    for mark in marks:
        row = _row(mark, by_fit)
        if row is not None:
            bounds = [own for own in (_bound(one, mark, by_fit) for one in mark.bounds) if own is not None]
            bound = min(bounds) if len(bounds) == len(mark.bounds) and bounds else None
            found.setdefault((mark.panel, mark.title, mark.group, mark.key), []).append((row, bound))
    return {key: _value(several) for key, several in found.items()}


def _row(mark: Any, by_fit: Mapping[str, list[Record]]) -> Record | None:
    """The row of a mark's direction, or of its worst trained one."""
    rows = [row for row in by_fit.get(fits.fit_name(mark.fit), []) if row.control == mark.control]
    ways = [mark.way] if mark.way else mark.fit.plan.trained_directions(len(mark.fit.toys))
    rows = [row for row in rows if (row.source, row.target) in ways]
    return min(rows, key=lambda row: row.iia or 0.0, default=None)


def _bound(fit: Any, mark: Any, by_fit: Mapping[str, list[Record]]) -> float | None:
    """What a bounding fit reaches: in the mark's own direction where it has that one, else in its worst."""
    rows = [row for row in by_fit.get(fits.fit_name(fit), []) if row.control is None]
    same = [row for row in rows if (row.source, row.target) == mark.way]
    return min((row.iia or 0.0 for row in same or rows), default=None)


def _value(several: Sequence[tuple[Record, float | None]]) -> Value:
    rows = [row for row, _ in several]
    values = tuple(row.iia or 0.0 for row in rows)
    low, high = (rows[0].iia_low or 0.0, rows[0].iia_high or 0.0) if len(rows) == 1 else mean_interval(values)
    return Value(values, low, high, _mean(row.floor for row in rows), _mean(bound for _, bound in several))


def correlations(rows: Iterable[Record]) -> dict[Key, Value]:
    """RSA and CKA of panel a; the floor is that of untrained copies."""
    found: dict[Key, list[Record]] = {}
    untrained: dict[Key, list[float]] = {}
    for row in rows:
        if row.measure in ("rsa", "cka") and row.comparison is not None and row.value is not None:
            title, _, group = row.comparison.partition(" · ")
            key = ("a", title, group, row.measure.upper())
            if row.control is None:
                found.setdefault(key, []).append(row)
            else:
                untrained.setdefault(key, []).append(row.value)
    return {key: _correlation(own, untrained.get(key, [])) for key, own in found.items()}


def _correlation(rows: Sequence[Record], untrained: Sequence[float]) -> Value:
    values = tuple(row.value or 0.0 for row in rows)
    low, high = (rows[0].value_low or 0.0, rows[0].value_high or 0.0) if len(rows) == 1 else mean_interval(values)
    return Value(values, low, high, _mean(untrained))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def null_share_bars(rows: Iterable[Record]) -> dict[Key, Value]:
    """The null shares of panel e by tolerance and method; the floor is the source as its own target."""
    found: dict[Key, list[Record]] = {}
    itself: dict[Key, list[float]] = {}
    for row in rows:
        measure, _, tolerance = (row.measure or "").partition("@")
        title, _, method = (row.comparison or "").partition(" · ")
        if measure == "null_share" and title == "null" and row.value is not None:
            key = ("e", title, tolerance, method)
            if row.control is None:
                found.setdefault(key, []).append(row)
            elif row.control == "itself":
                itself.setdefault(key, []).append(row.value)
    return {key: _correlation(own, itself.get(key, [])) for key, own in found.items()}
