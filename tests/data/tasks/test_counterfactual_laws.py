"""What holds for every counterfactual between any two tasks and variables."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mas_hooks.core.errors import SettingError
from mas_hooks.data.tasks import VARIANTS, CounterfactualSettings, Party, continue_trial, draw_counterfactual, task

law = settings(deadline=None, derandomize=True, max_examples=12)
seeds = st.integers(0, 10**6)
MULTI, MODULO, ROUNDING, ARITHMETIC = map(task, ("multi_object", "modulo", "rounding", "arithmetic"))
TASKS = [*map(task, VARIANTS), ARITHMETIC]
NUMBERS = ("cumu_val", "cumu_val_low", "cumu_val_high", "rem_ops")
BETWEEN_NUMERIC = [
    (Party(a, variable), Party(b, variable))
    for variable in ("full", "count", "last_value")
    for a, b in itertools.product(TASKS[:-1], repeat=2)
]
ACROSS = [
    pair
    for numeric, number in itertools.product((MULTI, MODULO, ROUNDING), NUMBERS)
    for pair in itertools.permutations((Party(numeric, "count"), Party(ARITHMETIC, number)))
]
SAME = [("full", "full"), *zip(NUMBERS, NUMBERS, strict=True)]
WITHIN_ARITHMETIC = [
    (Party(ARITHMETIC, a), Party(ARITHMETIC, b)) for a, b in [("full", "full"), *zip(NUMBERS, NUMBERS, strict=True)]
]
PAIRS = [*BETWEEN_NUMERIC, *ACROSS, *WITHIN_ARITHMETIC, (Party(ARITHMETIC, "rem_ops"), Party(ARITHMETIC, "cumu_val"))]


def called(value):
    return value if isinstance(value, str) else f"{value.task.name}-{value.variable}"


def own_choices(trial, position, of):
    """The free tokens that a trial itself has after a position, picked out by hand."""
    if of is ARITHMETIC:
        return [token for i, token in enumerate(trial) if i > position and i % 5 in (4, 0)]
    return trial[position + 1 : max(trial.index("T"), position + 1)]


@pytest.mark.parametrize("of", TASKS, ids=lambda of: of.name)
@law
@given(seed=seeds)
def test_swapping_a_value_for_itself_changes_nothing(of, seed):
    trial = of.sample(random.Random(seed))
    states = of.replay(trial)
    for position, names in itertools.product(of.swap_positions(trial), of.variables.values()):
        own = {name: getattr(states[position], name) for name in names}
        assert of.replay(trial, {position: own}) == states
        added = continue_trial(of, trial[: position + 1], own, own_choices(trial, position, of))
        assert trial[: position + 1] + added == trial


def by_hand(pair, found):
    """What the swap should put into the target, from the tokens alone."""
    source, target = pair
    trial, value = found.source_tokens, {}
    if source.task is ARITHMETIC:
        value = {"cumu_val": int(trial[-2]), "rem_ops": int(trial[1]) - trial.count("=")}
    else:
        demo, response = source.task.program.demo, source.task.program.response
        shown = [token for token in trial[: trial.index("T") if "T" in trial else None] if token in demo]
        answered = trial[trial.index("T") :].count(response) if "T" in trial else 0
        count = source.task.program.answers[len(shown)] - answered if "T" in trial else len(shown)
        value = {"phase": "response" if "T" in trial else "demo", "count": count}
        value["last_value"] = -1 if "T" in trial else 1
    return dict(zip(target.names, (value[name] for name in source.names), strict=True))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: " ".join(map(called, pair)))
@law
@given(seed=seeds, kept=st.booleans())
def test_a_counterfactual_follows_the_targets_program_with_the_sources_value(pair, seed, kept):
    source, target = pair
    chosen = CounterfactualSettings("to_quantity" if kept else "uniform")
    found = draw_counterfactual(source, target, random.Random(seed), chosen)
    put_in = by_hand(pair, found)

    states = target.task.replay(found.target_tokens, {found.target_position: put_in})
    assert found.target_tokens[-1] == "E"
    after = states[found.target_position]
    assert {name: getattr(after, name) for name in found.expected} == found.expected
    assert target.task.program.in_range(after)

    ended = source.task.replay(found.source_tokens)[-1]
    assert {name: getattr(ended, name) for name in found.source_variables} == found.source_variables
    assert found.source_position == len(found.source_tokens) - 1
    assert found.source_position in source.task.swap_positions(found.source_tokens)
    assert found.target_position in target.task.swap_positions(found.target_tokens)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: " ".join(map(called, pair)))
@law
@given(seed=seeds)
def test_values_stay_in_the_receivers_range(pair, seed):
    found = draw_counterfactual(*pair, random.Random(seed))
    added = found.target_tokens[found.target_position + 1 :]
    if pair[1].task is ARITHMETIC:
        assert all(0 <= int(token) <= 20 for token in added if token.isdecimal())
        assert 1 <= added.count("=") <= 9
        return
    demo = added[: added.index("T")] if "T" in added else ()
    answers = len(added) - 1 - (len(demo) + 1 if "T" in added else 0)
    assert answers <= max(pair[1].task.program.answers)
    if "T" in added and "count" in found.expected:
        total = found.expected["count"] + len(demo)
        assert 1 <= total <= 20
        assert len(demo) <= 3
        assert answers == pair[1].task.program.answers[total]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: " ".join(map(called, pair)))
@law
@given(seed=seeds)
def test_deterministic_tokens_are_those_with_one_legal_choice(pair, seed):
    """Every token is tried in place of each; T after 20 demo tokens and operators on a bound are no answers."""
    found = draw_counterfactual(*pair, random.Random(seed))
    of, put_in = pair[1].task, {found.target_position: by_hand(pair, found)}
    assert not any(found.deterministic[: found.target_position + 1])
    assert len(found.deterministic) == len(found.target_tokens)
    for position in range(found.target_position + 1, len(found.target_tokens)):
        token, legal = found.target_tokens[position], 0
        for other in of.vocabulary.tokens[1:]:
            try:
                of.replay((*found.target_tokens[:position], other), put_in)
                legal += 1
            except SettingError:
                pass
        answer = token not in ("+", "-") if of is ARITHMETIC else token != "T"
        assert found.deterministic[position] == (legal == 1 and answer)
