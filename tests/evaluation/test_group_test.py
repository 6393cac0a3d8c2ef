"""Groups of pairs: cases counted by hand, laws of the test and of the intervals, and what the sentence may say."""

import math
from itertools import combinations, permutations, product

import numpy as np
import pytest
from sentences import refused

from mas_hooks.core.errors import EmptyError, NotFiniteError, SettingError, UnknownNameError, UnsupportedError
from mas_hooks.core.records import Record
from mas_hooks.evaluation.group_test import compare_groups, describe_group_test, smallest_p
from mas_hooks.evaluation.pair_scores import PairTable, pair_scores

TOXIC, NONTOXIC = ("t0", "t1", "t2"), ("n0", "n1", "n2")


def labels(first=3, second=3):
    return {f"t{i}": "toxic" for i in range(first)} | {f"n{i}": "nontoxic" for i in range(second)}


def scores(of, seed=None, tt=0.8, tn=0.5, nn=0.6, spread=0.02):
    """A table in one direction: three group means and noise of each pair."""
    rng = np.random.default_rng(seed)
    means = {"tt": tt, "tn": tn, "nn": nn}
    noise = (lambda: 0.0) if seed is None else (lambda: spread * rng.standard_normal())
    return {(one, other): means[one[0] + other[0]] + noise() for one, other in combinations(of, 2)}


def table(seed=None, first=3, second=3, **means):
    of = labels(first, second)
    return PairTable.of(scores(of, seed, **means), of)


def loop(made, statistic):
    """The statistic under every labeling, by plain loops over dictionaries."""
    of = dict(zip(made.models, range(len(made.models)), strict=True))

    def mean(pairs):
        found = [made.scores[of[a], of[b]] for a, b in pairs]
        return sum(found) / len(found)

    dealt = []
    for chosen in combinations(made.models, made.counts[0]):
        rest = [model for model in made.models if model not in chosen]
        between = mean(product(chosen, rest))
        first, second = (mean(combinations(kind, 2)) if len(kind) > 1 else math.nan for kind in (chosen, rest))
        dealt.append({"first": first, "second": second, "both": (first + second) / 2}[statistic] - between)
    return np.array(dealt)


# --- cases made by hand ----------------------------------------------------------------------------------------------


def test_means_effect_and_p_of_a_clean_case():
    found = compare_groups(table())
    assert [group.label for group in found.groups] == ["toxic–toxic", "toxic–nontoxic", "nontoxic–nontoxic"]
    assert [group.mean for group in found.groups] == pytest.approx([0.8, 0.5, 0.6])
    assert [len(group.values) for group in found.groups] == [3, 9, 3]
    assert found.groups[1].values.keys() == {f"{t} × {n}" for t in TOXIC for n in NONTOXIC}
    assert found.effect.value == pytest.approx(0.3)
    assert (found.effect.low, found.effect.high) == pytest.approx((0.3, 0.3))
    assert found.above == 1.0
    assert (found.labelings, found.p_one, found.p_two, found.smallest_p) == (20, 0.05, 0.05, 0.05)
    second, both = compare_groups(table(), "second"), compare_groups(table(), "both")
    assert second.effect.value == pytest.approx(0.1)
    assert second.p_one == 0.1  # the labeling that calls the toxic ones second is further out
    assert both.effect.value == pytest.approx(0.2)
    assert (both.p_one, both.p_two, both.smallest_p) == (0.1, 0.1, 0.1)


def test_where_all_pairs_are_alike_everything_is_chance():
    found = compare_groups(table(tt=0.5, tn=0.5, nn=0.5))
    assert (found.effect.value, found.above, found.p_one, found.p_two) == (0.0, 0.5, 1.0, 1.0)


@pytest.mark.parametrize("statistic", ["first", "second", "both"])
@pytest.mark.parametrize(("first", "second"), [(3, 3), (2, 4), (4, 4)])
def test_p_counts_labelings_as_a_loop_does(statistic, first, second):
    for seed in range(4):
        made = table(seed, first, second, tt=0.52, tn=0.5, nn=0.51)
        found, dealt = compare_groups(made, statistic), loop(made, statistic)
        assert found.labelings == len(dealt) == math.comb(first + second, first)
        assert found.effect.value == pytest.approx(dealt[0])
        assert found.p_one == pytest.approx(np.mean(dealt >= dealt[0] - 1e-12))
        assert found.p_two == pytest.approx(np.mean(np.abs(dealt) >= abs(dealt[0]) - 1e-12))
        assert dealt.mean() == pytest.approx(0.0, abs=1e-12)  # so that far from 0 is far from chance


@pytest.mark.parametrize(("each", "count"), [(3, 20), (4, 70), (5, 252)])
def test_the_smallest_p_is_reached_by_the_cleanest_table(each, count):
    clean = table(0, each, each, tt=0.9, tn=0.1, nn=0.2, spread=0.001)
    for statistic, least in (("first", 1 / count), ("both", 2 / count)):
        found = compare_groups(clean, statistic)
        assert found.labelings == count
        assert found.p_one == found.smallest_p == pytest.approx(least)
        assert smallest_p((each, each), statistic) == found.smallest_p
    assert smallest_p((3, 4), "both") == 1 / 35  # no labeling has an opposite there
    assert smallest_p((3, 3)) == 0.05


# --- laws ------------------------------------------------------------------------------------------------------------


def test_names_of_the_labels_and_their_order_do_not_matter():
    of = labels()
    given = scores(of, 3)
    turned = dict(sorted(of.items()))  # the nontoxic first
    one, other = PairTable.of(given, of), PairTable.of(given, turned)
    assert other.kinds == ("nontoxic", "toxic")
    for statistic, opposite in (("first", "second"), ("second", "first"), ("both", "both")):
        found, back = compare_groups(one, statistic), compare_groups(other, opposite)
        assert found.effect.value == pytest.approx(back.effect.value)
        assert (found.effect.low, found.effect.high) == pytest.approx((back.effect.low, back.effect.high))
        assert (found.p_one, found.p_two, found.above) == pytest.approx((back.p_one, back.p_two, back.above))
        assert found.left_out == pytest.approx(back.left_out)
        assert [group.mean for group in found.groups] == pytest.approx([group.mean for group in back.groups[::-1]])


def test_p_is_uniform_where_labels_mean_nothing():
    """Models with heights of their own: pairs that share a model go together, and still p keeps its promise."""
    rng, found = np.random.default_rng(0), []
    of = labels(4, 4)
    for _ in range(400):
        height = dict(zip(of, rng.standard_normal(8), strict=True))
        given = {(a, b): height[a] + height[b] + 0.3 * rng.standard_normal() for a, b in combinations(of, 2)}
        found.append(compare_groups(PairTable.of(given, of)))
    for ps in (np.array([one.p_one for one in found]), np.array([one.p_two for one in found])):
        for level in (0.1, 0.3, 0.5, 0.8):
            assert abs((ps <= level).mean() - math.floor(level * 70) / 70) < 4 * math.sqrt(level * (1 - level) / 400)


def test_intervals_resample_models_not_pairs():
    """One odd model moves three of nine mixed pairs at once: the interval over models is wider than over pairs."""
    of = labels()
    given = {pair: 0.1 if "n0" in pair else 0.7 for pair in combinations(of, 2)}
    mixed = compare_groups(PairTable.of(given, of)).groups[1]
    assert mixed.mean == pytest.approx(0.5)
    assert (mixed.low, mixed.high) == pytest.approx((0.1, 0.7))
    over_pairs = np.random.default_rng(0).choice(list(mixed.values.values()), (4000, 9)).mean(1)
    assert np.quantile(over_pairs, 0.025) > 0.25


def test_resamples_are_gone_through_one_by_one():
    """Against all 27 × 27 ordered draws of 3 + 3 models, by plain loops."""
    made = table(5)
    found = compare_groups(made)
    within, between, differences, empty = [], [], [], 0
    for first in product(range(3), repeat=3):
        own = [made.scores[i, j] for i, j in permutations(first, 2) if i != j]
        within.append(np.mean(own) if own else None)
        for second in product(range(3, 6), repeat=3):
            between.append(np.mean([made.scores[i, j] for i in first for j in second]))
            empty += not own
            differences += [np.mean(own) - between[-1]] if own else []
    assert found.left_out == pytest.approx(empty / 27**2) == pytest.approx(1 / 9)
    kinds = (found.groups[0], [one for one in within if one is not None]), (found.groups[1], between)
    for group, values in (*kinds, (found.effect, differences)):
        ends = np.quantile(values, [0.025, 0.975], method="inverted_cdf")
        assert (group.low, group.high) == pytest.approx(tuple(ends))


def test_two_models_of_a_kind_have_no_interval_and_one_has_no_pair():
    found = compare_groups(table(0, 2, 3))
    toxic, mixed, nontoxic = found.groups
    assert toxic.low is mixed.low is found.effect.low is None
    assert nontoxic.low is not None
    assert found.left_out == 0.5
    alone = compare_groups(table(0, 3, 1))
    assert [group.label for group in alone.groups] == ["toxic–toxic", "toxic–nontoxic"]
    assert alone.labelings == 4
    assert alone.smallest_p == 0.25


def test_many_models_are_drawn_by_seed():
    made = table(0, 8, 8)
    one, same, other = compare_groups(made, seed=1), compare_groups(made, seed=1), compare_groups(made, seed=2)
    assert one.effect == same.effect != other.effect
    assert one.effect.low == pytest.approx(other.effect.low, abs=0.005)
    assert one.effect.low < one.effect.value < one.effect.high


def test_wider_confidence_is_wider():
    made = table(0, 5, 5)
    narrow, wide = compare_groups(made, confidence=0.5).effect, compare_groups(made, confidence=0.99).effect
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


# --- the table -------------------------------------------------------------------------------------------------------


def test_two_directions_are_one_score():
    of = labels()
    given = scores(of)
    back = {(other, one): score - 0.2 for (one, other), score in given.items()}
    own = {(model, model): 0.99 for model in of}
    worst, mean = (PairTable.of(given | back | own, of, combine) for combine in ("worst", "mean"))
    assert compare_groups(worst).groups[0].mean == pytest.approx(0.6)
    assert compare_groups(mean).groups[0].mean == pytest.approx(0.7)
    assert worst.models == (*TOXIC, *NONTOXIC)
    np.testing.assert_array_equal(worst.scores, worst.scores.T)
    assert not worst.scores.diagonal().any()


def row(one, other, iia, **keys):
    return Record(
        comparison=" × ".join(sorted(keys.pop("of", (one, other)))), source_model=one, target_model=other, iia=iia,
        token_accuracy=iia / 2, split=keys.pop("split", "test"), **keys,
    )  # fmt: skip


def test_scores_of_records_are_the_worst_of_four_directions():
    fit = [row("a", "b", 0.5), row("b", "a", 0.4)]
    fit += [row("a", "a", 0.9, of=("a", "b")), row("b", "b", 0.3, of=("a", "b"))]
    ignored = [row("a", "b", 0.0, split="valid"), row("a", "b", 0.0, control="untrained"), row("a", "a", 0.1)]
    assert pair_scores(fit + ignored) == {("a", "b"): 0.3}
    assert pair_scores(fit, "token_accuracy") == {("a", "b"): 0.15}
    of = ("a", "b", "c")
    many = [row(one, other, 0.1 * (i + 1), of=of) for i, (one, other) in enumerate(product(of, repeat=2))]
    assert pair_scores(many) == pytest.approx({("a", "b"): 0.1, ("a", "c"): 0.1, ("b", "c"): 0.5})
    with refused(UnsupportedError, "more than one fit of a × b is not supported; choose one seed"):
        pair_scores([*fit, row("a", "b", 0.5, k=8)])


def test_what_cannot_be_compared_is_refused():
    of = labels()
    given = scores(of)
    with refused(SettingError, "the labels of the models is ['toxic']"):
        PairTable.of(given, dict.fromkeys(of, "toxic"))
    with refused(SettingError, "combine is 'best'"):
        PairTable.of(given, of, "best")
    with refused(UnknownNameError, "the table of labels has no model 't9'"):
        PairTable.of(given | {("t9", "t0"): 0.1}, of)
    with refused(NotFiniteError, "the table of pairs holds 1 value"):
        PairTable.of(given | {("t0", "t1"): math.nan}, of)
    with refused(EmptyError, "the set of scores of t1 × t2 is empty"):
        PairTable.of({pair: score for pair, score in given.items() if pair != ("t1", "t2")}, of)
    with refused(SettingError, "statistic is 'third'"):
        compare_groups(table(), "third")
    with refused(SettingError, "confidence is 1.5"):
        compare_groups(table(), confidence=1.5)
    for statistic in ("second", "both"):
        with refused(SettingError, "the number of nontoxic models is 1, but must be 2 or more"):
            compare_groups(table(0, 3, 1), statistic)
    with refused(UnsupportedError, "an exact test over 2704156 labelings"):
        compare_groups(table(0, 12, 12))


# --- the sentence ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statistic", ["first", "second", "both"])
@pytest.mark.parametrize(("first", "second"), [(3, 3), (2, 3), (2, 2), (3, 2)])
def test_small_designs_never_hear_the_word(first, second, statistic):
    found = compare_groups(table(0, first, second, tt=0.99, tn=0.01, nn=0.9), statistic)
    assert found.smallest_p >= 0.05
    said = describe_group_test(found)
    assert "significant" not in said.lower()
    assert "cannot rule out chance, however large the difference" in said
    assert f"{first} + {second} models can give is {found.smallest_p:.3g}" in said


def test_larger_designs_hear_it_both_ways():
    large, small = (compare_groups(table(0, 4, 4, tt=tt, tn=0.5)) for tt in (0.9, 0.505))
    assert "is significant at 0.05, one-sided" in describe_group_test(large)
    assert "not significant" not in describe_group_test(large)
    assert "is not significant at 0.05" in describe_group_test(small)
    assert "4 + 4 models can give is 0.0143" in describe_group_test(large)


def test_the_sentence_says_all_numbers():
    found = compare_groups(table(0))
    said = describe_group_test(found, "trial IIA")
    assert said.startswith("Mean trial IIA by kind of pair: toxic–toxic 0.")
    for group in found.groups:
        assert f"{group.label} {group.mean:.3f} ({len(group.values)} pairs, interval {group.low:.3f} to" in said
    assert f"is {found.effect.value:+.3f} ({found.effect.low:+.3f} to {found.effect.high:+.3f})" in said
    assert "in all 20 ways" in said
    assert "p = 0.05 (one-sided; two-sided 0.05)" in said
    assert "(4 + 4 could reach 0.014)" in said
    assert "11% of the resamples drew one model only of a kind" in said
    assert "None of this shows why groups differ" in said
    assert "\n" not in said
    assert "interval" not in describe_group_test(compare_groups(table(0, 2, 2))).split("Intervals")[0]
