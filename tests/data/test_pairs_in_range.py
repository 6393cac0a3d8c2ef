"""Values put into a receiver never leave its trained range, and what is wanted of it is what its program says."""

import itertools
import random

import pytest

from mas_hooks.data.task_pairs import task_pairs
from mas_hooks.data.tasks import VARIANTS, task

NUMERIC = tuple(VARIANTS)
NUMBERS = ("cumu_val", "cumu_val_low", "cumu_val_high", "rem_ops")
PARTIES = [
    *((a, variable, b, variable) for variable in ("full", "count") for a, b in itertools.combinations(NUMERIC, 2)),
    *((a, "last_value", a, "last_value") for a in NUMERIC),
    *((a, "count", "arithmetic", number) for a, number in itertools.product(NUMERIC, NUMBERS)),
    *(("arithmetic", own, "arithmetic", own) for own in ("full", *NUMBERS)),
]
SIZE = 60


def natural_states(of):
    """Every state that trials of a task come by: all quantities of a numeric one, many trials of arithmetic.

    Those of arithmetic from the first comma on: before it there may be no value yet.
    """
    rng, states = random.Random(0), []
    for size in of.draw_quantities():
        for _ in range(1 if of.name in VARIANTS else 60):
            trial = of.sample(rng, size)
            first = 0 if of.name in VARIANTS else (of.swap_positions(trial) or [len(trial)])[0]
            states += of.replay(trial)[first:]
    return states


@pytest.fixture(scope="module")
def known():
    """Per task, the values that phase and count take together, or each variable of arithmetic alone."""
    found = {}
    for name in NUMERIC:
        of = task(name)
        found[name] = {(state.phase, state.count) for state in natural_states(of)}
    states = natural_states(task("arithmetic"))
    found["arithmetic"] = {name: {getattr(state, name) for state in states} for name in ("cumu_val", "rem_ops")}
    return found


def test_what_is_natural(known):
    """The ranges that METHODS states: counts up to 20, 21 when rounded and 3 when taken modulo 4; values up to 20."""
    most = {"multi_object": 20, "single_object": 20, "same_object": 20, "modulo": 3, "rounding": 21}
    assert set(most) == set(NUMERIC)
    for name, answers in most.items():
        counts = {("demo", count) for count in range(21)} | {("response", count) for count in range(answers + 1)}
        assert known[name] == counts | {("end", 0)}
    assert known["arithmetic"] == {"cumu_val": set(range(21)), "rem_ops": set(range(10))}


def swapped_in(source, target, tokens, given):
    """The source's value under the target's name, told from the source's tokens by its own program."""
    state = source[0].replay(tokens)[-1]
    names = zip(source[0].variables[source[1]], target[0].variables[target[1]], strict=True)
    assert given == source[0].swap_positions(tokens)[-1]
    return {own: getattr(state, other) for other, own in names}


@pytest.mark.parametrize("parties", PARTIES, ids=" ".join)
def test_no_pair_leaves_the_receivers_range(parties, known):
    sides = [(task(parties[0]), parties[1]), (task(parties[2]), parties[3])]
    sets = task_pairs([one for one, _ in sides], [variable for _, variable in sides], (SIZE, 1, 1), seed=2)[0]
    for way in [(0, 1), (1, 0)]:
        source, target = (sides[index] for index in way)
        pairs = sets[way]
        assert len(pairs) == SIZE
        for row in range(SIZE):
            tokens = source[0].vocabulary.decode(pairs.source_inputs[row])
            first = pairs.target_inputs[row, :1].tolist()
            whole = target[0].vocabulary.decode([*first, *pairs.labels[row].tolist()])
            at = int(pairs.target_where.columns[row])
            put = swapped_in(source, target, tokens, int(pairs.source_where.columns[row]))
            states = target[0].replay(whole, {at: put})  # raises at the first token that the program does not allow
            assert whole[-1] == "E"
            expected = {name: values[row] for name, values in pairs.expected.items()}
            assert expected == {name: getattr(states[at], name) for name in expected}
            for state in states[at:]:
                inside(known[target[0].name], state)
            if target[0].name == "arithmetic":
                assert states[at].rem_ops in range(1, 10)  # at a comma there is something left to do


def inside(natural, state):
    if isinstance(natural, dict):
        for name, values in natural.items():
            assert getattr(state, name) in values, (name, state)
    else:
        assert (state.phase, state.count) in natural


@pytest.mark.parametrize(("variable", "low", "high"), [("cumu_val_low", 1, 9), ("cumu_val_high", 10, 20)])
def test_low_and_high_values_are_those_within_and_above_the_range_of_rem_ops(variable, low, high):
    pairs = task_pairs(["arithmetic"], [variable], (200, 1, 1))[0][0, 0]
    assert low <= pairs.expected["cumu_val"].min() <= pairs.expected["cumu_val"].max() <= high
