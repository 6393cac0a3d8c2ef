"""The rank figure shows the numbers it was given at the sizes they belong to, and a reader can read all of it."""

import numpy as np
import pytest
from readable_figures import assert_readable, marked, texts

from mas_hooks.core.errors import EmptyError, NotFiniteError, SettingError, ShapeError
from mas_hooks.report import RankLine, rank_curves

SIZES = (1, 2, 4, 8, 16, 32, 48)
FULL, COUNT, NONE = (0.06, 0.59, 0.86, 0.9, 0.97, 0.985, 0.99), (0.08, 0.41, 0.72, 0.85, 0.93, 0.95, 0.96), (0.02,) * 7


def line(label, values, sizes=SIZES, half=0.02, **given):
    low, high = (tuple(value + side for value in values) for side in (-half, half))
    return RankLine(label, sizes, values, low, high, **given)


def seeds(values):
    return tuple(tuple(value + shift for value in values) for shift in (-0.03, 0.03))


def lines():
    return [
        line("MAS · full", FULL, floor=0.06, seeds=seeds(FULL)),
        line("MAS · count", COUNT, floor=0.085, seeds=seeds(COUNT)),
        line("untrained", NONE, control=True, seeds=seeds(NONE)),
        line("shuffled labels", tuple(value + 0.03 for value in NONE), control=True),
    ]


def drawn(given, **words):
    said = {"title": "Four dims are enough", "subtitle": "IIA by the size of the subspace.", "unit": "IIA"}
    return rank_curves(given, **(said | words))


def points(axes, gid):
    return [tuple(map(tuple, one.get_data())) for one in marked(axes, gid)]


MANY = [
    line(f"line number {index}", tuple(0.9 - 0.004 * index for _ in range(16)), tuple(range(1, 17)))
    for index in range(14)
]


@pytest.mark.parametrize(
    "given",
    [lines(), lines()[:1], MANY, [RankLine("MAS", (16,), (0.9,), (0.88,), (0.92,))]],
    ids=("four", "one", "many", "point"),
)
def test_everything_can_be_read(given):
    assert_readable(drawn(given))


def test_lines_are_the_numbers_they_were_given():
    axes = drawn(lines()).axes[0]
    assert points(axes, "line") == [(SIZES, FULL), (SIZES, COUNT)]
    assert points(axes, "control") == [(SIZES, NONE), (SIZES, lines()[3].values)]
    assert points(axes, "seed") == [(SIZES, values) for given in lines()[:2] for values in given.seeds]
    for given, whiskers in zip(lines(), marked(axes, "whisker"), strict=True):
        ends = np.array(whiskers.get_segments())
        assert ends[:, 0, 1] == pytest.approx(given.low)
        assert ends[:, 1, 1] == pytest.approx(given.high)


def test_ticks_are_the_sizes_on_a_log_scale():
    axes = drawn([line("MAS", FULL), line("DAS", (0.5, 0.9), (3, 16))]).axes[0]
    assert list(axes.get_xticks()) == [1, 2, 3, 4, 8, 16, 32, 48]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "3", "4", "8", "16", "32", "48"]
    steps = np.diff(axes.transData.transform([(size, 0) for size in (1, 2, 4, 8)])[:, 0])
    assert steps == pytest.approx(steps[0])


def test_the_floor_is_the_highest():
    axes = drawn(lines()).axes[0]
    (floor,) = marked(axes, "floor")
    assert floor.get_ydata()[0] == 0.085
    assert "no-op floor 0.09" in [text.get_text() for text in marked(axes, "label")]
    assert not marked(drawn([line("MAS", FULL)]).axes[0], "floor")


def test_names_have_the_colours_of_their_lines():
    axes = drawn(lines()).axes[0]
    colours = {text.get_text(): text.get_color() for text in marked(axes, "label")}
    full, count = marked(axes, "line")
    assert colours["MAS · full 0.99"] == full.get_color()
    assert colours["MAS · count 0.96"] == count.get_color() != full.get_color()


def test_controls_are_grey_and_dashed():
    axes = drawn(lines()).axes[0]
    assert [one.get_linestyle() for one in marked(axes, "line")] == ["-", "-"]
    one, other = marked(axes, "control")
    assert one.get_linestyle() == other.get_linestyle() == "--"
    assert one.get_marker() != other.get_marker()
    for control in (one, other):
        assert len({control.get_color()[start : start + 2] for start in (1, 3, 5)}) == 1


def test_only_what_is_there_is_explained():
    words = [text.get_text() for text, _ in texts(drawn(lines(), interval="range"))]
    assert {"range", "one seed (thick: mean)", "control"} < set(words)
    assert not drawn([RankLine("MAS", SIZES, FULL)]).legends


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(EmptyError, match="the rank figure is empty; give at least one line"):
        drawn([])
    with pytest.raises(EmptyError, match="the line 'MAS' is empty; give it at least one size"):
        RankLine("MAS", (), ())
    with pytest.raises(SettingError, match=r"sizes of the line 'MAS' is \(4, 2\), but must be 1 or more, and rising"):
        RankLine("MAS", (4, 2), (0.1, 0.2))
    with pytest.raises(SettingError, match="1 or more"):
        RankLine("MAS", (0, 2), (0.1, 0.2))
    with pytest.raises(NotFiniteError, match="the line 'MAS' holds 1 value"):
        RankLine("MAS", (1, 2), (0.1, float("nan")))


@pytest.mark.parametrize(
    "given",
    [{"values": (0.1,)}, {"low": (0.1, 0.2)}, {"high": (0.1,), "low": (0.0, 0.1)}, {"seeds": ((0.1, 0.2), (0.1,))}],
)
def test_rows_of_another_length_are_refused(given):
    with pytest.raises(
        ShapeError, match=r"a row of the line 'MAS' has shape \(\d,\), but \(2,\), a number for each size"
    ):
        RankLine("MAS", (1, 2), **({"values": (0.1, 0.2)} | given))
