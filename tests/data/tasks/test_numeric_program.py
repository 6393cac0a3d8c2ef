import re

import pytest

from mas_hooks.core.errors import SettingError, UnknownNameError
from mas_hooks.data.tasks import numeric_task

words = str.split
MULTI = numeric_task("multi_object")


def states(task, text, swaps=None):
    return [(state.phase, state.count) for state in task.replay(text.split(), swaps or {})]


def test_a_count_of_two_at_the_last_token():
    assert states(MULTI, "B Da Db")[-1] == ("demo", 2)
    assert states(MULTI, "B Da Db Dc T R")[-1] == ("response", 2)


def test_same_object_tells_phases_apart():
    task = numeric_task("same_object")
    counts = [(s.phase, s.count, s.last_value) for s in task.replay(words("B C C T C C E"))]
    demo, response = [("demo", 0, 0), ("demo", 1, 1), ("demo", 2, 1)], [("response", 2, 0), ("response", 1, -1)]
    assert counts == [*demo, *response, ("response", 0, -1), ("end", 0, 0)]
    assert task.swap_positions(words("B C C T C C E")) == [1, 2, 4, 5]
    assert task.vocabulary.tokens == ("<pad>", "B", "C", "T", "V", "E")


def test_swaps_are_allowed_at_demo_and_response_tokens_only():
    assert MULTI.swap_positions(words("B V Da V Db T R R E")) == [2, 4, 6, 7]


def test_the_last_value_swap_moves_the_count():
    assert states(MULTI, "B Da Db Dc T R E", {3: {"last_value": -1}})[3:] == [
        ("demo", 1),
        ("response", 1),
        ("response", 0),
        ("end", 0),
    ]
    assert states(MULTI, "B Da Db T R R R R E", {4: {"last_value": 1}})[4] == ("response", 3)


def test_modulo_reapplies_its_function_and_rounding_does_not():
    tokens = words("B Da Db T R")
    assert numeric_task("modulo").replay(tokens, {4: {"count": 7}})[-1].count == 3
    assert numeric_task("modulo").replay(tokens[:2], {1: {"count": 7}})[-1].count == 7
    assert numeric_task("rounding").replay(tokens, {4: {"count": 7}})[-1].count == 7


def test_rounding_is_not_reapplied_by_full_swaps_either():
    task = numeric_task("rounding")
    assert states(task, "B Da R R E", {1: {"phase": "response", "count": 2}})[1] == ("response", 2)


@pytest.mark.parametrize(
    ("name", "text", "position", "allowed"),
    [
        ("multi_object", "Da", 0, "'B'"),
        ("multi_object", "B T", 1, "'Da' or 'Db' or 'Dc' or 'V'"),
        ("multi_object", "B V T", 2, "'Da' or 'Db' or 'Dc' or 'V'"),
        ("multi_object", "B Da R", 2, "'Da' or 'Db' or 'Dc' or 'T' or 'V'"),
        ("multi_object", "B D", 1, "'Da' or 'Db' or 'Dc' or 'V'"),
        ("multi_object", "B Da T E", 3, "'R'"),
        ("multi_object", "B Da T V", 3, "'R'"),
        ("multi_object", "B Da T R R", 4, "'E'"),
        ("multi_object", "B Da T R E E", 5, "absent, because 'E' ended the trial"),
        ("multi_object", "B" + " Da" * 21, 21, "'T' or 'V'"),
        ("modulo", "B Da Da Da Da T R", 6, "'E'"),
        ("rounding", "B Da T R", 3, "'E'"),
        ("same_object", "B C T R", 3, "'C'"),
    ],
)
def test_what_the_grammar_does_not_allow_is_named(name, text, position, allowed):
    sentence = f"token {position} of this {name} trial is {text.split()[-1]!r}, but must be {allowed}."
    with pytest.raises(SettingError, match="^" + re.escape(sentence)):
        numeric_task(name).replay(text.split())


@pytest.mark.parametrize(
    ("swaps", "error", "sentence"),
    [
        (
            {0: {"count": 1}},
            SettingError,
            r"a swap position of this multi_object trial is 0, but must be one of \[1, 3\]",
        ),
        ({2: {"count": 1}}, SettingError, "is 2, but must be one of"),
        ({9: {"count": 1}}, SettingError, "is 9, but must be one of"),
        ({1: {"cuont": 1}}, UnknownNameError, "has no program variable 'cuont'. Did you mean 'count'"),
        ({1: {"phase": "dmo"}}, SettingError, "phase is 'dmo', but must be 'demo' or 'response'"),
        ({1: {"last_value": 0}}, SettingError, "last_value is 0, but must be 1 or -1"),
        ({1: {"last_value": -1}}, SettingError, r"the swap at position 1 .* count 0 to 20 in the demo and 0 to 20"),
        ({3: {"count": 21}}, SettingError, r"position 3 of this multi_object trial is {'count': 21}"),
        ({1: {"count": -1}}, SettingError, "within count 0 to 20"),
    ],
)
def test_what_cannot_be_swapped_is_named(swaps, error, sentence):
    with pytest.raises(error, match=sentence):
        MULTI.replay(words("B Da T R E"), swaps)
