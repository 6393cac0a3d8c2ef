"""What the figures show is what the records say, and a reader can read all of it."""

from dataclasses import replace
from itertools import combinations

import example_runs as runs
import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from readable_figures import assert_readable, marked, texts

from mas_hooks.core.errors import EmptyError
from mas_hooks.core.records import Record
from mas_hooks.report import direction_heatmap, iia_bars, iia_curves, style
from mas_hooks.report.data.panels import model_panels as all_panels

CASES = {"demo": runs.demo, "many": runs.many, "four": runs.four, "alone": runs.alone, "seeds": runs.seeds}


def words(figure):
    return [text.get_text() for text, _ in texts(figure)]


def bars(axes):
    return [patch for container in axes.containers for patch in container]


def panels(figure):
    drawn = [axes for axes in figure.axes if any(isinstance(cells, QuadMesh) for cells in axes.collections)]
    return drawn[:-1]  # without the colour bar


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("draw", [direction_heatmap, iia_bars])
def test_everything_can_be_read(draw, case):
    assert_readable(draw(CASES[case]()))


def test_curves_can_be_read():
    sweep = [row for k in (1, 2, 4, 8, 16) for row in runs.curve(runs.GRUS, 30, 200, method="mas", init="random", k=k)]
    for records in (runs.demo(), sweep, runs.curve(runs.GRUS, 80, 300, method="mas", variable="full", init="random")):
        assert_readable(iia_curves(records))


def test_long_names_can_be_read():
    models = ("a-rather-long-name-of-a-network", "another-long-name-of-a-network-indeed")
    records = runs.many(1, models)
    assert_readable(direction_heatmap(records))
    assert_readable(iia_bars(records))


def test_heat_map_cells_are_the_records():
    figure = direction_heatmap(runs.four())
    mas, das = panels(figure)
    assert [mas.get_title(), das.get_title()] == ["MAS · full", "DAS · full"]
    values = mas.collections[0].get_array()
    assert values[0, 1] == 0.9
    assert values[1, 0] == 0.8
    assert np.isfinite(das.collections[0].get_array().filled(np.nan)).sum() == 1
    low, high = runs.wilson(0.97)
    assert f"{low:.2f}–{high:.2f}" in words(figure)
    assert [mas.collections[0].norm.vmin, mas.collections[0].norm.vmax] == [0, 1]


def test_heat_map_text_stands_out():
    figure = direction_heatmap(runs.four())
    mas = panels(figure)[0]
    colours = {text.get_text(): text.get_color() for text in mas.texts}
    assert colours["0.10"] == "white"
    assert colours["0.99"] == "black"


def test_heat_map_frames_the_worst_direction():
    (panel,) = panels(direction_heatmap(runs.directions((0.99, 0.98, 0.7, 0.97), runs.GRUS)))
    (frame,) = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
    x, y = frame.get_center()
    assert [int(x), int(y)] == [0, 1]


def test_heat_map_shows_mean_and_range_of_seeds():
    figure = direction_heatmap(runs.seeds())
    assert panels(figure)[0].collections[0].get_array()[0, 1] == pytest.approx(0.9)
    assert "0.84–0.96" in words(figure)


def test_heat_map_has_no_controls():
    records = [*runs.directions((0.9,) * 4, runs.GRUS), *runs.directions((0.1,) * 4, runs.GRUS, control="untrained")]
    assert panels(direction_heatmap(records))[0].collections[0].get_array().min() == 0.9


def test_two_starts_are_two_panels():
    both = [row for init in ("random", "procrustes") for row in runs.directions((0.9,) * 4, runs.GRUS, init=init)]
    titles = [panel.get_title() for panel in panels(direction_heatmap(both))]
    assert titles == ["MAS · full\nrandom start", "MAS · full\nProcrustes start"]


def test_bars_whiskers_and_floor_are_the_worst_record():
    axes = iia_bars(runs.directions((0.99, 0.9, 0.93, 0.98), runs.GRUS, floor=0.07)).axes[0]
    (bar,) = bars(axes)
    assert bar.get_width() == 0.9
    (whisker,) = marked(axes, "interval")
    assert tuple(whisker.get_xdata()) == runs.wilson(0.9)
    (floor,) = marked(axes, "floor")
    assert floor.get_segments()[0][:, 0] == pytest.approx([0.07, 0.07])


def test_controls_are_grey_hatched_and_last():
    causal, correlational = iia_bars(runs.demo()).axes
    hatched = [bar for bar in bars(causal) if bar.get_hatch()]
    plain = [bar for bar in bars(causal) if not bar.get_hatch()]
    assert len(hatched) == 3
    assert len({bar.get_hatch() for bar in hatched}) == 3
    assert all(len({*bar.get_facecolor()[:3]}) == 1 for bar in hatched)
    assert min(bar.get_y() for bar in hatched) > max(bar.get_y() for bar in plain)
    assert [bar.get_width() for bar in bars(correlational)] == [0.71, 0.93]
    assert causal.get_xlim() == correlational.get_xlim()


def test_similarity_stands_beside_its_comparison():
    causal, correlational = iia_bars(runs.many(3)).axes
    ours = sorted(round(bar.get_y(), 3) for bar in bars(causal) if not bar.get_hatch())
    rsa = sorted(round(bar.get_y(), 3) for bar in bars(correlational))[::2]
    assert ours == rsa


def test_seeds_are_dots_and_the_bar_their_mean():
    axes = iia_bars(runs.seeds()).axes[0]
    assert bars(axes)[0].get_width() == pytest.approx(0.9)
    assert sorted(dot.get_xdata()[0] for dot in marked(axes, "seed")) == [0.84, 0.9, 0.96]


def test_one_way_methods_show_every_direction():
    records = runs.directions((0.99, 0.95, 0.14, 0.98), runs.GRUS, method="unimas")
    axes = iia_bars(records).axes[0]
    assert sorted(bar.get_width() for bar in bars(axes)) == [0.14, 0.95, 0.98, 0.99]
    assert "UniMAS · full · gru-1 → gru-0" in [label.get_text() for label in axes.get_yticklabels()]


def test_bars_without_floor_or_similarity():
    figure = iia_bars(runs.directions((0.9,) * 4, runs.GRUS, floor=None, iia_low=None, iia_high=None))
    (axes,) = figure.axes
    assert not marked(axes, "floor")
    assert not marked(axes, "interval")
    assert "no-op floor" not in words(figure)


def test_bars_of_similarities_alone_reach_below_zero():
    (axes,) = iia_bars([runs.similarity("rsa", -0.2, runs.GRUS), runs.similarity("cka", 0.4, runs.GRUS)]).axes
    assert axes.get_xlim()[0] <= -0.23
    assert [bar.get_width() for bar in bars(axes)] == [-0.2, 0.4]


def test_many_models_keep_their_pairs_apart():
    records = [
        *runs.four(),
        *(runs.similarity("cka", 0.1 * i, pair) for i, pair in enumerate(combinations(runs.FOUR, 2))),
    ]
    axes = iia_bars(records).axes[1]
    assert sorted(bar.get_width() for bar in bars(axes)) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_curve_is_the_worst_direction():
    records = runs.curve(runs.GRUS, 60, 200, method="mas", variable="full", init="random")
    axes = iia_curves(records).axes[0]
    (line,) = marked(axes, "worst")
    for step, iia in zip(*line.get_data(), strict=True):
        assert iia == min(row.iia for row in records if row.step == step)
    assert len(marked(axes, "direction")) == 4
    assert marked(axes, "floor")[0].get_ydata()[0] == 0.07


def test_both_starts_are_named_and_look_different():
    figure = iia_curves(runs.demo())
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [
        "MAS · full",
        "DAS · full",
        "MAS · count",
        "DAS · count",
    ]
    axes = figure.axes[0]
    one, other = marked(axes, "worst")
    assert one.get_color() != other.get_color()
    assert one.get_linestyle() != other.get_linestyle()
    labels = {text.get_text().rsplit(" ", 1)[0]: text.get_color() for text in marked(axes, "label")}
    assert labels["random start"] == one.get_color()
    assert labels["Procrustes start"] == other.get_color()


def test_curves_without_floor():
    records = [Record(method="mas", split="valid", source=0, target=0, step=s, iia=s / 30) for s in (0, 10, 20)]
    axes = iia_curves(records).axes[0]
    assert not marked(axes, "floor")
    assert [text.get_text() for text in marked(axes, "label")] == ["worst direction 0.67"]


@pytest.mark.parametrize("draw", [direction_heatmap, iia_bars, iia_curves])
def test_nothing_to_draw_is_said(draw):
    with pytest.raises(EmptyError, match="it needs"):
        draw([Record(recipe="demo", split="train", step=3, iia=0.2)])


@pytest.mark.parametrize(("colour", "ink"), [("#00224e", "white"), ("#fee838", "black"), ("#7c7b78", "black")])
def test_ink_has_the_higher_contrast(colour, ink):
    assert style.choose_ink(to_rgba(colour)) == ink


def test_controls_of_similarities_are_drawn_as_controls():
    """An untrained pair whose CKA is high belongs beside the trained one."""
    records = [*runs.demo(), *(replace(row, control="untrained") for row in runs.demo() if row.measure)]
    bars = {bar.label: bar for panel in all_panels(records) for bar in panel.bars}
    assert bars["CKA, untrained"].control == "untrained"
    assert bars["CKA"].control == ""
    assert "CKA, untrained" in [text.get_text() for text, _ in texts(iia_bars(records))]
