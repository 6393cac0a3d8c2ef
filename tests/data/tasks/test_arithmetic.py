import collections
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mas_hooks.core.errors import SettingError
from mas_hooks.data.tasks import arithmetic_task

words = str.split
law = settings(deadline=None, derandomize=True, max_examples=100)
TASK = arithmetic_task()


@law
@given(seed=st.integers(0, 10**6), operations=st.integers(1, 10))
def test_a_trial_calculates(seed, operations):
    head, *rest = " ".join(TASK.sample(random.Random(seed), operations)).split(" , ")
    begin, length, op, value, *first = head.split()
    assert (begin, length, op) == ("B", str(operations), "Op")
    assert len(rest) == operations - 1
    for index, operation in enumerate([first, *(text.split() for text in rest)]):
        operator, operand, equals, result, *end = operation
        assert int(result) == (int(value) + int(operand) if operator == "+" else int(value) - int(operand))
        assert 0 <= int(result) <= 20
        assert equals == "="
        assert end == (["E"] if index == operations - 1 else [])
        assert operator == {"0": "+", "20": "-"}.get(value, operator)
        value = result


def test_draws_are_uniform():
    rng = random.Random(0)
    trials = [TASK.sample(rng) for _ in range(6000)]
    lengths = collections.Counter(int(trial[1]) for trial in trials)
    assert set(lengths) == set(range(1, 11))
    assert all(abs(n - 600) < 120 for n in lengths.values())
    assert {int(trial[3]) for trial in trials} == set(range(21))
    inner = [trial for trial in trials if trial[3] == "7"]
    assert abs(sum(trial[4] == "+" for trial in inner) / len(inner) - 0.5) < 0.12
    assert {int(trial[5]) for trial in inner if trial[4] == "-"} == set(range(8))


def test_the_example_of_the_paper_parses():
    states = TASK.replay(words("B 3 Op 4 + 3 = 7 , + 11 = 18 , - 5 = 13 E"))
    assert [(s.cumu_val, s.rem_ops) for s in states if s.reads == "operator"] == [(4, 3), (7, 2), (18, 1)]
    assert (states[-1].cumu_val, states[-1].rem_ops) == (13, 0)


def test_training_trials_are_no_different():
    assert list(TASK.draw_quantities(training=True)) == list(TASK.draw_quantities()) == list(range(1, 11))
    assert TASK.sample(random.Random(3), training=True) == TASK.sample(random.Random(3))


def test_swaps_are_allowed_at_commas_only():
    assert TASK.swap_positions(words("B 2 Op 3 + 5 = 8 , + 2 = 10 E")) == [8]


def language(most_operations, most_value):
    """Every trial of a small arithmetic, written out."""

    def rest(value, left):
        for operator in "+-":
            if (operator, value) in (("-", 0), ("+", most_value)):
                continue
            for operand in range(most_value + 1):
                result = value + operand if operator == "+" else value - operand
                if 0 <= result <= most_value:
                    done = (operator, str(operand), "=", str(result))
                    yield from [(*done, "E")] if left == 1 else ((*done, ",", *more) for more in rest(result, left - 1))

    for operations in range(1, most_operations + 1):
        for first in range(most_value + 1):
            for more in rest(first, operations):
                yield ("B", str(operations), "Op", str(first), *more)


def test_deterministic_is_what_all_trials_with_that_prefix_agree_on():
    task, trials = arithmetic_task(max_operations=2, max_value=3), list(language(2, 3))
    following = collections.defaultdict(set)
    for trial in trials:
        task.replay(trial)
        for position, token in enumerate(trial):
            following[trial[:position]].add(token)
    for trial in trials:
        for position, flag in enumerate(task.deterministic(trial)):
            # The grammar also fixes B, Op and the operator on a bound; those are no answers.
            agreed = len(following[trial[:position]]) == 1 and trial[position] not in ("B", "Op", "+", "-")
            assert flag == agreed, (trial, position)


def test_the_first_token_after_an_equals_sign_is_deterministic():
    state = TASK.replay(words("B 1 Op 3 + 5 ="))[-1]
    assert TASK.deterministic(("8", "E"), state) == (True, True)


def test_low_and_high_values_are_within_and_above_the_range_of_rem_ops():
    numbers = TASK.quantities
    assert list(numbers["rem_ops"]) == list(numbers["cumu_val_low"]) == list(range(1, 10))
    assert list(numbers["cumu_val_high"]) == list(range(10, 21))
    assert list(numbers["cumu_val"]) == list(range(21))


@pytest.mark.parametrize(
    ("text", "position", "allowed"),
    [
        ("B 11", 1, "'1' or '2' or '3' or '4' or '5' or '6' or '7' or '8' or '9' or '10'"),
        ("B 0", 1, "'1' or '2'"),
        ("B 1 3", 2, "'Op'"),
        ("B 1 Op +", 3, "'0' or '1'"),
        ("B 1 Op 0 -", 4, "'+'"),
        ("B 1 Op 20 +", 4, "'-'"),
        ("B 1 Op 3 4", 4, "'+' or '-'"),
        ("B 1 Op 18 + 3", 5, "'0' or '1' or '2'"),
        ("B 1 Op 2 - 3", 5, "'0' or '1' or '2'"),
        ("B 1 Op 2 + 03", 5, "'0' or '1' or '2'"),
        ("B 1 Op 2 + 3 5", 6, "'='"),
        ("B 1 Op 2 + 3 = 6", 7, "'5'"),
        ("B 1 Op 2 + 3 = 5 ,", 8, "'E'"),
        ("B 2 Op 2 + 3 = 5 E", 8, "','"),
        ("B 1 Op 2 + 3 = 5 E E", 9, "absent, because 'E' ended the trial"),
    ],
)
def test_what_the_grammar_does_not_allow_is_named(text, position, allowed):
    sentence = f"token {position} of this arithmetic trial is {text.split()[-1]!r}, but must be {allowed}"
    with pytest.raises(SettingError, match="^" + re.escape(sentence)):
        TASK.replay(text.split())


@pytest.mark.parametrize("variables", [{"rem_ops": 0}, {"rem_ops": 10}, {"cumu_val": 21}, {"cumu_val": -1}])
def test_values_that_no_comma_has_are_refused(variables):
    with pytest.raises(SettingError, match="within cumu_val 0 to 20 and rem_ops 1 to 9 afterwards"):
        TASK.replay(words("B 2 Op 2 + 3 = 5 ,"), {8: variables})


def test_choices_that_do_not_fit():
    state = TASK.replay(words("B 2 Op 2 + 3 = 5 ,"))[-1]
    for choices in ([], ["+"], ["+", "1", "+", "1"]):
        with pytest.raises(
            SettingError, match="operator and operand for each of 1 operations, where an operator comes"
        ):
            TASK.complete(state, choices)
    for choice in (("+", "16"), ("-", "6"), ("*", "1"), ("+", "x"), ("+", "01")):
        with pytest.raises(
            SettingError, match=r"a chosen operation is .* one of \('\+', '-'\) .* keep 5 within 0 to 20"
        ):
            TASK.complete(state, choice)
    with pytest.raises(SettingError, match="where an operator comes next"):
        TASK.complete(TASK.replay(["B", "1"])[-1], ["+", "1"])


@pytest.mark.parametrize("operations", [0, 11])
def test_a_quantity_out_of_range(operations):
    with pytest.raises(SettingError, match=f"quantity is {operations}, but must be 1 to 10 operations"):
        TASK.sample(random.Random(0), operations)


def test_settings_that_leave_no_comma_or_no_token():
    with pytest.raises(SettingError, match='max_operations is 1, but must be 2 or more, so that there are ","'):
        arithmetic_task(max_operations=1)
    with pytest.raises(SettingError, match="max_value is 5, but must be 10 or more"):
        arithmetic_task(max_value=5)
