"""What the heat map shows: final rows as source × target matrices. Draws nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from mas_hooks.core.records import Record
from mas_hooks.report.data import fits, names


@dataclass(frozen=True)
class Matrix:
    """The directions of one method and variable among `places`, the models that any comparison links."""

    title: str
    places: tuple[str, ...]
    cells: dict[tuple[str, str], list[Record]]

    @property
    def crosses(self) -> bool:
        """Whether any direction leads from one model to another."""
        return any(source != target for source, target in self.cells)

    @property
    def full(self) -> bool:
        """Whether every direction was measured."""
        return len(self.cells) == len(self.places) ** 2

    def values(self) -> np.ndarray:
        """(source, target) mean IIA, NaN where nothing was measured."""
        matrix = np.full((len(self.places), len(self.places)), np.nan)
        for (source, target), rows in self.cells.items():
            matrix[self.places.index(source), self.places.index(target)] = fmean(iia_values(rows))
        return matrix


def iia_values(rows: Iterable[Record]) -> list[float]:
    """The IIA of each row."""
    return [row.iia for row in rows if row.iia is not None]


def direction_matrices(records: Iterable[Record]) -> list[Matrix]:
    """One matrix for each group of linked models, method and variable; DAS, which crosses nothing, comes last."""
    rows = fits.result_rows(records)
    named, words = names.EndNames.of(rows), names.fit_details(rows)
    groups = _link_models([(named.source(row), named.target(row)) for row in rows])
    found: dict[tuple[tuple[str, ...], str], dict[tuple[str, str], list[Record]]] = {}
    for row in rows:
        title = "\n".join(part for part in (names.fit_title(row), words[names.setting_words(row)]) if part)
        ends = (named.source(row), named.target(row))
        group = next(group for group in groups if ends[0] in group)
        found.setdefault((group, title), {}).setdefault(ends, []).append(row)
    every = [Matrix(title, group, cells) for (group, title), cells in found.items()]
    return sorted(every, key=lambda matrix: (groups.index(matrix.places), not matrix.crosses))


def _link_models(directions: list[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Models that directions connect, in the order they first appear."""
    order = list(dict.fromkeys(name for ends in directions for name in ends))
    groups: list[set[str]] = []
    for ends in directions:
        touched = [group for group in groups if group & set(ends)]
        groups = [group for group in groups if not group & set(ends)] + [set(ends).union(*touched)]
    ordered = (tuple(sorted(group, key=order.index)) for group in groups)
    return sorted(ordered, key=lambda group: order.index(group[0]))
