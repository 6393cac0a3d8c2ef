"""The grouped bar figure shows the numbers it was given, and a reader can read and tell apart all of it."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from example_groups import CASES, bar, embeddings, labelled, pairs_of_two, paper
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import Patch
from matplotlib.transforms import Bbox
from readable_figures import assert_readable, marked, texts

from mas_hooks.core.errors import EmptyError, NotFiniteError, UnsupportedError
from mas_hooks.report import Group, GroupBar, GroupPanel, grouped_bars, style
from mas_hooks.report.data import places


def drawn(panels, **given):
    words = {"title": "What a swap moves", "subtitle": "IIA of held-out pairs.", "left": "IIA", "right": "RSA, CKA"}
    return grouped_bars(panels, **(words | given))


def patches(axes):
    return [patch for container in axes.containers for patch in container]


def legend(figure):
    (found,) = figure.legends
    return dict(zip([text.get_text() for text in found.get_texts()], found.legend_handles, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_everything_can_be_read(case):
    assert_readable(drawn(CASES[case]()))


def inked(axes):
    """Where floors, references, whiskers and seeds are, in pixels."""
    lines = [line.get_segments()[0] for gid in ("floor", "reference") for line in marked(axes, gid)]
    lines += [line.get_xydata() for gid in ("interval", "seed") for line in marked(axes, gid)]
    return [Bbox(np.array([ends.min(axis=0), ends.max(axis=0)])) for ends in map(axes.transData.transform, lines)]


@pytest.mark.parametrize("case", CASES)
def test_no_mark_crosses_a_value(case):
    figure = drawn(CASES[case]())
    texts(figure)  # lays the figure out
    for axes in figure.axes:
        for text in marked(axes, "value"):
            box = text.get_window_extent(figure.canvas.get_renderer())
            assert not [mark for mark in inked(axes) if box.overlaps(mark.padded(2))]


@pytest.mark.parametrize("case", CASES)
def test_an_inch_of_the_plan_is_an_inch_on_paper(case):
    """Else bars would be too narrow for their values, and groups for their names."""
    panels = CASES[case]()
    figure, plan = drawn(panels), places.lay_out_bars(panels)
    texts(figure)
    for axes, width in zip(figure.axes, plan.widths, strict=False):
        assert axes.get_window_extent().width / figure.dpi == pytest.approx(width, abs=0.02)
        assert axes.get_window_extent().height / figure.dpi / (axes.get_ylim()[1] - axes.get_ylim()[0]) > 2


def test_bars_have_the_heights_and_marks_the_places_they_were_given():
    panels = paper(4, 3)
    for axes, panel in zip(drawn(panels).axes, panels, strict=True):
        assert [patch.get_height() for patch in patches(axes)] == pytest.approx([bar.value for bar in panel.bars])
        middles = [patch.get_x() + patch.get_width() / 2 for patch in patches(axes)]
        whiskers = [line.get_data() for line in marked(axes, "interval")]
        assert [tuple(high) for _, high in whiskers] == [(bar.low, bar.high) for bar in panel.bars]
        assert [at[0] for at, _ in whiskers] == pytest.approx(middles)
        seeds = [line.get_ydata()[0] for line in marked(axes, "seed")]
        assert seeds == [value for bar in panel.bars for value in bar.values]
        for gid in ("floor", "reference"):
            given = [(at, getattr(bar, gid)) for at, bar in zip(middles, panel.bars, strict=True)]
            lines = [line.get_segments()[0] for line in marked(axes, gid)]
            assert [line[0, 1] for line in lines] == [height for _, height in given if height is not None]
            assert [line[:, 0].mean() for line in lines] == pytest.approx(
                [at for at, mark in given if mark is not None]
            )
        assert [text.get_text() for text in marked(axes, "value")] == [
            f"{bar.value:.2f}".replace("-", "−") for bar in panel.bars
        ]


def test_references_are_dashed_and_floors_are_not():
    axes = drawn(paper(1)).axes[0]
    assert all(line.get_linestyle()[0][1] is None for line in marked(axes, "floor"))
    assert all(line.get_linestyle()[0][1] for line in marked(axes, "reference"))


def test_one_key_has_one_look_and_the_legend_shows_it():
    panels = paper(7)
    looks = {}
    figure = drawn(panels)
    for axes, panel in zip(figure.axes, panels, strict=True):
        for patch, one in zip(patches(axes), panel.bars, strict=True):
            look = (to_hex(patch.get_facecolor()), to_hex(patch.get_edgecolor()), patch.get_hatch())
            looks.setdefault(one.key, set()).add(look)
    assert all(len(found) == 1 for found in looks.values())
    assert len(set.union(*looks.values())) == len(looks)
    shown = legend(figure)
    keys = ["MAS Last Value", "MAS Full", "MAS Count", "untrained", "shuffled labels", "RSA", "CKA"]
    assert list(shown) == [*keys, "95% interval", "no-op floor", "itself (bound)"]
    for key in keys:
        patch = shown[key]
        assert looks[key] == {(to_hex(patch.get_facecolor()), to_hex(patch.get_edgecolor()), patch.get_hatch())}


def test_legend_words_are_arguments_and_only_what_is_there_is_explained():
    words = {"reference": "with itself", "interval": "range of models"}
    assert {"with itself", "range of models", "one seed (bar: mean)"} < set(legend(drawn(paper(1, 3), **words)))
    bare = [GroupPanel("", (Group("", (bar("MAS", 0.9, low=None, high=None), bar("DAS", 0.8, low=None, high=None))),))]
    assert list(legend(drawn(bare))) == ["MAS", "DAS"]


def test_correlations_are_pale_and_on_a_scale_of_their_own():
    figure = drawn(paper(7))
    for axes, panel in zip(figure.axes, paper(7), strict=True):
        for patch, one in zip(patches(axes), panel.bars, strict=True):
            pale = min(to_rgb(patch.get_facecolor())) > 0.6 and patch.get_facecolor() != patch.get_edgecolor()
            assert (pale and patch.get_linewidth() > 1) == (one.axis == "right")
    named = [axes.child_axes[0].get_ylabel() for axes in figure.axes if axes.child_axes]
    assert named == ["RSA, CKA", "RSA, CKA"]
    other = figure.axes[3].child_axes[0]
    other.figure.canvas.draw()
    assert list(other.get_yticks()) == list(figure.axes[0].get_yticks())
    assert not any(axes.child_axes for axes in drawn(pairs_of_two()).axes)


def test_controls_are_grey_and_hatched_where_they_were_put():
    panels = paper(1)
    axes = drawn(panels).axes[0]
    for patch, one in zip(patches(axes), panels[0].bars, strict=True):
        grey = len(set(patch.get_facecolor()[:3])) == 1
        assert (grey and bool(patch.get_hatch())) == one.control
    middles = [patch.get_x() for patch in patches(axes)]
    assert middles == sorted(middles)


def test_a_control_of_a_correlation_is_grey_and_hollow():
    bars = (bar("RSA", 0.8, axis="right"), bar("untrained", 0.6, axis="right", control=True))
    _, control = patches(drawn([GroupPanel("", (Group("", bars),))]).axes[0])
    assert to_hex(control.get_facecolor()) == "#ffffff"
    assert control.get_hatch()


def test_there_is_room_between_axes():
    axes = drawn([GroupPanel("", (embeddings(0.9, 1),))]).axes[0]
    lefts = [patch.get_x() for patch in patches(axes)]
    steps = [other - one for one, other in pairwise(lefts)]
    assert steps[2] > 1.2 * steps[0]
    assert steps[0] == pytest.approx(steps[1]) == pytest.approx(steps[3])


@pytest.mark.parametrize(("count", "shape"), [(1, [1]), (4, [4]), (5, [3, 2]), (7, [4, 3]), (9, [3, 3, 3])])
def test_rows_hold_at_most_four_panels(count, shape):
    assert [len(row) for row in places.lay_out_bars((paper(4) * 3)[:count]).rows] == shape


def test_panels_stand_equally_far_apart_though_one_row_is_shorter():
    figure = drawn(paper(7))
    texts(figure)
    spans = [axes.get_window_extent() for axes in figure.axes[:4]]
    gaps = [(other.x0 - one.x1) / figure.dpi for one, other in pairwise(spans)]
    assert gaps == pytest.approx([gaps[0]] * 3, abs=0.05)


def test_a_figure_of_two_bars_has_room_for_its_heading():
    figure = drawn(CASES["two bars"](), title="Two GRUs share their count")
    assert figure.get_figwidth() > 4
    assert "Two GRUs share their count" in [text.get_text().strip() for text, _ in texts(figure)]


def test_all_panels_share_one_scale():
    axes = drawn(paper(7)).axes
    assert len({one.get_ylim() for one in axes}) == 1
    assert axes[0].get_ylim()[0] < -0.15
    assert axes[0].get_ylim()[1] > 1
    named = [one.get_ylabel() for one in axes]
    assert named == ["IIA", "", "", "", "IIA", "", ""]


def test_labels_are_written_only_where_the_legend_does_not_say_them():
    axes = drawn(labelled()).axes[0]
    assert "a subspace of 1 dims out of all that there are" in [
        tick.get_text() for tick in axes.get_xticklabels(minor=True)
    ]
    assert {tick.get_text() for tick in drawn(paper(1)).axes[0].get_xticklabels(minor=True)} == {""}


def test_more_keys_than_colours_stay_apart():
    bars = tuple(bar(f"method {index}", 0.5) for index in range(12))
    colours = [patch.get_facecolor()[:3] for patch in patches(drawn([GroupPanel("", (Group("", bars),))]).axes[0])]
    assert all(max(abs(a - b) for a, b in zip(*two, strict=True)) > 0.1 for two in combinations(colours, 2))


def test_nothing_to_draw_is_said():
    with pytest.raises(EmptyError, match=r"grouped bar figure is empty; give at least one panel"):
        drawn([])
    with pytest.raises(EmptyError, match=r"the panel 'GRU' is empty; give it groups, and every group bars"):
        drawn([GroupPanel("GRU", (Group("hidden", ()),))])
    with pytest.raises(EmptyError, match=r"the bar 'MAS' is empty; give one value for each seed"):
        GroupBar("MAS", (), None, None)


def test_numbers_that_are_none_are_said():
    with pytest.raises(NotFiniteError, match="the bar 'RSA' holds 2 values"):
        GroupBar("RSA", (float("nan"),), None, float("inf"))


def test_a_key_of_controls_and_results_is_refused():
    bars = (bar("MAS", 0.9), bar("MAS", 0.1, control=True))
    with pytest.raises(
        UnsupportedError, match="the key 'MAS' for both a control and a result is not supported; give each a"
    ):
        drawn([GroupPanel("", (Group("", bars),))])


@pytest.mark.parametrize("count", range(1, 8))
def test_a_legend_too_wide_for_any_columns_ends_in_one(count):
    figure = style.make_canvas(2.0, 2.0, "", "")
    style.add_legend(figure, {f"{'a long entry ' * 4}{index}": Patch() for index in range(count)})
    (found,) = figure.legends
    assert found._ncols == 1
    assert len(found.get_texts()) == count
