import collections
import random

import pytest

from mas_hooks.core.errors import EmptyError, SettingError, UnknownNameError
from mas_hooks.data.tasks import (
    CounterfactualSettings,
    Party,
    arithmetic_task,
    continue_trial,
    counterfactual,
    draw_counterfactual,
    task,
)

words = str.split
MULTI, MODULO, ROUNDING, ARITHMETIC = map(task, ("multi_object", "modulo", "rounding", "arithmetic"))


# --- the example sentences of the specification ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "prefix", "variables", "choices", "expected"),
    [
        (MULTI, "B Da Db Dc", {"last_value": -1}, "", "T R E"),
        (MULTI, "B Da Db T R", {"last_value": 1}, "", "R R R E"),
        (ARITHMETIC, "B 2 Op 3 + 5 = 8 ,", {"cumu_val": 3}, "+ 2", "+ 2 = 5 E"),
        (ARITHMETIC, "B 3 Op 3 + 5 = 8 ,", {"rem_ops": 1}, "+ 1", "+ 1 = 9 E"),
        (MULTI, "B Da", {"count": 3}, "Db", "Db T R R R R E"),
        (MULTI, "B Da", {"phase": "response", "count": 2}, "", "R R E"),
        (MULTI, "B Da T R", {"phase": "demo", "count": 2}, "Db Da", "Db Da T R R R R E"),
        (MULTI, "B Da T R", {"count": 0}, "", "E"),
        (MULTI, "B Da", {"count": 0}, "Db", "Db T R E"),
        (MODULO, "B Da Db T R", {"count": 7}, "", "R R R E"),
        (MODULO, "B Da", {"count": 7}, "Db", "Db T E"),
        (MODULO, "B Da Db T R", {"count": 8}, "", "E"),
        (ROUNDING, "B Da Db T R", {"count": 7}, "", "R R R R R R R E"),
        (ROUNDING, "B Da", {"count": 20}, "", "T" + " R" * 21 + " E"),
        (task("same_object"), "B C C T C", {"phase": "demo", "count": 1}, "C", "C T C C E"),
        (task("same_object"), "B C C", {"phase": "response", "count": 1}, "", "C E"),
        (ARITHMETIC, "B 2 Op 3 + 5 = 8 ,", {"cumu_val": 20, "rem_ops": 2}, "- 0 - 20", "- 0 = 20 , - 20 = 0 E"),
    ],
)
def test_the_continuation_can_be_checked_by_hand(of, prefix, variables, choices, expected):
    assert continue_trial(of, words(prefix), variables, words(choices)) == tuple(words(expected))


# --- draws -----------------------------------------------------------------------------------------------------------


def many(source, target, number=1500, chosen=counterfactual.DEFAULTS):
    rng = random.Random(5)
    return [draw_counterfactual(source, target, rng, chosen) for _ in range(number)]


def more(found):
    """How many demo tokens follow a swap that lands in the demo phase."""
    return found.target_tokens[found.target_position + 1 :].index("T")


def test_the_demo_phase_goes_on_for_zero_to_three_tokens():
    full = Party(MULTI, "full")
    landed = [found for found in many(full, full) if found.expected["phase"] == "demo"]
    inner = collections.Counter(more(found) for found in landed if found.expected["count"] <= 17)
    assert set(inner) == {0, 1, 2, 3}
    assert all(abs(n / inner.total() - 0.25) < 0.07 for n in inner.values())
    assert all(more(found) == 0 for found in landed if found.expected["count"] == 20)


def test_a_count_of_zero_gets_at_least_one_demo_token():
    count = Party(MULTI, "count")
    zero = [f for f in many(count, count) if f.expected == {"phase": "demo", "count": 0}]
    assert {more(found) for found in zero} == {1, 2, 3}


def test_the_targets_own_quantity():
    full, chosen = Party(MULTI, "full"), CounterfactualSettings(demo_continuation="to_quantity")
    landed = [found for found in many(full, full, chosen=chosen) if found.expected["phase"] == "demo"]
    assert max(more(found) for found in landed) > 10
    # Where the target had already answered, its own quantity can be read off its tokens.
    answering = [found for found in landed if "T" in found.target_tokens[: found.target_position]]
    for found in answering:
        own = found.target_tokens.index("T") - 1
        assert more(found) == max(own - found.expected["count"], 0)
    assert len(answering) > 100


def test_full_takes_the_sources_phase_and_count_keeps_the_targets():
    for variable, kept in (("full", "source"), ("count", "target")):
        party = Party(MULTI, variable)
        for found in many(party, party, 200):
            in_target = "response" if "T" in found.target_tokens[: found.target_position] else "demo"
            expected = found.source_variables["phase"] if kept == "source" else in_target
            assert found.expected["phase"] == expected


def test_cross_variable_values_are_those_that_both_have():
    rem_ops, count = Party(ARITHMETIC, "rem_ops"), Party(MULTI, "count")
    assert {f.expected["rem_ops"] for f in many(count, rem_ops, 500)} == set(range(1, 10))
    assert {f.expected["count"] for f in many(rem_ops, count, 500)} == set(range(1, 10))
    high = Party(ARITHMETIC, "cumu_val_high")
    assert {f.expected["count"] for f in many(high, count, 500)} == set(range(10, 21))


def test_redraws_are_counted():
    count, rem_ops, last = Party(MULTI, "count"), Party(ARITHMETIC, "rem_ops"), Party(MULTI, "last_value")
    assert all(found.redraws == 0 for found in many(count, count, 200))
    assert sum(found.redraws for found in many(count, rem_ops, 200)) > 20
    assert sum(found.redraws for found in many(last, last)) > 0


def test_the_same_generator_gives_the_same_draws():
    pair = Party(ROUNDING, "count"), Party(MULTI, "count")
    assert many(*pair, 20) == many(*pair, 20)


def test_last_value_expects_only_itself():
    last = Party(MULTI, "last_value")
    assert {tuple(found.expected) for found in many(last, last, 50)} == {("last_value",)}


# --- errors ----------------------------------------------------------------------------------------------------------


def test_variables_without_a_value_in_common():
    high, rem_ops = Party(ARITHMETIC, "cumu_val_high"), Party(ARITHMETIC, "rem_ops")
    sentence = "arithmetic cumu_val_high → arithmetic rem_ops is '10 to 20 → 1 to 9', but must be able to share a value"
    with pytest.raises(SettingError, match=sentence):
        draw_counterfactual(high, rem_ops, random.Random(0))


def test_values_that_never_fit_end_in_an_error(monkeypatch):
    monkeypatch.setattr(counterfactual, "MOST_REDRAWS", 0)
    with pytest.raises(SettingError, match="is 'out of range 0 times in a row', but must be able to share a value"):
        draw_counterfactual(Party(MULTI, "count"), Party(MULTI, "count"), random.Random(0))


@pytest.mark.parametrize(
    "pair",
    [
        (Party(MULTI, "full"), Party(ARITHMETIC, "full")),
        (Party(MULTI, "full"), Party(MULTI, "count")),
        (Party(MULTI, "last_value"), Party(MULTI, "count")),
        (Party(MULTI, "last_value"), Party(ARITHMETIC, "rem_ops")),
    ],
)
def test_variables_that_cannot_stand_for_each_other(pair):
    with pytest.raises(SettingError, match=r"pair of variables is '.* → .*', but must be the same twice, or two of \["):
        draw_counterfactual(*pair, random.Random(0))


def test_an_unknown_variable_is_named():
    with pytest.raises(UnknownNameError, match=r"task arithmetic has no variable 'remops'\. Did you mean 'rem_ops'"):
        Party(arithmetic_task(), "remops")


def test_an_unknown_continuation_is_named():
    with pytest.raises(SettingError, match="demo_continuation is 'unifrom', but must be 'uniform' or 'to_quantity'"):
        CounterfactualSettings("unifrom")


def test_no_prefix_to_continue():
    with pytest.raises(EmptyError, match="the prefix is empty; give the target's tokens up to the swap"):
        continue_trial(MULTI, [], {"count": 1})
