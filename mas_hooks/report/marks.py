"""Bars and the marks on them, lying or upright, and the legend that explains them: the same in every bar figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mas_hooks.report import style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CONTROL = "#bdbdbd"
_HATCHES = ("////", "....", "xxxx", "----")
_MARGIN = 0.3  # inches beside a legend


def control(index: int) -> dict[str, Any]:
    """How the bars of a control look: grey, with a hatch that tells it from the other controls."""
    hatch = _HATCHES[index % len(_HATCHES)]
    return {"facecolor": _CONTROL, "hatch": hatch, "edgecolor": "white", "linewidth": 0}


@dataclass(frozen=True)
class Marks:
    """Draws bars on one axes, at a place across them and a value along them; `fine` makes lines and dots thinner."""

    axes: Axes
    upright: bool = False
    fine: float = 1.0

    def bar(self, at: float, value: float, width: float, **look: Any) -> None:
        """A bar from zero to its value."""
        (self.axes.bar if self.upright else self.axes.barh)(at, value, width, **look)

    def interval(self, at: float, low: float, high: float) -> None:
        """A whisker; upright it has caps, as it would look like a minus sign under a turned number."""
        caps = {"marker": "_", "markersize": 6 * self.fine, "markeredgewidth": 1.4 * self.fine} if self.upright else {}
        look = {"color": style.INK, "linewidth": 1.4 * self.fine, "gid": "interval", **caps}
        self.axes.plot(*self._points((at, at), (low, high)), **look)

    def seed(self, at: float, value: float) -> None:
        """A dot."""
        look = {"color": "white", "markeredgecolor": style.INK, "markersize": 4.5 * self.fine, "gid": "seed"}
        self.axes.plot(*self._points((at,), (value,)), "o", markeredgewidth=self.fine, zorder=4, clip_on=False, **look)

    def across(self, at: float, value: float, half: float, gid: str) -> None:
        """A line across the bar, with a pale edge so that it shows on any colour; dashed unless it is the floor."""
        lines = self.axes.hlines if self.upright else self.axes.vlines
        dashes = "-" if gid == "floor" else (0, (2.6, 1.3))
        for colour, width, name, kind in (("white", 4, "halo", "-"), (style.INK, 2, gid, dashes)):
            line = width * self.fine
            lines(value, at - half, at + half, color=colour, linewidth=line, linestyle=kind, zorder=3, gid=name)

    def _points(self, across: tuple[float, ...], along: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
        return (across, along) if self.upright else (along, across)


def keys(*, upright: bool = False) -> dict[str, Artist]:
    """What stands for each mark in a legend: interval, floor, seed and reference."""
    from matplotlib.lines import Line2D

    thick = {"linestyle": "", "markersize": 11, "markeredgewidth": 2.4, "color": style.INK}
    whisker = {**thick, "marker": "|", "markeredgewidth": 1.4} if upright else {"linewidth": 1.4, "color": style.INK}
    return {
        "interval": Line2D([], [], **whisker),
        "floor": Line2D([], [], **{**thick, "marker": "_" if upright else "|"}),
        "seed": Line2D([], [], linestyle="", marker="o", color="white", markeredgecolor=style.INK),
        "reference": Line2D([], [], linewidth=1.6, linestyle=(0, (2.6, 1.3)), color=style.INK),
    }


def legend(figure: Figure, entries: Mapping[str, Artist]) -> None:
    """Explain marks below the figure, in as many columns as fit into its width; nothing where there are none."""
    columns = len(entries)
    while columns:
        look = {"ncols": columns, "frameon": False, "fontsize": style.TEXT}
        made = figure.legend(entries.values(), entries.keys(), loc="outside lower left", **look)
        if columns == 1 or made.get_window_extent().width <= figure.bbox.width - _MARGIN * figure.dpi:
            return
        made.remove()
        lines = -(-len(entries) // columns) + 1
        columns = min(columns - 1, -(-len(entries) // lines))
