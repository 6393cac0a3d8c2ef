"""Stepwise counterfactuals, told from their tokens alone."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mas_hooks.core.errors import SettingError, UnknownNameError
from mas_hooks.data.tasks import VARIANTS, CounterfactualSettings, Party, draw_stepwise, stepwise, task

law = settings(deadline=None, derandomize=True, max_examples=12)
seeds = st.integers(0, 10**6)
NUMERIC = list(map(task, VARIANTS))
MULTI, SINGLE, ROUNDING = (task(name) for name in ("multi_object", "single_object", "rounding"))
ARITHMETIC = task("arithmetic")


def full(of):
    return Party(of, "full")


def parts(found):
    """(prefix, continuation) of the target, after checks of what both sides share."""
    end = found.target_position + 1
    assert found.source_position == found.target_position
    assert len(found.source_tokens) == end
    return found.target_tokens[:end], found.target_tokens[end:]


@pytest.mark.parametrize("of", [*NUMERIC, ARITHMETIC], ids=lambda of: of.name)
@law
@given(seed=seeds)
def test_in_one_task_the_source_trial_goes_on(of, seed):
    found = draw_stepwise(full(of), full(of), random.Random(seed))
    prefix, added = parts(found)
    whole = found.source_tokens + added
    states = of.replay(whole)  # raises where the source's own trial would not go on so
    assert whole[-1] == "E"
    assert found.source_position in of.swap_positions(whole)
    after = states[found.source_position]
    assert found.expected == {name: getattr(after, name) for name in of.variables["full"]}
    assert found.deterministic == (False,) * len(prefix) + of.deterministic(whole)[len(prefix) :]
    assert found.redraws == 0


@pytest.mark.parametrize("of", [MULTI, ARITHMETIC], ids=lambda of: of.name)
def test_with_the_very_tokens_that_the_source_trial_has(of, monkeypatch):
    trials, drawn = [], stepwise.draw_cell
    monkeypatch.setattr(stepwise, "draw_cell", lambda *given: trials.append(drawn(*given)) or trials[-1])
    for seed in range(50):
        found = draw_stepwise(full(of), full(of), random.Random(seed))
        assert found.source_tokens + parts(found)[1] == trials[-1].tokens


@pytest.mark.parametrize("of", [*NUMERIC, ARITHMETIC], ids=lambda of: of.name)
@law
@given(seed=seeds)
def test_the_target_reads_its_own_trial_filled_up(of, seed):
    fill = of.fill
    prefix, _ = parts(draw_stepwise(full(of), full(of), random.Random(seed)))
    own = prefix[: prefix.index("E") + 1] if "E" in prefix else prefix
    of.replay(own)
    assert set(prefix[len(own) :]) <= {fill}


def test_both_lengths_of_targets_occur_and_the_fill_is_a_setting():
    rng = random.Random(0)
    found = [parts(draw_stepwise(full(MULTI), full(MULTI), rng))[0] for _ in range(300)]
    ended = [prefix[prefix.index("E") + 1 :] for prefix in found if "E" in prefix[:-1]]
    assert 30 < len(ended) < 270
    assert {token for rest in ended for token in rest} == {"R"}
    rng, chosen = random.Random(0), CounterfactualSettings(stepwise_fill="V")
    other = [parts(draw_stepwise(full(MULTI), full(MULTI), rng, chosen))[0] for _ in range(300)]
    for prefix, own in zip(other, found, strict=True):
        begin = own.index("E") + 1 if "E" in own else len(own)
        assert prefix == own[:begin] + ("V",) * (len(own) - begin)
    assert [of.fill for of in (MULTI, task("same_object"), ARITHMETIC)] == ["R", "C", "E"]


def test_u_is_any_demo_or_response_token_of_the_source():
    rng, at = random.Random(1), []
    for _ in range(3_000):
        found = draw_stepwise(full(SINGLE), full(SINGLE), rng)
        total = (*found.source_tokens, *parts(found)[1]).count("D")
        if total == 2:  # B D D T R R E
            at.append(found.source_position)
    shares = {position: at.count(position) / len(at) for position in sorted(set(at))}
    assert list(shares) == [1, 2, 4, 5]
    assert all(abs(share - 0.25) < 0.1 for share in shares.values())


ACROSS = list(itertools.permutations([*NUMERIC, task("multi_object", max_quantity=6)], 2))


@pytest.mark.parametrize("pair", ACROSS, ids=lambda pair: f"{pair[0].name}-{pair[1].name}")
@law
@given(seed=seeds)
def test_in_another_task_its_program_goes_on_from_phase_and_count(pair, seed):
    source, target = pair
    found = draw_stepwise(full(source), full(target), random.Random(seed))
    _, added = parts(found)
    given_tokens, demo = found.source_tokens, target.program.demo
    answered = "T" in given_tokens
    assert found.source_variables["phase"] == ("response" if answered else "demo")
    count = found.source_variables["count"]
    if answered:
        wanted = target.program.answers[count] if target.program.reapplies else count
        assert added == (target.program.response,) * wanted + ("E",)
        assert wanted <= max(target.program.answers)
        assert all(found.deterministic[len(given_tokens) :])
    else:
        more = added.index("T")
        assert set(added[:more]) <= set(demo)
        total = count + more
        assert count == len(given_tokens) - 1
        assert total < min(len(source.program.answers), len(target.program.answers))
        assert added[more:] == ("T",) + (target.program.response,) * target.program.answers[total] + ("E",)
        assert found.deterministic[len(given_tokens) :] == (False,) * (more + 1) + (True,) * (len(added) - more - 1)


def test_as_many_more_demo_tokens_as_the_source_still_has():
    """Told from the totals: those of the source, uniform over its quantities, must come out in the target."""
    rng = random.Random(3)
    totals = []
    for _ in range(4_000):
        found = draw_stepwise(full(SINGLE), full(MULTI), rng)
        if "T" not in found.source_tokens and found.source_position == 1:
            totals.append(1 + parts(found)[1].index("T"))
    assert set(totals) == set(range(1, 21))  # 0 to 3 more would end at 4


def test_what_the_receiver_never_saw_is_drawn_again_and_counted():
    small, rng = task("multi_object", max_quantity=6), random.Random(0)
    found = [draw_stepwise(full(SINGLE), full(small), rng) for _ in range(200)]
    assert sum(one.redraws for one in found) > 100
    assert max(one.expected["count"] for one in found) == 6


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (Party(MULTI, "count"), Party(MULTI, "count")),
        (Party(MULTI, "full"), Party(MULTI, "count")),
        (full(MULTI), full(ARITHMETIC)),
        (full(ARITHMETIC), full(SINGLE)),
        (full(ARITHMETIC), full(task("arithmetic", max_operations=4))),
    ],
)
def test_only_full_variables_of_kin_are_swapped_so(source, target):
    pair = f"{source.task.name} {source.variable} → {target.task.name} {target.variable}"
    allowed = "'full' on both sides, of one task or of two numeric ones"
    said = f"^the pair of variables of a stepwise swap is '{pair}', but must be {allowed}\\.$"
    with pytest.raises(SettingError, match=said):
        draw_stepwise(source, target, random.Random(0))


def test_a_fill_that_the_target_does_not_know_is_told():
    chosen = CounterfactualSettings(stepwise_fill="Rr")
    said = r"the vocabulary of multi_object has no token \(stepwise_fill\) 'Rr'\. Did you mean 'R'\?"
    with pytest.raises(UnknownNameError, match=said):
        draw_stepwise(full(MULTI), full(MULTI), random.Random(0), chosen)


def test_a_search_without_end_is_told(monkeypatch):
    monkeypatch.setattr("mas_hooks.data.tasks.stepwise.MOST_REDRAWS", 0)
    with pytest.raises(SettingError, match="multi_object full → rounding full is 'out of range"):
        draw_stepwise(full(MULTI), full(ROUNDING), random.Random(0))
