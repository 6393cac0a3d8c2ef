"""Values in a unit of their own along a number (layer, step): a penalty in nats, a loss, an accuracy lost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mas_hooks.core.errors import EmptyError, NotFiniteError, SettingError, ShapeError
from mas_hooks.report import style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT, _SCALE, _MARGIN, _FRAME, _LABEL = 3.6, 2.8, 0.8, 0.35, 0.9, 0.2  # inches
_ACROSS = 3  # panels side by side
_AIR = 0.06  # of the scale, above and below all values
_DASHES: style.Dashes = (0, (4, 1.6))


@dataclass(frozen=True)
class Curve:
    """One line of a panel: values at rising numbers, and the interval of each where there is one.

    seeds: for each seed its values at the same numbers; the line is their mean. baseline: drawn dashed, for what the
    others are read against. look: lines of one number have one colour, default the order in the panel.
    Raises EmptyError without numbers, SettingError for numbers that do not rise, ShapeError for another count of values
    than of numbers, and NotFiniteError for a value that is NaN or infinite.
    """

    label: str
    at: tuple[float, ...]
    values: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    seeds: tuple[tuple[float, ...], ...] = ()
    baseline: bool = False
    look: int | None = None

    def __post_init__(self) -> None:
        if not self.at:
            raise EmptyError(f"the curve {self.label!r}", "give it at least one point")
        if any(one >= other for one, other in pairwise(self.at)):
            raise SettingError(f"the places of the curve {self.label!r}", self.at, "rising")
        if (self.low is None) != (self.high is None):
            raise SettingError(f"the interval of the curve {self.label!r}", (self.low, self.high), "two rows or none")
        for numbers in self.rows:
            if len(numbers) != len(self.at):
                needed = f"({len(self.at)},), a number for each place,"
                raise ShapeError(f"a row of the curve {self.label!r}", (len(numbers),), needed)
        unfit = sum(not math.isfinite(number) for numbers in self.rows for number in numbers)
        if unfit:
            raise NotFiniteError(f"the curve {self.label!r}", unfit)

    @property
    def rows(self) -> list[tuple[float, ...]]:
        """Everything that is drawn."""
        return [self.values, *self.seeds, *(row for row in (self.low, self.high) if row is not None)]


def value_curves(
    panels: Mapping[str, Sequence[Curve]],
    *,
    title: str,
    subtitle: str,
    along: str,
    unit: str,
    interval: str = "95% interval",
    zero: str | None = None,
    top: float | None = None,
) -> Figure:
    """Draw a panel for each entry, all on one scale, every curve named at its end with its last value.

    along, unit: what the axes say. interval: names the bands. zero: what a line at zero means, drawn where given.
    top: what is above is cut off, for losses that fall from far. Raises EmptyError without panels or curves.
    """
    if not panels or not all(panels.values()):
        raise EmptyError("the figure of curves", "give a curve for each panel, and at least one panel")
    everything = [curve for curves in panels.values() for curve in curves]
    beside = max(style.measure_text(_name(curve), style.TEXT) for curve in everything) + _MARGIN
    across = min(_ACROSS, len(panels))
    lines = -(-len(panels) // across)
    height = max(_HEIGHT, _LABEL * (max(map(len, panels.values())) + 2))
    size = (across * (_SCALE + _WIDTH + beside), lines * (height + _FRAME))
    figure = style.make_canvas(*size, title, subtitle)
    low, high = _span(everything, zero is not None, top)
    for index, (name, curves) in enumerate(panels.items()):
        axes = figure.add_subplot(lines, across, index + 1)
        axes.set_ylim(low, high)
        _panel(axes, curves, _LABEL / height, zero=zero is not None)
        axes.set_title(name, fontsize=style.PANEL, color=style.INK, loc="left")
        axes.set_xlabel(along, fontsize=style.TEXT, color=style.INK)
        if index % across == 0:
            axes.set_ylabel(unit, fontsize=style.TEXT, color=style.INK)
    style.add_legend(figure, _entries(everything, interval, zero))
    return figure


def _name(curve: Curve) -> str:
    return f"{curve.label} {_write_number(curve.values[-1])}"


def _write_number(value: float) -> str:
    """Two digits, or three where it is small; with a minus sign, not a hyphen."""
    return f"{value:.{2 if abs(value) >= 1 else 3}f}".replace("-", "−")


def _span(curves: Sequence[Curve], zero: bool, top: float | None) -> tuple[float, float]:
    every = [number for curve in curves for row in curve.rows for number in row] + ([0.0] if zero else [])
    low, high = min(every), max(every) if top is None else min(top, max(every))
    air = _AIR * (high - low) or abs(high) * _AIR or 1.0
    return low - air, high + air


def _panel(axes: Axes, curves: Sequence[Curve], gap: float, *, zero: bool) -> None:
    style.quiet_axes(axes)
    axes.grid(axis="y", color=style.FAINT, linewidth=0.8)
    if zero:
        axes.axhline(0, color=style.SOFT, linewidth=1, zorder=1, gid="zero")
    colours = [style.pick_colour(index if curve.look is None else curve.look) for index, curve in enumerate(curves)]
    for curve, colour in zip(curves, colours, strict=True):
        _draw(axes, curve, colour)
    _ticks(axes)
    low, high = axes.get_ylim()
    falling = sorted(zip(curves, colours, strict=True), key=lambda one: -one[0].values[-1])
    heights = [(min(curve.values[-1], high) - low) / (high - low) for curve, _ in falling]
    for (curve, colour), height in zip(falling, style.spread_apart(heights, gap), strict=True):
        look = {"fontsize": style.TEXT, "color": colour, "va": "center", "gid": "label"}
        axes.text(1.03, height, _name(curve), transform=axes.transAxes, **look)


def _ticks(axes: Axes) -> None:
    """Round numbers inside both scales, whole ones along."""
    from matplotlib.ticker import MaxNLocator

    for axis, ends, whole in ((axes.xaxis, axes.get_xlim(), True), (axes.yaxis, axes.get_ylim(), False)):
        found = MaxNLocator(5, integer=whole).tick_values(*ends)
        axis.set_ticks([tick for tick in found if ends[0] <= tick <= ends[1]])
    axes.minorticks_off()


def _draw(axes: Axes, curve: Curve, colour: str) -> None:
    if curve.low is not None and curve.high is not None:
        axes.fill_between(curve.at, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0, gid="interval")
        axes.vlines(curve.at, curve.low, curve.high, color=colour, linewidth=1, gid="whisker")
    for values in curve.seeds:
        axes.plot(curve.at, values, color=colour, linewidth=0.7, alpha=0.5, gid="seed")
    look: dict[str, Any] = {"color": colour, "linestyle": _DASHES if curve.baseline else "-", "linewidth": 2}
    dots: dict[str, Any] = {"marker": "o", "markersize": 4.5} if len(curve.at) <= 12 else {}
    axes.plot(curve.at, curve.values, zorder=3, gid="line", **look, **dots)


def _entries(curves: Sequence[Curve], interval: str, zero: str | None) -> dict[str, Artist]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    applying = {
        interval: (any(curve.low for curve in curves), Patch(color=style.SOFT, alpha=0.25, linewidth=0)),
        "one seed (thick: mean)": (any(curve.seeds for curve in curves), _key(0.9, "-", 0.6)),
        "baseline": (any(curve.baseline for curve in curves), _key(1.6, _DASHES)),
        zero or "": (zero is not None, Line2D([], [], linewidth=1, color=style.SOFT)),
    }
    return {name: key for name, (applies, key) in applying.items() if applies}


def _key(width: float, dashes: style.Dashes, alpha: float = 1.0) -> Artist:
    from matplotlib.lines import Line2D

    look: dict[str, Any] = {"linewidth": width, "linestyle": dashes, "alpha": alpha, "color": style.SOFT}
    return Line2D([], [], **look)
