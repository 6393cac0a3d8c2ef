"""The scores of all pairs among models of two kinds. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float

from mas_hooks.core.errors import EmptyError, NotFiniteError, SettingError, UnknownNameError
from mas_hooks.core.records import Record

Combine: TypeAlias = Literal["worst", "mean"]


@dataclass(frozen=True, eq=False)
class PairTable:
    """The scores of all pairs of models, those of the first kind before those of the second.

    scores (n, n): symmetric; the diagonal, where a model meets itself, is 0 and never read. kinds: the two labels.
    counts: how many models have each.
    """

    models: tuple[str, ...]
    kinds: tuple[str, str]
    counts: tuple[int, int]
    scores: Float[np.ndarray, "n n"]

    @classmethod
    def of(
        cls, scores: Mapping[tuple[str, str], float], labels: Mapping[str, str], combine: Combine = "worst"
    ) -> PairTable:
        """From scores by (model, model), in one direction or both, and the label of each model; the first label leads.

        combine: what stands for two directions, the `worst` of them (as for the IIA of a comparison) or their `mean`.
        A model's score with itself is left out. Raises for labels that are not two, for scores that are not numbers,
        and for a pair without one.
        """
        kinds = tuple(dict.fromkeys(labels.values()))
        if len(kinds) != 2:
            raise SettingError("the labels of the models", list(kinds), "two different ones")
        if combine not in get_args(Combine):
            raise SettingError("combine", combine, " or ".join(map(repr, get_args(Combine))))
        models = sorted(labels, key=lambda model: kinds.index(labels[model]))
        unknown = [model for pair in scores for model in pair if model not in labels]
        if unknown:
            raise UnknownNameError("model", unknown[0], models, "the table of labels")
        unfit = sum(not math.isfinite(score) for score in scores.values())
        if unfit:
            raise NotFiniteError("the table of pairs", unfit)
        found = np.zeros((len(models), len(models)))
        for (i, one), (j, other) in combinations(enumerate(models), 2):
            both = [scores[way] for way in ((one, other), (other, one)) if way in scores]
            if not both:
                raise EmptyError(f"the score of {one} × {other}", "every pair of models needs one")
            found[i, j] = found[j, i] = min(both) if combine == "worst" else sum(both) / len(both)
        first = sum(labels[model] == kinds[0] for model in models)
        return cls(tuple(models), (kinds[0], kinds[1]), (first, len(models) - first), found)

    def pairs(self, one: int, other: int) -> dict[str, float]:
        """The scores of the pairs of two kinds (0 or 1), by name."""
        sides = [self.counts[0] * kind for kind in (0, 1)]
        inside = [range(begin, begin + count) for begin, count in zip(sides, self.counts, strict=True)]
        chosen = combinations(inside[one], 2) if one == other else ((i, j) for i in inside[one] for j in inside[other])
        return {f"{self.models[i]} × {self.models[j]}": float(self.scores[i, j]) for i, j in chosen}


def pair_scores(
    records: Iterable[Record], key: Literal["iia", "token_accuracy", "floor", "token_floor"] = "iia"
) -> dict[tuple[str, str], float]:
    """The score of every pair of models from the test rows of one fit each: its worst direction, the models' own too.

    Also of one fit of many models: then of the four directions between two. Raises SettingError where a pair was
    fitted more than once: choose one seed, size and site first.
    """
    rows = [row for row in records if row.split == "test" and row.control is None and getattr(row, key) is not None]
    found: dict[tuple[str, str], float] = {}
    fits = dict.fromkeys((row.comparison, row.method, row.k, row.source_site, row.seed, row.init) for row in rows)
    for fit in fits:
        own = [r for r in rows if (r.comparison, r.method, r.k, r.source_site, r.seed, r.init) == fit]
        crossed = dict.fromkeys(tuple(sorted((str(r.source_model), str(r.target_model)))) for r in own)
        for one, other in crossed:
            if one == other:
                continue
            if (one, other) in found:
                raise SettingError(f"the fit of {one} × {other}", "there twice", "one of one seed, size and site")
            inside = [r for r in own if {r.source_model, r.target_model} <= {one, other}]
            found[one, other] = min(getattr(r, key) for r in inside)
    return found
