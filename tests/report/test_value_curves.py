"""Curves in a unit of their own show the numbers they were given, on one scale, and a reader can read all of it."""

import numpy as np
import pytest
from readable_figures import assert_readable, marked

from mas_hooks.core.errors import EmptyError, NotFiniteError, SettingError, ShapeError
from mas_hooks.report import Curve, value_curves

LAYERS = (0, 1, 2)


def curve(label, values, **given):
    low, high = (tuple(value + side for value in values) for side in (-0.02, 0.02))
    return Curve(label, LAYERS, values, low, high, **given)


def four():
    return [
        curve("solu-3l → gelu-3l", (0.4, 0.3, 0.2), seeds=((0.45, 0.32, 0.2), (0.35, 0.28, 0.2))),
        curve("gelu-3l → solu-3l", (0.3, 0.25, 0.2)),
        curve("gelu-3l → gelu-3l", (0.1, 0.05, -0.03), baseline=True),
        curve("solu-3l → solu-3l", (0.1, 0.04, -0.031), baseline=True),
    ]


def drawn(panels, **words):
    said = {"title": "What a stitch costs", "subtitle": "Nats a token.", "along": "layer", "unit": "penalty (nats)"}
    return value_curves(panels, **(said | words))


def many():
    steps = tuple(range(0, 2001, 100))
    falls = tuple(3 + 4 * 0.5**index for index in range(21))
    return {f"layer {layer}": [Curve(f"line {index}", steps, falls) for index in range(4)] for layer in range(4)}


@pytest.mark.parametrize(
    "panels",
    [{"": four()}, {"one": four(), "other": four()[:1]}, many(), {"point": [Curve("a", (1,), (0.5,))]}],
    ids=("four", "two", "many", "point"),
)
def test_everything_can_be_read(panels):
    assert_readable(drawn(panels, zero="no penalty"))


def test_curves_are_the_numbers_they_were_given():
    axes = drawn({"": four()}).axes[0]
    assert [tuple(map(tuple, one.get_data())) for one in marked(axes, "line")] == [(LAYERS, c.values) for c in four()]
    assert [tuple(one.get_ydata()) for one in marked(axes, "seed")] == list(four()[0].seeds)
    assert [one.get_linestyle() == "-" for one in marked(axes, "line")] == [True, True, False, False]
    for given, whiskers in zip(four(), marked(axes, "whisker"), strict=True):
        ends = np.array(whiskers.get_segments())
        assert ends[:, 0, 1] == pytest.approx(given.low)
        assert ends[:, 1, 1] == pytest.approx(given.high)
    assert [text.get_text() for text in marked(axes, "label")][-1] == "solu-3l → solu-3l −0.031"


def test_panels_share_one_scale_that_can_be_cut():
    figure = drawn(many(), top=4)
    assert {axes.get_ylim() for axes in figure.axes} == {figure.axes[0].get_ylim()}
    assert 4 <= figure.axes[0].get_ylim()[1] < 4.2
    assert not marked(figure.axes[0], "zero")
    assert marked(drawn({"": four()}, zero="none").axes[0], "zero")


def test_refusals():
    with pytest.raises(EmptyError, match=r"the figure of curves is empty; give a curve for each panel"):
        drawn({"one": []})
    with pytest.raises(EmptyError, match=r"the curve 'a' is empty; give it at least one point"):
        Curve("a", (), ())
    with pytest.raises(SettingError, match=r"the places of the curve 'a' is \(1, 0\), but must be rising"):
        Curve("a", (1, 0), (0.1, 0.2))
    with pytest.raises(SettingError, match=r"the interval of the curve 'a' is \(\(0.1,\), None\), but must be two"):
        Curve("a", (1,), (0.1,), (0.1,))
    with pytest.raises(ShapeError, match=r"a row of the curve 'a' has shape \(1,\), but \(2,\), a number for each"):
        Curve("a", (0, 1), (0.1,))
    with pytest.raises(NotFiniteError, match=r"the curve 'a' holds 1 value that is NaN"):
        Curve("a", (0,), (float("nan"),))
