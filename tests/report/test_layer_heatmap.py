"""The layer heat map shows the values it was given where they belong, and a reader can read all of it."""

import numpy as np
import pytest
from readable_figures import assert_readable, marked, texts

from mas_hooks.core.errors import EmptyError, NotFiniteError
from mas_hooks.core.records import Record
from mas_hooks.report import layer_heatmaps


def rows(a, b, values, **more):
    return [
        Record(
            source_model=a,
            target_model=b,
            layer_a=f"blocks.{i}.hook_resid_post",
            layer_b=f"blocks.{j}.hook_resid_post",
            value=float(value),
            **more,
        )
        for (i, j), value in np.ndenumerate(np.array(values))
    ]


SMALL = [[1.0, 0.25], [0.5, 0.75], [0.1, -0.04]]


def drawn(records, **words):
    return layer_heatmaps(
        records, **({"title": "Early layers meet early layers", "subtitle": "Unbiased linear CKA."} | words)
    )


def family(depths=(2, 6, 30)):
    pairs = [(a, b) for a in depths for b in depths if a <= b]
    return [row for a, b in pairs for row in rows(f"deep-{a}", f"deep-{b}", np.random.default_rng(a).random((a, b)))]


@pytest.mark.parametrize(
    "records",
    [
        rows("a", "b", SMALL),
        rows("a", "a", [[1.0]]),
        family(),
        rows("a-long-name-" * 3, "another-name-" * 3, SMALL, control="shuffled_labels"),
    ],
    ids=("one", "cell", "family", "long"),
)
def test_everything_can_be_read(records):
    assert_readable(drawn(records))


def test_values_stand_where_they_belong_first_layers_at_the_bottom_left():
    figure = drawn(rows("a", "b", SMALL))
    (cells,) = figure.axes[0].collections
    assert np.array_equal(cells.get_array(), SMALL)
    assert (figure.axes[0].get_xlim(), figure.axes[0].get_ylim()) == ((0, 2), (0, 3))
    written = {text.get_text(): text.get_position() for text in marked(figure.axes[0], "value")}
    assert written["1.00"] == (0.5, 0.5)
    assert written["−0.04"] == (1.5, 2.5)
    assert len(written) == 6
    words = {text.get_text() for text, _ in texts(figure)}
    assert {"a × b", "depth of a (3 layers)", "depth of b (2 layers)", "CKA"} <= words


def test_panels_share_one_scale_and_deep_models_have_no_numbers():
    figure = drawn(family(), low=0.2)
    panels = [axes for axes in figure.axes if axes.collections and axes.get_title()]
    assert [axes.get_title() for axes in panels][:2] == ["deep-2 with itself", "deep-2 × deep-6"]
    assert len(panels) == 6
    scales = {(cells.norm.vmin, cells.norm.vmax) for axes in panels for cells in axes.collections}
    assert len(scales) == 1
    assert max(scales)[1] == 1
    assert not marked(panels[-1], "value")
    assert len(marked(panels[0], "value")) == 4
    figure.canvas.draw()
    assert np.ptp([axes.get_window_extent().width for axes in panels]) < 2


def test_the_scale_reaches_down_to_the_lowest_value():
    assert drawn(rows("a", "b", [[-0.53]])).axes[0].collections[0].norm.vmin == pytest.approx(-0.6)
    assert drawn(rows("a", "b", [[0.9]])).axes[0].collections[0].norm.vmin == 0
    assert drawn(rows("a", "b", [[0.9]]), low=0.5).axes[0].collections[0].norm.vmin == 0.5


def test_seeds_are_averaged_and_controls_stand_apart():
    twice = [*rows("a", "b", [[0.2]], seed=0), *rows("a", "b", [[0.6]], seed=1)]
    figure = drawn([*twice, *rows("a", "b", [[0.9]], control="untrained")])
    assert [float(axes.collections[0].get_array()[0, 0]) for axes in figure.axes[:2]] == pytest.approx([0.4, 0.9])
    assert figure.axes[1].get_title() == "a × b, untrained"


def test_a_cell_that_was_not_measured_stays_blank():
    figure = drawn(rows("a", "b", SMALL)[:-1])
    assert np.isnan(figure.axes[0].collections[0].get_array().filled(np.nan)[2, 1])
    assert len(marked(figure.axes[0], "value")) == 5


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(EmptyError, match="the layer heat map is empty; it needs records with layer_a"):
        drawn([Record(measure="cka", value=0.5)])
    with pytest.raises(NotFiniteError, match="the layer heat map of a × b holds 1 value"):
        drawn(rows("a", "b", [[float("nan"), 0.1]]))
