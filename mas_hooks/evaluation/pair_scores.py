"""The scores of all pairs among models of two kinds. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float

from mas_hooks.core.errors import EmptyError, NotFiniteError, SettingError, UnknownNameError, UnsupportedError
from mas_hooks.core.records import Record

Combine: TypeAlias = Literal["worst", "mean"]


@dataclass(frozen=True, eq=False)
class PairTable:
    """The scores of all pairs of models, those of the first kind before those of the second.

    Args:
        models: their names.
        kinds: the two labels.
        counts: how many models have each.
        scores: symmetric, (n, n); the diagonal, where a model meets itself, is 0 and never read.

    Example:
        >>> from mas_hooks.evaluation import PairTable
        >>> scores = {("a", "b"): 0.9, ("b", "a"): 0.8, ("a", "c"): 0.4, ("b", "c"): 0.3}
        >>> table = PairTable.of(scores, labels={"a": "gru", "b": "gru", "c": "lstm"})
        >>> table.kinds, table.counts, table.pairs(0, 0), table.pairs(0, 1)
        (('gru', 'lstm'), (2, 1), {'a × b': 0.8}, {'a × c': 0.4, 'b × c': 0.3})
    """

    models: tuple[str, ...]
    kinds: tuple[str, str]
    counts: tuple[int, int]
    scores: Float[np.ndarray, "n n"]

    @classmethod
    def of(
        cls, scores: Mapping[tuple[str, str], float], labels: Mapping[str, str], combine: Combine = "worst"
    ) -> PairTable:
        """Make the table; the first label leads, and a model's score with itself is left out.

        Args:
            scores: by (model, model), in one direction or both.
            labels: the kind of each model.
            combine: what stands for two directions, the `worst` of them (as for the IIA of a comparison) or their
                `mean`.

        Returns:
            The table.

        Raises:
            SettingError: there are not two kinds, or `combine` is unknown.
            UnknownNameError: a scored model has no label.
            NotFiniteError: a score is NaN or infinite.
            EmptyError: a pair has no score.
        """
        kinds = tuple(dict.fromkeys(labels.values()))
        if len(kinds) != 2:
            raise SettingError("the list of kinds of models", list(kinds), "one of two kinds")
        if combine not in get_args(Combine):
            raise SettingError("combine", combine, " or ".join(map(repr, get_args(Combine))))
        models = sorted(labels, key=lambda model: kinds.index(labels[model]))
        unknown = [model for pair in scores for model in pair if model not in labels]
        if unknown:
            raise UnknownNameError("model", unknown[0], models, "the table of labels")
        unfit = sum(not math.isfinite(score) for score in scores.values())
        if unfit:
            raise NotFiniteError("the table of pairs", unfit)
        matrix = np.zeros((len(models), len(models)))
        for (i, first), (j, second) in combinations(enumerate(models), 2):
            both = [scores[names] for names in ((first, second), (second, first)) if names in scores]
            if not both:
                raise EmptyError(f"the set of scores of {first} × {second}", "every pair of models needs one")
            matrix[i, j] = matrix[j, i] = min(both) if combine == "worst" else sum(both) / len(both)
        count = sum(labels[model] == kinds[0] for model in models)
        return cls(tuple(models), (kinds[0], kinds[1]), (count, len(models) - count), matrix)

    def pairs(self, first: int, second: int) -> dict[str, float]:
        """The scores of the pairs of two kinds (0 or 1), by name."""
        sides = [self.counts[0] * kind for kind in (0, 1)]
        inside = [range(begin, begin + count) for begin, count in zip(sides, self.counts, strict=True)]
        within = combinations(inside[first], 2)
        chosen = within if first == second else ((i, j) for i in inside[first] for j in inside[second])
        return {f"{self.models[i]} × {self.models[j]}": float(self.scores[i, j]) for i, j in chosen}


def pair_scores(
    records: Iterable[Record], key: Literal["iia", "token_accuracy", "floor", "token_floor"] = "iia"
) -> dict[tuple[str, str], float]:
    """The score of every pair of models from the test rows of one fit each: its worst direction, the models' own too.

    Also of one fit of many models: then of the four directions between two. Raises UnsupportedError where a pair was
    fitted more than once: choose one seed, size and site first.

    Example:
        >>> from mas_hooks import Record
        >>> from mas_hooks.evaluation import pair_scores
        >>> ends = [("a", "b", 0.9), ("b", "a", 0.8), ("a", "a", 1.0)]
        >>> rows = [Record(split="test", source_model=a, target_model=b, iia=iia) for a, b, iia in ends]
        >>> pair_scores(rows)
        {('a', 'b'): 0.8}
    """
    rows = [row for row in records if row.split == "test" and row.control is None and getattr(row, key) is not None]
    scores: dict[tuple[str, str], float] = {}
    for fit in dict.fromkeys(map(_fit_keys, rows)):
        of_fit = [row for row in rows if _fit_keys(row) == fit]
        crossed = dict.fromkeys(tuple(sorted((str(row.source_model), str(row.target_model)))) for row in of_fit)
        for first, second in crossed:
            if first == second:
                continue
            if (first, second) in scores:
                remedy = "choose one seed, size and site first"
                raise UnsupportedError(f"more than one fit of {first} × {second}", remedy)
            inside = [row for row in of_fit if {row.source_model, row.target_model} <= {first, second}]
            scores[first, second] = min(getattr(row, key) for row in inside)
    return scores


def _fit_keys(row: Record) -> tuple[object, ...]:
    """What the rows of one fit share."""
    return row.comparison, row.method, row.k, row.source_site, row.seed, row.init
