"""Are models of one kind more alike than models of two kinds? Groups of pairs, with models as the unit of chance.

n models make n(n − 1)/2 pairs, but there are only n models to draw from: pairs that share a model are not independent.
Intervals therefore resample models, and the test deals the labels to the models anew. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float

from mas_hooks.core.errors import SettingError, UnsupportedError
from mas_hooks.evaluation.pair_scores import PairTable
from mas_hooks.report import PairGroup

Statistic: TypeAlias = Literal["first", "second", "both"]
Array: TypeAlias = np.ndarray

LEAST = 3
"""Models of a kind below which resampling them says nothing: two can only be drawn as they are, or without a pair."""
LEVEL = 0.05
_EXACT, _DRAWS, _MOST = 300_000, 20_000, 1_000_000


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; None where there are too few models to resample (`LEAST`).

    Example:
        >>> from mas_hooks.evaluation import Estimate
        >>> Estimate(0.25, low=0.1, high=0.4).value
        0.25
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class GroupTest:
    """What the pairs of two kinds of models say, from `compare_groups`.

    Args:
        statistic: the difference that was named beforehand.
        kinds: the two labels.
        counts: how many models have each.
        groups: first–first, first–second, second–second; a group without pairs is left out.
        effect: the statistic, a difference of means of groups.
        above: share of couples (a pair within, a pair between) in which that within scores higher, ties as half.
        p_one: share of all labelings whose statistic is at least as large.
        p_two: share of all labelings whose statistic is at least as far from 0.
        labelings: how many there are.
        smallest_p: the least that p can be in this design.
        left_out: share of resamples in which some kind was one model only, so that it had no pair.

    Example:
        >>> from itertools import combinations
        >>> from mas_hooks.evaluation import GroupTest, PairTable, compare_groups
        >>> labels = dict(zip("abcxyz", ["gru"] * 3 + ["lstm"] * 3, strict=True))
        >>> scores = {pair: float(labels[pair[0]] == labels[pair[1]]) for pair in combinations(labels, 2)}
        >>> test = compare_groups(PairTable.of(scores, labels), "both")
        >>> isinstance(test, GroupTest), test.counts, test.labelings, test.smallest_p
        (True, (3, 3), 20, 0.1)
    """

    statistic: Statistic
    kinds: tuple[str, str]
    counts: tuple[int, int]
    groups: tuple[PairGroup, ...]
    effect: Estimate
    above: float
    p_one: float
    p_two: float
    labelings: int
    smallest_p: float
    left_out: float


def compare_groups(
    table: PairTable, statistic: Statistic = "first", *, confidence: float = 0.95, seed: int = 0
) -> GroupTest:
    """Compare groups of pairs by an exact permutation test and intervals from resampled models.

    Intervals are percentiles over all resamples of the models of each kind (all are gone through where that is
    possible, else drawn by seed). A resample counts where every group that it needs has a pair of two different models.

    Args:
        table: the scores of all pairs.
        statistic: named beforehand: the mean score within the `first` kind minus that between the kinds; the same of
            the `second`; or of `both`, the mean of the two means within.
        confidence: of the intervals, between 0 and 1.
        seed: of resamples that are drawn.

    Returns:
        Group means, the statistic and its test.

    Raises:
        SettingError: a name or number is out of range, or the statistic needs a second model of a kind.
        UnsupportedError: there are too many labelings for an exact test.

    Example:
        >>> from itertools import combinations
        >>> from mas_hooks.evaluation import PairTable, compare_groups
        >>> labels = dict(zip("abcdxyz", ["gru"] * 4 + ["lstm"] * 3, strict=True))
        >>> scores = {pair: float(labels[pair[0]] == labels[pair[1]]) for pair in combinations(labels, 2)}
        >>> test = compare_groups(PairTable.of(scores, labels))
        >>> test.effect.value, round(test.p_one, 3)
        (1.0, 0.029)
    """
    if statistic not in get_args(Statistic):
        raise SettingError("statistic", statistic, " or ".join(map(repr, get_args(Statistic))))
    for kind, name in enumerate(("first", "second")):
        if statistic in (name, "both") and table.counts[kind] < 2:
            raise SettingError(f"the number of {table.kinds[kind]} models", table.counts[kind], "2 or more")
    if not 0 < confidence < 1:
        raise SettingError("confidence", confidence, "between 0 and 1")
    resampled, weights = _resample_models(table, seed)
    effects, labeled = _difference(resampled, statistic), _permute_labels(table, statistic)
    effect, near = labeled[0], 1e-9 * (1 + np.abs(labeled).max())
    within = [
        score for kind in (0, 1) if statistic != ("second", "first")[kind] for score in table.pairs(kind, kind).values()
    ]
    between = list(table.pairs(0, 1).values())
    return GroupTest(
        statistic,
        table.kinds,
        table.counts,
        _make_groups(table, resampled, weights, confidence),
        Estimate(float(effect), *_interval(table, effects, weights, confidence, (0, 1))),
        float(np.mean([(inside > across) + 0.5 * (inside == across) for inside in within for across in between])),
        float(np.mean(labeled >= effect - near)),
        float(np.mean(np.abs(labeled) >= abs(effect) - near)),
        len(labeled),
        smallest_p(table.counts, statistic),
        float(weights[np.isnan(effects)].sum()),
    )


def smallest_p(counts: tuple[int, int], statistic: Statistic = "first") -> float:
    """The least p that dealing labels to so many models can give: that of the one labeling that is most extreme.

    Where both kinds count alike and are as many, a labeling and its opposite give the same number: then two of them.
    """
    return (2 if statistic == "both" and counts[0] == counts[1] else 1) / math.comb(sum(counts), counts[0])


def describe_group_test(test: GroupTest, score: str = "IIA") -> str:
    """Describe a test in one paragraph: what it says, how sure one can be of it, and what it does not show.

    Where no labeling could give a p below 0.05, it says so in place of a verdict.

    Example:
        >>> from itertools import combinations
        >>> from mas_hooks.evaluation import PairTable, compare_groups, describe_group_test
        >>> labels = dict(zip("abcxyz", ["gru"] * 3 + ["lstm"] * 3, strict=True))
        >>> scores = {pair: float(labels[pair[0]] == labels[pair[1]]) for pair in combinations(labels, 2)}
        >>> describe_group_test(compare_groups(PairTable.of(scores, labels))).split(";")[0]
        'Mean IIA by kind of pair: gru–gru 1.000 (3 pairs, interval 1.000 to 1.000)'
    """
    first, second = test.kinds
    groups = "; ".join(_describe_group(group) for group in test.groups)
    difference = f"{_NAMES[test.statistic].format(first=first, second=second)} ({first}–{second} subtracted)"
    ends = "" if test.effect.low is None else f" ({test.effect.low:+.3f} to {test.effect.high:+.3f})"
    parts = [
        f"Mean {score} by kind of pair: {groups}.",
        f"The difference named beforehand, {difference}, is {test.effect.value:+.3f}{ends}; of the couples of a pair"
        f" within and a pair between, the one within scores higher in {test.above:.0%}.",
        f"Dealing the labels to the models in all {test.labelings} ways gives a difference at least as large with"
        f" p = {test.p_one:.3g} (one-sided; two-sided {test.p_two:.3g}), where the smallest p that"
        f" {_describe_sizes(test)} can give is {test.smallest_p:.3g}.",
        _state_verdict(test),
        f"Intervals are percentiles over resampled models, which are few: they are rough, and too narrow rather than"
        f" too wide{_describe_left_out(test)}.",
        "None of this shows why groups differ, or that other models of the same kinds would do the same.",
    ]
    return " ".join(parts)


_NAMES = {
    "first": "{first}–{first}",
    "second": "{second}–{second}",
    "both": "the mean of {first}–{first} and {second}–{second}",
}


def _describe_group(group: PairGroup) -> str:
    count = f"{len(group.values)} pair" + ("s" if len(group.values) > 1 else "")
    ends = "" if group.low is None else f", interval {group.low:.3f} to {group.high:.3f}"
    return f"{group.label} {group.mean:.3f} ({count}{ends})"


def _describe_sizes(test: GroupTest) -> str:
    return " + ".join(map(str, test.counts)) + " models"


def _state_verdict(test: GroupTest) -> str:
    more = (test.counts[0] + 1, test.counts[1] + 1)
    if test.smallest_p >= LEVEL:
        return (
            f"As that is not below {LEVEL}, this design cannot rule out chance, however large the difference: it can"
            f" only describe these {sum(test.counts)} models ({more[0]} + {more[1]} could reach"
            f" {smallest_p(more, test.statistic):.2g})."
        )
    if test.p_one < LEVEL:
        return f"That is significant at {LEVEL}, one-sided: labels dealt by chance rarely do as much."
    return f"That is not significant at {LEVEL}, one-sided: labels dealt by chance do as much often enough."


def _describe_left_out(test: GroupTest) -> str:
    share = f"; {test.left_out:.0%} of the resamples drew one model only of a kind, had no pair, and were left out"
    return share if test.left_out else ""


Means: TypeAlias = tuple[Array, Array, Array]
"""Within the first kind, between, within the second: one number a resample or labeling, NaN where there is no pair."""


def _group_means(scores: Array, first: Float[Array, "r n"], second: Float[Array, "r n"]) -> Means:
    """first, second: how often each model stands in each kind. A model makes no pair with itself."""

    def within(times: Array) -> Array:
        pairs = times.sum(1) ** 2 - (times**2).sum(1)
        return np.divide((times @ scores * times).sum(1), pairs, out=np.full(len(times), np.nan), where=pairs > 0)

    return within(first), (first @ scores * second).sum(1) / (first.sum(1) * second.sum(1)), within(second)


def _difference(means: Means, statistic: Statistic) -> Array:
    first, between, second = means
    return {"first": first, "second": second, "both": (first + second) / 2}[statistic] - between


def _permute_labels(table: PairTable, statistic: Statistic) -> Array:
    """The statistic under every labeling; that of the true labels is the first."""
    total, first = sum(table.counts), table.counts[0]
    if math.comb(total, first) > _MOST:
        raise UnsupportedError(f"an exact test over {math.comb(total, first)} labelings", "compare fewer models")
    chosen = np.array(list(combinations(range(total), first)))
    has = np.zeros((len(chosen), total))
    np.put_along_axis(has, chosen, 1, axis=1)
    return _difference(_group_means(table.scores, has, 1 - has), statistic)


def _resample_models(table: PairTable, seed: int) -> tuple[Means, Array]:
    """The three means of resamples of the models of each kind, and how likely each resample is."""
    counts = [math.comb(2 * count - 1, count) for count in table.counts]
    if math.prod(counts) <= _EXACT:
        (first, likely), (second, so) = (_multisets(count) for count in table.counts)
        first, second = np.repeat(first, len(second), 0), np.tile(second, (len(first), 1))
        weights = np.outer(likely, so).ravel()
    else:
        rng = np.random.default_rng(seed)
        first, second = (rng.multinomial(count, [1 / count] * count, _DRAWS) for count in table.counts)
        weights = np.full(_DRAWS, 1 / _DRAWS)
    blank = [np.zeros((len(weights), count)) for count in table.counts]
    return _group_means(table.scores, np.hstack([first, blank[1]]), np.hstack([blank[0], second])), weights


def _multisets(count: int) -> tuple[Array, Array]:
    """How often each model is drawn in every resample of so many models, and how likely that is."""
    drawn = combinations_with_replacement(range(count), count)
    times = np.array([np.bincount(models, minlength=count) for models in drawn])
    orders = [math.factorial(count) / math.prod(map(math.factorial, repeats)) for repeats in times.tolist()]
    return times, np.array(orders) / count**count


def _interval(
    table: PairTable, values: Array, weights: Array, confidence: float, kinds: Iterable[int]
) -> tuple[float, float] | tuple[None, None]:
    """The weighted percentiles of those resamples that have a value."""
    if min(table.counts[kind] for kind in kinds) < LEAST:
        return None, None
    there = ~np.isnan(values)
    shares = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    shares = (shares - 1e-12).clip(min=0)  # where a sum of weights meets the share but for rounding, it counts as met
    low, high = np.quantile(values[there], shares, weights=weights[there], method="inverted_cdf").tolist()
    return low, high


def _make_groups(table: PairTable, resampled: Means, weights: Array, confidence: float) -> tuple[PairGroup, ...]:
    groups = []
    for values, (first, second) in zip(resampled, ((0, 0), (0, 1), (1, 1)), strict=True):
        pairs = table.pairs(first, second)
        if pairs:
            ends = _interval(table, values, weights, confidence, (first, second))
            label = f"{table.kinds[first]}–{table.kinds[second]}"
            groups.append(PairGroup(label, pairs, sum(pairs.values()) / len(pairs), *ends))
    return tuple(groups)
