"""The figure of groups of pairs shows every pair and the numbers it was given, and a reader can read all of it."""

import pytest
from readable_figures import assert_readable, marked, texts

from mas_hooks.core.errors import EmptyError, NotFiniteError, SettingError
from mas_hooks.report import PairGroup, pair_groups

TIED = {
    f"t{i} × n{j}": value for (i, j), value in {(i, j): 0.5 + 0.001 * j for i in range(3) for j in range(3)}.items()
}
GROUPS = (
    PairGroup("toxic–toxic", {"t0 × t1": 0.8, "t0 × t2": 0.81, "t1 × t2": 0.7}, 0.77, 0.7, 0.81),
    PairGroup("toxic–nontoxic", TIED, 0.501, 0.45, 0.56),
    PairGroup("nontoxic–nontoxic", {"n0 × n1": 0.55, "n0 × n2": 0.2, "n1 × n2": 1.0}, 0.5833),
)


def drawn(groups=GROUPS, **words):
    said = {"title": "Toxic models share what toxic models do", "subtitle": "Worst direction of each of 15 pairs."}
    return pair_groups(groups, **(said | words))


def many():
    """Five kinds with long names, and one of a hundred pairs."""
    values = {f"pair {i}": 0.3 + 0.002 * (i % 50) for i in range(100)}
    return [PairGroup(f"a rather long kind of model number {i}", values, 0.35, 0.31, 0.39) for i in range(5)]


@pytest.mark.parametrize(
    "groups",
    [GROUPS, GROUPS[:1], many(), (PairGroup("RSA", {"a × b": -0.4, "a × c": 0.2}, -0.1, -0.4, 0.2),)],
    ids=("three", "one", "many", "negative"),
)
def test_everything_can_be_read(groups):
    assert_readable(drawn(groups, floor=0.08))


def points(axes, gid):
    return [(float(one.get_xdata()[0]), float(one.get_ydata()[0])) for one in marked(axes, gid)]


def test_every_pair_is_a_dot_at_its_score():
    axes = drawn().axes[0]
    dots = points(axes, "pair")
    for at, group in enumerate(GROUPS):
        own = [value for across, value in dots if at - 0.5 < across < at + 0.5]
        assert own == list(group.values.values())
    assert len(dots) == 15


def test_dots_of_one_height_do_not_hide_each_other():
    for groups in (GROUPS, many()):
        axes = drawn(groups).axes[0]
        dots = points(axes, "pair")
        assert len(set(dots)) == len(dots)
        inside = [across - round(across) for across, _ in dots]
        assert -0.4 < min(inside) <= max(inside) < 0.1  # left of the means, within their own column
    tied = [across for across, value in points(drawn().axes[0], "pair") if 0.5 <= value <= 0.502]
    assert min(abs(a - b) for i, a in enumerate(tied) for b in tied[:i]) > 0.05


def test_means_and_intervals_are_the_given_ones():
    axes = drawn().axes[0]
    means = [lines.get_segments()[0] for lines in marked(axes, "mean")]
    assert [float(line[0][1]) for line in means] == [group.mean for group in GROUPS]
    whiskers = [tuple(one.get_ydata()) for one in marked(axes, "interval")]
    assert whiskers == [(0.7, 0.81), (0.45, 0.56)]
    assert [text.get_text() for text in marked(axes, "value")] == ["0.77", "0.50", "0.58"]
    names = [text.get_text() for text in axes.get_xticklabels()]
    assert names == ["toxic–toxic\n3 pairs", "toxic–nontoxic\n9 pairs", "nontoxic–nontoxic\n3 pairs"]
    alone = drawn([PairGroup("one", {"a × b": 0.5}, 0.5)]).axes[0]
    assert [text.get_text() for text in alone.get_xticklabels()] == ["one\n1 pair"]


def test_only_what_is_there_is_explained():
    words = {text.get_text() for text, _ in texts(drawn(floor=0.1))}
    assert {"one pair of models", "mean", "95% interval, models resampled", "no-op floor", "IIA"} <= words
    words = {text.get_text() for text, _ in texts(drawn(GROUPS[2:], unit="CKA"))}
    assert "CKA" in words
    assert not words & {"95% interval, models resampled", "no-op floor"}


def test_the_floor_is_where_it_was_given():
    (floor,) = marked(drawn(floor=0.13).axes[0], "floor")
    assert floor.get_ydata()[0] == 0.13
    assert not marked(drawn().axes[0], "floor")


def test_the_scale_is_that_of_shares():
    assert drawn().axes[0].get_ylim() == pytest.approx((-0.02, 1.04))
    low, high = drawn([PairGroup("RSA", {"a × b": -0.4}, -0.4)]).axes[0].get_ylim()
    assert low < -0.4
    assert high > 1
    far = drawn([PairGroup("distances", {"a × b": 1.43}, 1.43)]).axes[0]
    assert far.get_yticks()[-3:].tolist() == [1.0, 1.2, 1.4]
    assert drawn().axes[0].get_yticks().tolist() == [0, 0.2, 0.4, 0.6, 0.8, 1.0]


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(EmptyError, match="the figure of groups of pairs is empty; give at least one group"):
        drawn([])
    with pytest.raises(EmptyError, match="the group 'x' is empty; give it at least one pair"):
        PairGroup("x", {}, 0.5)
    with pytest.raises(NotFiniteError, match="the group 'x' holds 2 values"):
        PairGroup("x", {"a": float("nan")}, float("nan"))
    with pytest.raises(SettingError, match=r"the interval of the group 'x' is \(0.1, None\), but must be two numbers"):
        PairGroup("x", {"a": 0.2}, 0.2, 0.1)
