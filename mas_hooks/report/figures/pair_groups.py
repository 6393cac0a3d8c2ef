"""Groups of pairs of models as dots, with the mean of each group and its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mas_hooks.core.errors import EmptyError, NotFiniteError, SettingError
from mas_hooks.report import style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMN, _HEIGHT, _MARGIN, _KEY = 1.9, 3.4, 0.95, 0.6  # inches: a group, the scale, beside it, a key and its gaps
_DOTS, _MEAN, _HALF, _WRITTEN = -0.14, 0.26, 0.1, 0.4  # places in a column one unit wide
_NEAR, _STEP = 0.022, 0.075  # dots nearer than this on the scale stand side by side
_TICKS = tuple(number / 5 for number in range(-5, 26))  # distances go beyond 1


@dataclass(frozen=True)
class PairGroup:
    """One group of the figure: the score of each of its pairs by name, their mean and its interval where there is one.

    Raises EmptyError without pairs, NotFiniteError for a number that is NaN or infinite, SettingError for an interval
    of one end.
    """

    label: str
    values: Mapping[str, float]
    mean: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if not self.values:
            raise EmptyError(f"the group {self.label!r}", "give it at least one pair")
        unfit = sum(not math.isfinite(number) for number in (*self.values.values(), *self.ends))
        if unfit:
            raise NotFiniteError(f"the group {self.label!r}", unfit)
        if (self.low is None) != (self.high is None):
            raise SettingError(
                f"the interval of the group {self.label!r}", (self.low, self.high), "two numbers or none"
            )

    @property
    def ends(self) -> tuple[float, ...]:
        """The numbers that are drawn beside the dots: mean and interval."""
        return tuple(number for number in (self.mean, self.low, self.high) if number is not None)


def pair_groups(
    groups: Sequence[PairGroup],
    *,
    title: str,
    subtitle: str,
    unit: str = "IIA",
    interval: str = "95% interval, models resampled",
    floor: float | None = None,
) -> Figure:
    """Draw a column for each group: a dot for every pair, and the mean with its interval beside them.

    floor: what the pairs score without a swap, as one dotted line. The scale runs from 0 to 1, and below 0 where a
    number does. Raises EmptyError without groups.
    """
    if not groups:
        raise EmptyError("the figure of groups of pairs", "give at least one group")
    entries = _entries(groups, interval, floor is not None)
    explained = 2 * (max(style.measure_text(name, style.TEXT) for name in entries) + _KEY)
    figure = style.make_canvas(max(_COLUMN * len(groups), explained) + _MARGIN, _HEIGHT + 0.7, title, subtitle)
    _panel(figure.add_subplot(), groups, unit, floor)
    style.add_legend(figure, entries)
    return figure


def pair_panels(
    panels: Mapping[str, Sequence[PairGroup]],
    *,
    title: str,
    subtitle: str,
    interval: str = "95% interval, models resampled",
    floors: Mapping[str, float] | None = None,
) -> Figure:
    """The same for several scores of the same pairs, two panels in a line, each under the name of its score.

    floors: by panel. Raises EmptyError without panels, or for one without groups.
    """
    if not panels or not all(panels.values()):
        raise EmptyError("the figure of groups of pairs", "give at least one panel, and a group in each")
    every, floors = [group for groups in panels.values() for group in groups], floors or {}
    columns, lines = min(2, len(panels)), -(-len(panels) // 2)
    width = columns * (_COLUMN * max(map(len, panels.values())) + _MARGIN)
    figure = style.make_canvas(width, lines * (_HEIGHT + 0.4) + 0.3, title, subtitle)
    for place, (unit, groups) in enumerate(panels.items(), 1):
        _panel(figure.add_subplot(lines, columns, place), groups, unit, floors.get(unit))
    style.add_legend(figure, _entries(every, interval, bool(floors)))
    return figure


def _panel(axes: Axes, groups: Sequence[PairGroup], unit: str, floor: float | None) -> None:
    for at, group in enumerate(groups):
        _draw(axes, at, group, style.pick_colour(at))
    if floor is not None:
        axes.axhline(floor, color=style.SOFT, linewidth=1, linestyle=(0, (1, 2)), zorder=1, gid="floor")
    _scale(axes, groups, unit)


def _draw(axes: Axes, at: int, group: PairGroup, colour: str) -> None:
    pencil = style.Marks(axes, upright=True)
    for across, value in zip(_beside(list(group.values.values())), group.values.values(), strict=True):
        look = {"color": colour, "markeredgecolor": "white", "markersize": 7, "alpha": 0.85, "gid": "pair"}
        axes.plot([at + _DOTS + across], [value], "o", zorder=3, clip_on=False, **look)
    if group.low is not None and group.high is not None:
        pencil.interval(at + _MEAN, group.low, group.high)
    mean = {"color": colour, "linewidth": 3, "zorder": 4, "gid": "mean"}
    axes.hlines(group.mean, at + _MEAN - _HALF, at + _MEAN + _HALF, **mean)
    written = f"{group.mean:.2f}".replace("-", "−")
    look = {"fontsize": style.TEXT, "color": style.INK, "va": "center", "ha": "left", "gid": "value"}
    axes.text(at + _WRITTEN, group.mean, written, **look)


def _beside(values: Sequence[float]) -> list[float]:
    """How far to the side each dot stands, so that dots of nearly the same height do not hide each other."""
    places: list[tuple[float, float]] = []
    across = dict.fromkeys(range(len(values)), 0.0)
    for index in sorted(across, key=lambda index: values[index]):
        taken = {place for place, height in places if values[index] - height < _NEAR}
        tried = (side * step * _STEP for step in range(len(values)) for side in (1, -1))
        across[index] = next(place for place in tried if place not in taken)
        places.append((across[index], values[index]))
    most = max((abs(place) for place in across.values()), default=0.0)
    fitted = min(1.0, 3 * _STEP / most) if most else 1.0
    return [across[index] * fitted for index in range(len(values))]


def _scale(axes: Axes, groups: Sequence[PairGroup], unit: str) -> None:
    style.quiet_axes(axes, keep=("left",))
    numbers = [number for group in groups for number in (*group.values.values(), *group.ends)]
    low, high = min(0.0, *numbers), max(1.0, *numbers)
    axes.set_xlim(-0.55, len(groups) - 0.3)
    axes.set_ylim(low - 0.02, high + 0.04)
    axes.set_yticks([tick for tick in _TICKS if low - 0.02 <= tick <= high + 0.02])
    axes.spines["left"].set_bounds(low, high)
    axes.grid(axis="y", color=style.FAINT, linewidth=0.8)
    room = _COLUMN - 0.15
    named = [f"{style.wrap_text(group.label, style.TEXT, room)}\n{_count_label(group)}" for group in groups]
    axes.set_xticks(range(len(groups)), named)
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel(unit, fontsize=style.TEXT, color=style.INK)


def _count_label(group: PairGroup) -> str:
    return f"{len(group.values)} pair" + ("s" if len(group.values) > 1 else "")


def _entries(groups: Sequence[PairGroup], interval: str, floor: bool) -> dict[str, Artist]:
    from matplotlib.lines import Line2D

    dot = Line2D([], [], linestyle="", marker="o", markersize=7, color=style.SOFT)
    thick = Line2D([], [], linewidth=3, color=style.SOFT)
    dotted = Line2D([], [], linewidth=1, linestyle=(0, (1, 2)), color=style.SOFT)
    known = style.legend_keys(upright=True)
    applying = {
        "one pair of models": (True, dot),
        "mean": (True, thick),
        interval: (any(group.low is not None for group in groups), known["interval"]),
        "no-op floor": (floor, dotted),
    }
    return {name: key for name, (applies, key) in applying.items() if applies}
