"""What the records of the recipe `toxicity` say: scores of all pairs of fine-tunes, and the tests on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from mas_hooks.core.records import Record
from mas_hooks.evaluation import GroupTest, PairTable, compare_groups, pair_scores
from mas_hooks.studies.toxicity import fits

NAMES = {"iia": "IIA", "token_accuracy": "token accuracy"}
FEWEST = 2
"""Fine-tunes of each kind, below which no pair within a kind is there to compare."""


@dataclass(frozen=True, eq=False)
class Results:
    """The records of a run with the settings of its align stage."""

    settings: Mapping[str, Any]
    records: Sequence[Record]

    @cached_property
    def swaps(self) -> list[Record]:
        """The final rows of swaps, controls aside."""
        return [row for row in self.records if row.split == "test" and row.iia is not None and row.control is None]

    @property
    def site(self) -> str:
        """Where the headline is."""
        return self.settings["sites"][0]

    @cached_property
    def rank(self) -> int | None:
        """Shared dims of the headline: those of the fits of single models and of all together, else of most fits."""
        at = [row for row in self.swaps if row.source_site == self.site]
        ranks = [row.k for row in at if row.comparison in (fits.TOGETHER, f"{row.source_model} × {row.source_model}")]
        every = ranks or [row.k for row in at]
        return max(every, key=every.count) if every else None

    @cached_property
    def labels(self) -> dict[str, str]:
        """The kind of every model, toxic ones first."""
        named = {row.source: str(row.source_model) for row in self.headline}
        return {
            named[number]: named[number].rpartition("-")[0] for number in sorted(named, key=lambda number: number or 0)
        }

    @cached_property
    def headline(self) -> list[Record]:
        """The rows of the fits of pairs, and of models with themselves, at the first site with the first rank."""
        return [row for row in self.swaps if self._first(row) and row.comparison != fits.TOGETHER]

    @cached_property
    def together(self) -> list[Record]:
        """The rows of the one fit of all models."""
        return [row for row in self.swaps if row.comparison == fits.TOGETHER]

    @cached_property
    def controls(self) -> list[Record]:
        """The rows of the headline's controls."""
        rows = [row for row in self.records if row.split == "test" and row.control is not None and self._first(row)]
        return [row for row in rows if row.comparison != fits.TOGETHER]

    def _first(self, row: Record) -> bool:
        return row.source_site == self.site and row.k == self.rank

    @cached_property
    def tables(self) -> dict[str, PairTable]:
        """The scores of all pairs by name; of swaps and agreements, those of the worst direction."""
        both = {
            "IIA": pair_scores(self.headline),
            "token accuracy": pair_scores(self.headline, "token_accuracy"),
            "token accuracy without a swap": pair_scores(self.headline, "token_floor"),
            "token accuracy, random maps": pair_scores(self.control("random_maps"), "token_accuracy"),
            "tokens agreed on, text read whole": self._measured_pairs("agreement_tokens"),
            "CKA": self._measured_pairs("cka"),
            "RSA": self._measured_pairs("rsa"),
            "IIA, all together": pair_scores(self.together),
            "token accuracy, all together": pair_scores(self.together, "token_accuracy"),
        }
        wanted = len(self.labels) * (len(self.labels) - 1) // 2
        return {name: PairTable.of(scores, self.labels) for name, scores in both.items() if len(scores) == wanted}

    def control(self, name: str) -> list[Record]:
        """The rows of a control, as if they were the fit's own."""
        return [replace(row, control=None) for row in self.controls if row.control == name]

    def test(self, score: str, statistic: str | None = None) -> GroupTest | None:
        """The comparison of kinds on a score; None where there are too few models or no such score."""
        table = self.tables.get(score)
        if table is None or min(table.counts) < FEWEST:
            return None
        return compare_groups(table, statistic or self.settings["statistic"])  # pyright: ignore[reportArgumentType]

    @property
    def chosen(self) -> str:
        """The score that was named beforehand."""
        return NAMES[self.settings["score"]]

    @property
    def other(self) -> str:
        """The other one."""
        return next(name for name in NAMES.values() if name != self.chosen)

    def kind(self, models: Iterable[str | None]) -> str:
        """Which kinds of models a pair has: toxic–nontoxic."""
        kinds = list(dict.fromkeys(self.labels.values()))
        return "–".join(sorted((self.labels[str(name)] for name in models), key=kinds.index))

    def cost(self, measure: str, *, together: bool) -> list[Record]:
        """The rows of one measure of cost, of the headline's fits or of the one fit of all models."""
        rows = [row for row in self.records if row.split == "train" and row.measure == measure and self._first(row)]
        headline = {row.comparison for row in self.headline}
        return [row for row in rows if (row.comparison == fits.TOGETHER if together else row.comparison in headline)]

    def _measured_pairs(self, measure: str) -> dict[tuple[str, str], float]:
        """The lowest value of each pair at the headline's site, of both directions where there are two."""
        rows = [row for row in self.records if row.measure == measure and row.source_site in (None, self.site)]
        lowest: dict[tuple[str, str], float] = {}
        for row in rows:
            if row.value is not None and row.source_model != row.target_model and row.comparison != fits.TOGETHER:
                first, second = sorted((str(row.source_model), str(row.target_model)))
                lowest[first, second] = min(row.value, lowest.get((first, second), row.value))
        return lowest


def worst_row(rows: Iterable[Record]) -> Record:
    """The row of the direction in which the fewest trials are right, of those the one with the fewest tokens."""
    return min(rows, key=lambda row: (row.iia or 0.0, row.token_accuracy or 0.0))


def group_by_fit(rows: Iterable[Record]) -> dict[tuple[Any, ...], list[Record]]:
    """Rows of each fit: by comparison, site, dims and control."""
    by_name: dict[tuple[Any, ...], list[Record]] = {}
    for row in rows:
        by_name.setdefault((row.comparison, row.source_site, row.k, row.control), []).append(row)
    return by_name
