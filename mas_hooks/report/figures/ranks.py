"""IIA against the size of the subspace: how few dims carry what a swap moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mas_hooks.core.errors import EmptyError, NotFiniteError, SettingError, ShapeError
from mas_hooks.report import style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _MARGIN, _HEIGHT, _FRAME, _LABEL, _TICK = 4.9, 1.1, 3.2, 0.9, 0.2, 0.06  # inches
_GREYS = ("#666666", "#8c8c8c", "#aaaaaa")
_MARKERS = ("s", "^", "D", "v")
_DASHES: tuple[style.Dashes, ...] = ((0, (4, 1.6)), (0, (1.6, 1.2)), (0, (6, 1.4, 1.4, 1.4)))


@dataclass(frozen=True)
class RankLine:
    """One line of the figure: an IIA and its interval for each size of the subspace, sizes in rising order.

    floor: what the same pairs score without a swap. seeds: for each seed its value at each size; the line is their
    mean. Raises EmptyError without sizes, SettingError for sizes that do not rise from 1 or more, ShapeError for
    another count of numbers than of sizes, and NotFiniteError for a number that is NaN or infinite.
    """

    label: str
    sizes: tuple[int, ...]
    values: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    floor: float | None = None
    control: bool = False
    seeds: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.sizes:
            raise EmptyError(f"the line {self.label!r}", "give it at least one size")
        if self.sizes[0] < 1 or any(one >= other for one, other in pairwise(self.sizes)):
            raise SettingError(f"sizes of the line {self.label!r}", self.sizes, "1 or more, and rising")
        for numbers in (self.values, *self.seeds, *self._interval()):
            if len(numbers) != len(self.sizes):
                needed = f"({len(self.sizes)},), a number for each size,"
                raise ShapeError(f"a row of the line {self.label!r}", (len(numbers),), needed)
            unfit = sum(not math.isfinite(number) for number in numbers)
            if unfit:
                raise NotFiniteError(f"the line {self.label!r}", unfit)

    def _interval(self) -> tuple[tuple[float, ...], ...]:
        return () if self.low is None and self.high is None else (self.low or (), self.high or ())


def rank_curves(
    lines: Sequence[RankLine], *, title: str, subtitle: str, unit: str, interval: str = "95% interval"
) -> Figure:
    """Draw each line over the sizes of its subspace (log scale, ticks at the sizes), named at its end.

    unit names the scale from 0 to 1; interval names the bands. Controls are grey and dashed, their seeds are left out.
    One dotted line shows the highest floor of all: what is above it is above each. Raises EmptyError without lines.
    """
    if not lines:
        raise EmptyError("the rank figure", "give at least one line")
    named, floor = _name_lines(lines), _floor(lines)
    height = max(_HEIGHT, _LABEL * (len(named) + 1))
    names = max(style.measure_text(name, style.TEXT) for _, name, _ in named)
    figure = style.make_canvas(_WIDTH + names + _MARGIN, height + _FRAME, title, subtitle)
    axes = figure.add_subplot()
    for line, look in zip(lines, _looks(lines), strict=True):
        _draw(axes, line, look)
    if floor is not None:
        axes.axhline(floor, color=style.SOFT, linewidth=1, linestyle=(0, (1, 2)), zorder=1, gid="floor")
    _scale(axes, sorted({size for line in lines for size in line.sizes}), unit)
    style.write_at_end(axes, named, _LABEL / height)
    style.add_legend(figure, _entries(lines, interval))
    return figure


def _looks(lines: Sequence[RankLine]) -> list[dict[str, Any]]:
    """Colours and dots for results; greys, dashes and other markers for controls."""
    looks, counts = [], {True: 0, False: 0}
    for line in lines:
        index = counts[line.control]
        counts[line.control] += 1
        grey = {"color": _GREYS[index % 3], "linestyle": _DASHES[index % 3], "marker": _MARKERS[index % 4]}
        looks.append(grey if line.control else {"color": style.pick_colour(index), "linestyle": "-", "marker": "o"})
    return looks


def _floor(lines: Sequence[RankLine]) -> float | None:
    return max((line.floor for line in lines if line.floor is not None), default=None)


def _name_lines(lines: Sequence[RankLine]) -> list[tuple[float, str, str]]:
    """What is written at the right edge: height, text and colour."""
    floor = _floor(lines)
    ends = [(line.values[-1], line.label, look["color"]) for line, look in zip(lines, _looks(lines), strict=True)]
    named = [(value, f"{label} {value:.2f}", colour) for value, label, colour in ends]
    return named + ([(floor, f"no-op floor {floor:.2f}", style.SOFT)] if floor is not None else [])


def _draw(axes: Axes, line: RankLine, look: dict[str, Any]) -> None:
    if line.low is not None and line.high is not None:
        band = {"color": look["color"], "alpha": 0.15, "linewidth": 0, "gid": "interval"}
        axes.fill_between(line.sizes, line.low, line.high, **band)
        axes.vlines(line.sizes, line.low, line.high, color=look["color"], linewidth=1, gid="whisker")
    for values in () if line.control else line.seeds:
        axes.plot(line.sizes, values, color=look["color"], linewidth=0.7, alpha=0.45, gid="seed")
    width = 1.4 if line.control else 2.2
    gid = "control" if line.control else "line"
    axes.plot(line.sizes, line.values, linewidth=width, markersize=5, clip_on=False, zorder=3, gid=gid, **look)


def _scale(axes: Axes, sizes: list[int], unit: str) -> None:
    style.quiet_axes(axes)
    axes.set_xscale("log", base=2)
    axes.set_xlim(sizes[0] / 1.12, sizes[-1] * 1.06)
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axes.spines["left"].set_bounds(0, 1)
    axes.grid(axis="y", color=style.FAINT, linewidth=0.8)
    axes.set_xticks(sizes, _numbers(axes, sizes), minor=False)
    axes.minorticks_off()
    axes.set_xlabel("dims of the shared subspace (log scale)", fontsize=style.TEXT, color=style.INK)
    axes.set_ylabel(unit, fontsize=style.TEXT, color=style.INK)


def _numbers(axes: Axes, sizes: list[int]) -> list[str]:
    """The sizes as text, without those that would touch the one before."""
    shown, edge = [], -math.inf
    low, high = (math.log2(end) for end in axes.get_xlim())
    for size in sizes:
        middle = (math.log2(size) - low) / (high - low) * _WIDTH
        half = style.measure_text(str(size), style.TEXT) / 2
        fits = middle - half >= edge + _TICK
        edge = middle + half if fits else edge
        shown.append(str(size) if fits else "")
    return shown


def _entries(lines: Sequence[RankLine], interval: str) -> dict[str, Artist]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    thin = Line2D([], [], linewidth=0.9, alpha=0.6, color=style.SOFT)
    dashed = Line2D([], [], linewidth=1.4, linestyle=(0, (3, 1.4)), color=style.SOFT)
    applying = {
        interval: (any(line.low is not None for line in lines), Patch(color=style.SOFT, alpha=0.25, linewidth=0)),
        "one seed (thick: mean)": (any(line.seeds and not line.control for line in lines), thin),
        "control": (any(line.control for line in lines), dashed),
    }
    return {name: key for name, (applies, key) in applying.items() if applies}
