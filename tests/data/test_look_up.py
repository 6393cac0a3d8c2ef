"""The look-up by variable values: the slow loop's draws, uniform, and nothing where nothing fits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sentences import refused

from mas_hooks.core.errors import EmptyError, SettingError, UnknownNameError
from mas_hooks.data.counterfactual_latents import NaturalCells, look_up
from mas_hooks.core.sites import Where


def cells(**variables):
    """Natural cells of which only the variables matter."""
    count = len(next(iter(variables.values())))
    own = {name: np.asarray(values) for name, values in variables.items()}
    return NaturalCells("some cells", None, Where(range(count), [0] * count), own)


def wanting(**values):
    return {name: np.asarray(column) for name, column in values.items()}


def slowly(wanted, found, seed):
    """The same look-up, one entry and one cell at a time."""
    share = np.random.default_rng(seed).random(len(next(iter(wanted.values()))))
    drawn = []
    for entry, part in enumerate(share):
        same = [
            cell
            for cell in range(len(found))
            if all(found.variables[name][cell] == values[entry] for name, values in wanted.items())
        ]
        drawn.append(same[int(part * len(same))] if same else -1)
    return drawn


NUMBERS = st.integers(-1, 3)
WORDS = st.sampled_from(["demo", "response", "start"])


@st.composite
def look_ups(draw, least=1):
    own, asked = draw(st.integers(least, 12)), draw(st.integers(1, 12))
    made = {}
    for name, values in (("count", NUMBERS), ("phase", WORDS), ("width", NUMBERS.map(float))):
        made[name] = [draw(st.lists(values, min_size=size, max_size=size)) for size in (own, asked)]
    names = draw(st.lists(st.sampled_from(list(made)), min_size=1, unique=True))
    found = cells(**{name: columns[0] for name, columns in made.items()})
    return {name: np.array(made[name][1]) for name in names}, found


@settings(deadline=None)
@given(look_ups(), st.integers(0, 99))
def test_look_up_is_the_slow_loop(made, seed):
    wanted, found = made
    expected = slowly(wanted, found, seed)
    if set(expected) == {-1}:
        with refused(EmptyError, "counterfactual latents", *wanted):
            look_up(wanted, found, seed)
        return
    matches = look_up(wanted, found, seed)
    assert matches.cell.tolist() == expected
    assert matches.dropped == expected.count(-1)
    assert matches.index.tolist() == [entry for entry, cell in enumerate(expected) if cell >= 0]


@settings(deadline=None)
@given(look_ups(), st.integers(0, 99), st.data())
def test_other_cells_and_the_order_of_names_change_nothing(made, seed, data):
    wanted, found = made
    if set(slowly(wanted, found, seed)) == {-1}:
        return
    more = {name: np.append(values, np.full(3, 99).astype(values.dtype)) for name, values in found.variables.items()}
    turned = {name: wanted[name] for name in data.draw(st.permutations(list(wanted)))}
    before = look_up(wanted, found, seed).cell
    assert torch.equal(before, look_up(turned, found, seed).cell)
    assert torch.equal(before, look_up(wanted, cells(**more), seed).cell)


def test_draws_are_uniform_over_the_cells_that_fit():
    """Four cells fit a count of 2 and two fit a count of 5: chi-square of 40,000 draws, by one seed."""
    found = cells(count=[2, 5, 2, 7, 2, 5, 2])
    drawn = look_up(wanting(count=[2, 5] * 20_000), found, 3).cell
    for own, fitting in ((drawn[::2], [0, 2, 4, 6]), (drawn[1::2], [1, 5])):
        counts = torch.bincount(own, minlength=7)[fitting]
        assert counts.sum() == 20_000
        assert stats.chisquare(counts.numpy()).pvalue > 0.001
    pairs = drawn[::2][:-1] * 7 + drawn[::2][1:]  # neighbours do not hang together
    table = torch.bincount(pairs, minlength=49).reshape(7, 7)[[0, 2, 4, 6]][:, [0, 2, 4, 6]]
    assert stats.chi2_contingency(table.numpy()).pvalue > 0.001


def test_the_seed_alone_decides():
    wanted, found = wanting(count=[2] * 50), cells(count=[2] * 40)
    one, same, other = (look_up(wanted, found, seed).cell for seed in ((0, 1, 0), (0, 1, 0), (0, 0, 1)))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_many_pairs_and_cells():
    rng = np.random.default_rng(0)
    own = {"phase": rng.choice(["demo", "response"], 100_000), "count": rng.integers(0, 21, 100_000)}
    wanted = {"phase": rng.choice(["demo", "response"], 10_000), "count": rng.integers(-1, 21, 10_000)}
    matches = look_up(wanted, cells(**own), 0)
    index, cell = matches.index, matches.cell[matches.index]
    for name, values in wanted.items():
        assert (values[index] == own[name][cell]).all()
    assert matches.dropped == (wanted["count"] == -1).sum() > 0


@pytest.mark.parametrize(
    ("own", "asked", "expected"),
    [
        ([np.nan, 2.0, 0.0], [np.nan, 2.0, 0.0], [-1, 1, 2]),
        ([None, 2, 0], [2, None, 0], [1, -1, 2]),
        ([2.0, 3.0], [2, 3], [0, 1]),
        ([None, "demo", ""], ["demo", "", None], [1, 2, -1]),
        ([None, np.nan, 1], [1, None, np.nan], [2, -1, -1]),
    ],
)
def test_unknown_values_match_nothing(own, asked, expected):
    assert look_up(wanting(v=np.array(asked)), cells(v=np.array(own)), 0).cell.tolist() == expected


@pytest.mark.parametrize("names", [("phase", "count"), ("count", "phase")])
def test_one_unknown_variable_is_enough(names):
    """The filler of an unknown count is 0, which is wanted here."""
    found = cells(phase=["demo", "demo"], count=[0.0, np.nan])
    wanted = wanting(phase=["demo"] * 30, count=[0] * 30)
    assert set(look_up({name: wanted[name] for name in names}, found).cell.tolist()) == {0}


def test_errors_of_a_look_up():
    found = cells(count=[1, 2], phase=["demo", "demo"])
    with refused(UnknownNameError, "some cells has no variable 'cuont'", "Did you mean 'count'"):
        look_up(wanting(cuont=[1]), found)
    with refused(SettingError, "the kind of variable 'phase' of some cells is 'text', but must be numbers"):
        look_up(wanting(phase=[1]), found)
    with refused(EmptyError, "from the 2 cells of some cells is empty", "2 that are wanted", "phase='demo', count=7"):
        look_up(wanting(phase=["demo", "end"], count=[7, 1]), found)
    with refused(EmptyError, "wanted variables"):
        look_up({}, found)
