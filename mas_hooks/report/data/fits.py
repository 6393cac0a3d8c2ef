"""Which records a report shows, and how final rows gather into fits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mas_hooks.core.records import Record
from mas_hooks.report.data import names

TRIAL_ACCURACY = "trial_accuracy"
_EVERY_DIRECTION_TRAINED = ("das", "mas", "stepwise_mas")


def final_rows(records: Iterable[Record]) -> list[Record]:
    """The test rows with an IIA, controls among them."""
    return [record for record in records if record.split == "test" and record.iia is not None]


def result_rows(records: Iterable[Record]) -> list[Record]:
    """The test rows with an IIA that are no controls."""
    return [record for record in final_rows(records) if record.control is None]


def similarity_rows(records: Iterable[Record]) -> list[Record]:
    """The correlational rows between two sites; rows of a whole layer × layer scan are not among them."""
    rows = [row for row in records if row.measure is not None and row.value is not None and row.layer_a is None]
    return [row for row in rows if row.split != "train" and not (row.measure or "").startswith("null_")]


def task_accuracies(records: Iterable[Record]) -> dict[str, float]:
    """How well each model knows its task where a record says so: its trial accuracy, by model."""
    return {
        row.source_model or "": row.value for row in records if row.measure == TRIAL_ACCURACY and row.value is not None
    }


def curve_rows(records: Iterable[Record]) -> list[Record]:
    """The validation rows of training, without controls."""
    return [
        row
        for row in records
        if row.split == "valid" and row.step is not None and row.iia is not None and row.control is None
    ]


def name_comparison(record: Record) -> str:
    """The comparison a record belongs to; where it does not say, its models."""
    models = (record.source_model, record.target_model)
    return record.comparison or " × ".join(dict.fromkeys(model for model in models if model)) or "this run"


def comparison_of_models(records: Iterable[Record]) -> dict[frozenset[str | None], str]:
    """Which comparison the final rows make of a set of models, so that a similarity of the same models joins it."""
    models: dict[str, set[str | None]] = {}
    for row in final_rows(records):
        models.setdefault(name_comparison(row), set()).update((row.source_model, row.target_model))
    return {frozenset(members): name for name, members in models.items()}


@dataclass(frozen=True)
class FitRows:
    """The final rows of one fit: its directions, for each seed it was run with.

    A one-way method (UniMAS, stitching, …) has an entry for each direction: its worst direction is an untrained one,
    and showing that as *the* result of the method would be unfair to it.
    """

    label: str
    rows: tuple[Record, ...]

    @property
    def comparison(self) -> str:
        """The comparison it belongs to."""
        return name_comparison(self.rows[0])

    @property
    def control(self) -> str:
        """The name of the control, or empty."""
        return names.control_title(self.rows[0])

    def worst(self) -> list[Record]:
        """The row of the worst direction, one for each seed: the IIA of a comparison is that of its worst direction."""
        by_seed: dict[int | None, list[Record]] = {}
        for row in self.rows:
            by_seed.setdefault(row.seed, []).append(row)
        return [min(rows, key=lambda row: row.iia if row.iia is not None else 1.0) for rows in by_seed.values()]


def group_fits(records: Iterable[Record]) -> list[FitRows]:
    """The final rows, gathered: comparisons as they come, controls after the results they belong to."""
    rows = final_rows(records)
    places, words = names.EndNames.of(rows), names.fit_details(rows)
    gathered: dict[tuple, list[Record]] = {}
    for row in rows:
        gathered.setdefault((*names.setting_words(row), _one_way(row, places)), []).append(row)
    every = [FitRows(_label(group[0], words, key[-1]), tuple(group)) for key, group in gathered.items()]
    order = list(dict.fromkeys(fit.comparison for fit in every))
    return sorted(every, key=lambda fit: (order.index(fit.comparison), bool(fit.control)))


def _one_way(row: Record, places: names.EndNames) -> str:
    return "" if row.method in _EVERY_DIRECTION_TRAINED else places.direction(row)


def _label(row: Record, words: dict[tuple, str], direction: str) -> str:
    return " · ".join(part for part in (names.fit_title(row), words[names.setting_words(row)], direction) if part)
