import collections
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mas_hooks.core.errors import SettingError, UnknownNameError
from mas_hooks.data.tasks import VARIANTS, numeric_task

words = str.split
law = settings(deadline=None, derandomize=True, max_examples=60)
seeds, quantities = st.integers(0, 10**6), st.integers(1, 20)
MULTI = numeric_task("multi_object")


# --- the grammar rows of the specification ---------------------------------------------------------------------------

ROUNDED = {1: 0, 2: 3, 3: 3, 4: 3, 5: 6, 6: 6, 7: 6, 8: 9, 9: 9, 10: 9, 11: 12, 12: 12, 13: 12, 14: 15, 15: 15}
ROUNDED |= {16: 15, 17: 18, 18: 18, 19: 18, 20: 21}
ROWS = [
    ("multi_object", {"Da", "Db", "Dc"}, "R", {n: n for n in range(1, 21)}),
    ("single_object", {"D"}, "R", {n: n for n in range(1, 21)}),
    ("same_object", {"C"}, "C", {n: n for n in range(1, 21)}),
    ("modulo", {"Da", "Db", "Dc"}, "R", {n: n % 4 for n in range(1, 21)}),
    ("rounding", {"Da", "Db", "Dc"}, "R", ROUNDED),
]


@pytest.mark.parametrize(("name", "demo", "response", "answers"), ROWS)
@law
@given(seed=seeds, quantity=quantities)
def test_a_trial_follows_its_row(name, demo, response, answers, seed, quantity):
    tokens = numeric_task(name).sample(random.Random(seed), quantity)
    assert tokens[0] == "B"
    assert set(tokens[1 : quantity + 1]) <= demo
    assert tokens[quantity + 1 :] == ("T", *[response] * answers[quantity], "E")


def test_quantities_and_demo_tokens_are_uniform():
    rng = random.Random(0)
    trials = [MULTI.sample(rng) for _ in range(8000)]
    drawn = collections.Counter(trial.index("T") - 1 for trial in trials)
    assert set(drawn) == set(range(1, 21))
    assert all(abs(n - 400) < 100 for n in drawn.values())  # 5 standard deviations
    demo = collections.Counter(token for trial in trials for token in trial if token[0] == "D")
    assert all(abs(demo[token] / demo.total() - 1 / 3) < 0.01 for token in ("Da", "Db", "Dc"))


def test_modulo_without_a_remainder_answers_nothing():
    task = numeric_task("modulo")
    assert task.sample(random.Random(0), 4)[5:] == ("T", "E")
    assert [s.phase for s in task.replay(words("B Da Da Da Da T E"))[-2:]] == ["response", "end"]


def test_rounding_up_reaches_21():
    assert numeric_task("rounding").sample(random.Random(0), 20).count("R") == 21


# --- deterministic tokens, against a whole small language ------------------------------------------------------------


def language(name, most):
    """Every trial up to `most` demo tokens, written out from the table of the specification."""
    _, demo, response, answers = next(row for row in ROWS if row[0] == name)
    for n in range(1, most + 1):
        for shown in itertools.product(sorted(demo), repeat=n):
            yield ("B", *shown, "T", *[response] * answers[n], "E")


@pytest.mark.parametrize("name", VARIANTS)
def test_deterministic_is_what_all_trials_with_that_prefix_agree_on(name):
    trials = list(language(name, 4))
    task = numeric_task(name, max_quantity=4)
    following = collections.defaultdict(set)
    for trial in trials:
        for position, token in enumerate(trial):
            following[trial[:position]].add(token)
    for trial in trials:
        agreed = [len(following[trial[:position]]) == 1 for position in range(len(trial))]
        # The grammar also fixes B, a single demo token, and T after the most; those are no answers.
        answer = [position > trial.index("T") for position in range(len(trial))]
        assert task.deterministic(trial) == tuple(a and b for a, b in zip(agreed, answer, strict=True))
        assert all(a for a, b in zip(agreed, answer, strict=True) if b)


def test_after_a_swap_into_the_response_phase_everything_is_deterministic():
    state = MULTI.replay(words("B Da Db"), {2: {"phase": "response", "count": 1}})[-1]
    assert MULTI.deterministic(("R", "E"), state) == (True, True)
    demo = MULTI.replay(words("B Da Db"))[-1]
    assert MULTI.deterministic(("Da", "T", "R"), demo) == (False, False, True)


# --- void tokens and hold-outs ---------------------------------------------------------------------------------------


def test_void_tokens_run_and_count_nothing():
    task = numeric_task("multi_object", void_probability=0.2)
    assert [(s.phase, s.count) for s in task.replay(words("B V Da V V Da T R R E"))][1:7] == [
        ("demo", 0),
        ("demo", 1),
        ("demo", 1),
        ("demo", 1),
        ("demo", 2),
        ("response", 2),
    ]


def test_every_demo_position_is_void_with_that_probability():
    task, rng = numeric_task("multi_object", void_probability=0.2), random.Random(1)
    trials = [task.sample(rng, training=True) for _ in range(3000)]
    assert all(task.replay(trial)[-1].phase == "end" for trial in trials[:200])
    positions = [token for trial in trials for token in trial[1 : trial.index("T") + 1]]
    assert abs(positions.count("V") / len(positions) - 0.2) < 0.01
    assert any(trial[1:3] == ("V", "V") for trial in trials)
    assert any(trial[trial.index("T") - 1] == "V" for trial in trials)
    assert all("V" not in trial[trial.index("T") :] for trial in trials)


def test_void_tokens_are_for_training_only():
    task, rng = numeric_task("multi_object", void_probability=0.9), random.Random(1)
    assert all("V" not in task.sample(rng) for _ in range(50))
    assert task.vocabulary == MULTI.vocabulary


def test_hold_outs_are_left_out_of_training_only():
    task, rng = numeric_task("multi_object", hold_outs=[4, 9, 14, 17]), random.Random(0)
    assert set(task.draw_quantities(training=True)) == set(range(1, 21)) - {4, 9, 14, 17}
    assert list(task.draw_quantities()) == list(range(1, 21))
    trained = {task.sample(rng, training=True).count("R") for _ in range(1000)}
    assert trained == set(range(1, 21)) - {4, 9, 14, 17}
    assert {task.sample(rng).count("R") for _ in range(1000)} == set(range(1, 21))
    with pytest.raises(SettingError, match="quantity is 4, but must be one of 1, 2, 3, 5, "):
        task.sample(rng, quantity=4, training=True)


# --- what a task supplies, and what is written -----------------------------------------------------------------------


@pytest.mark.parametrize(("count", "allowed"), [(0, {1, 2, 3}), (5, {0, 1, 2, 3}), (18, {0, 1, 2}), (20, {0})])
def test_more_demo_tokens_stay_in_range(count, allowed):
    state = MULTI.replay(["B", "Da"], {1: {"count": count}})[-1]
    rng = random.Random(0)
    assert {len(MULTI.choose(rng, state)) for _ in range(200)} == allowed


def test_the_trials_own_quantity_can_be_kept():
    rng, own = random.Random(0), words("B Da V Db Dc T R R R E")
    at = {count: MULTI.replay(["B", "Da"], {1: {"count": count}})[-1] for count in (0, 1, 3, 9)}
    assert {count: len(MULTI.choose(rng, state, own)) for count, state in at.items()} == {0: 3, 1: 2, 3: 0, 9: 0}


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings_given", "sentence"),
    [
        ({"void_probability": 1.0}, "void_probability is 1.0, but must be at least 0 and below 1"),
        ({"void_probability": -0.1}, "void_probability is -0.1"),
        ({"max_quantity": 0}, "max_quantity is 0, but must be 1 or more"),
        ({"hold_outs": [21]}, r"hold_outs is \[21\], but must be some, but not all, of 1 to 20"),
        ({"hold_outs": range(1, 21)}, "but must be some, but not all, of 1 to 20"),
    ],
)
def test_settings_that_leave_nothing_to_draw(settings_given, sentence):
    with pytest.raises(SettingError, match=sentence):
        numeric_task("multi_object", **settings_given)


def test_an_unknown_variant_is_named():
    with pytest.raises(UnknownNameError, match=r"has no variant 'multi_objct'\. Did you mean 'multi_object'"):
        numeric_task("multi_objct")


@pytest.mark.parametrize("quantity", [0, 21])
def test_a_quantity_out_of_range(quantity):
    with pytest.raises(SettingError, match=f"quantity is {quantity}, but must be one of 1, 2"):
        MULTI.sample(random.Random(0), quantity)


def test_choices_that_do_not_fit():
    demo, empty = MULTI.replay(["B", "Da"])[-1], MULTI.replay(["B", "Da"], {1: {"count": 0}})[-1]
    response = MULTI.replay(words("B Da T R"))[-1]
    with pytest.raises(SettingError, match=r"the choices after a count of 1 is \('R',\), but must be tokens of"):
        MULTI.complete(demo, ["R"])
    with pytest.raises(SettingError, match="that make the count 1 to 20"):
        MULTI.complete(demo, ["Da"] * 20)
    with pytest.raises(SettingError, match="after a count of 0"):
        MULTI.complete(empty, [])
    with pytest.raises(SettingError, match=r"the choices in the response phase is \('Da',\), but must be empty"):
        MULTI.complete(response, ["Da"])
