"""The look all figures share: a canvas of their own, quiet axes, colours that colour-blind readers can tell apart."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 160
INK, SOFT, FAINT = "#222222", "#666666", "#e4e4e4"
# Okabe & Ito (2008), without black and yellow: black is text, and yellow vanishes on white.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
Dashes = str | tuple[int, tuple[float, ...]]
LINES: tuple[Dashes, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)), (0, (3, 1, 1, 1)))
TITLE, SUBTITLE, PANEL, TEXT, SMALL = 13, 10, 11, 9.5, 8.5
_FADED = 0.55  # what each round through a palette keeps of its colours
_LEFT, _LINE, _TITLE_CHARACTER, _SUBTITLE_CHARACTER = 0.12, 0.24, 0.115, 0.082  # inches


def make_canvas(width: float, height: float, title: str, subtitle: str, *, squares: bool = False) -> Figure:
    """An empty figure of so many inches, heading lines added to its height; it belongs to nobody's pyplot.

    `squares` closes the room that panels of a fixed aspect leave beside them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.text import Annotation

    heading = textwrap.wrap(title, int(width / _TITLE_CHARACTER), break_on_hyphens=False)
    explained = textwrap.wrap(subtitle, int(width / _SUBTITLE_CHARACTER), break_on_hyphens=False)
    lines = len(heading) + len(explained)
    layout = ConstrainedLayoutEngine(w_pad=_LEFT, h_pad=0.07, compress=squares)
    figure = Figure((width, height + lines * _LINE), dpi=DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    # The blank lines under the title keep room for the subtitle, which hangs on the title wherever layout puts that.
    top = figure.suptitle(
        "\n".join(heading) + "\n" * len(explained), x=_LEFT / width, ha="left", fontsize=TITLE, weight="bold", color=INK
    )
    below = Annotation("\n".join(explained), (0, 0), xycoords=top, va="bottom", fontsize=SUBTITLE, color=SOFT)
    below.set_in_layout(False)
    figure.add_artist(below)
    return figure


def quiet_axes(axes: Axes, keep: tuple[str, ...] = ("left", "bottom")) -> None:
    """Leave only the spines in `keep`, and make ticks small and dark."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in keep)
        spine.set_color(SOFT)
    axes.tick_params(labelsize=TEXT, color=SOFT, labelcolor=INK)
    axes.set_axisbelow(True)


def colour(index: int, palette: Sequence[str] = OKABE_ITO) -> str:
    """The colour of a thing by its number; beyond the palette its colours come again, each time paler."""
    return mix_white(palette[index % len(palette)], 1 - _FADED ** (index // len(palette)))


def mix_white(colour: str, white: float) -> str:
    """A colour with a share of white in it."""
    from matplotlib.colors import to_hex, to_rgb

    red, green, blue = (part + (1 - part) * white for part in to_rgb(colour))
    return to_hex((red, green, blue))


def ink_on(colour: Sequence[float]) -> str:
    """Black or white, whichever has the higher contrast on `colour` (WCAG 2 relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"


_CONTROL = "#bdbdbd"
_HATCHES = ("////", "....", "xxxx", "----")
_MARGIN = 0.3  # inches beside a legend


def control_look(index: int) -> dict[str, Any]:
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
        look = {"color": INK, "linewidth": 1.4 * self.fine, "gid": "interval", **caps}
        self.axes.plot(*self._points((at, at), (low, high)), **look)

    def seed(self, at: float, value: float) -> None:
        """A dot."""
        look = {"color": "white", "markeredgecolor": INK, "markersize": 4.5 * self.fine, "gid": "seed"}
        self.axes.plot(*self._points((at,), (value,)), "o", markeredgewidth=self.fine, zorder=4, clip_on=False, **look)

    def across(self, at: float, value: float, half: float, gid: str) -> None:
        """A line across the bar, with a pale edge so that it shows on any colour; dashed unless it is the floor."""
        lines = self.axes.hlines if self.upright else self.axes.vlines
        dashes = "-" if gid == "floor" else (0, (2.6, 1.3))
        for colour, width, name, kind in (("white", 4, "halo", "-"), (INK, 2, gid, dashes)):
            line = width * self.fine
            lines(value, at - half, at + half, color=colour, linewidth=line, linestyle=kind, zorder=3, gid=name)

    def _points(self, across: tuple[float, ...], along: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
        return (across, along) if self.upright else (along, across)


def legend_keys(*, upright: bool = False) -> dict[str, Artist]:
    """What stands for each mark in a legend: interval, floor, seed and reference."""
    from matplotlib.lines import Line2D

    thick = {"linestyle": "", "markersize": 11, "markeredgewidth": 2.4, "color": INK}
    whisker = {**thick, "marker": "|", "markeredgewidth": 1.4} if upright else {"linewidth": 1.4, "color": INK}
    return {
        "interval": Line2D([], [], **whisker),
        "floor": Line2D([], [], **{**thick, "marker": "_" if upright else "|"}),
        "seed": Line2D([], [], linestyle="", marker="o", color="white", markeredgecolor=INK),
        "reference": Line2D([], [], linewidth=1.6, linestyle=(0, (2.6, 1.3)), color=INK),
    }


def legend(figure: Figure, entries: Mapping[str, Artist]) -> None:
    """Explain marks below the figure, in as many columns as fit into its width; nothing where there are none."""
    columns = len(entries)
    while columns:
        look = {"ncols": columns, "frameon": False, "fontsize": TEXT}
        made = figure.legend(entries.values(), entries.keys(), loc="outside lower left", **look)
        if columns == 1 or made.get_window_extent().width <= figure.bbox.width - _MARGIN * figure.dpi:
            return
        made.remove()
        lines = -(-len(entries) // columns) + 1
        columns = min(columns - 1, -(-len(entries) // lines))


_LONG = 1.2  # inches of a word that may be broken at its hyphens


@lru_cache(maxsize=4096)
def inches(text: str, size: float) -> float:
    """How long one line of text is at `size` points, on a canvas of our resolution."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    pixels, _, _ = RendererAgg(1, 1, DPI).get_text_width_height_descent(text, FontProperties(size=size), False)
    return pixels / DPI


def longest_word(text: str, size: float) -> float:
    """The inches that a text needs when it is broken wherever it may be."""
    return max((inches(word, size) for word in _broken(text, size, 1)), default=0.0)


def wrap_text(text: str, size: float, room: float) -> str:
    """The text in as few lines as fit into `room` inches; a word longer than that stays whole."""
    for characters in range(len(text), 0, -1):
        lines = _broken(text, size, characters)
        if max((inches(line, size) for line in lines), default=0.0) <= room:
            return "\n".join(lines)
    return "\n".join(_broken(text, size, 1))


def _broken(text: str, size: float, characters: int) -> list[str]:
    """Lines of at most so many characters, broken at spaces, and at hyphens only where a word is long."""
    long = any(inches(word, size) > _LONG for word in text.split())
    return textwrap.wrap(text, characters, break_long_words=False, break_on_hyphens=long)


def at_end(axes: Axes, named: Iterable[tuple[float, str, str]], gap: float) -> None:
    """Write names (height, text, colour) at the right edge, each at its height or as near as the others leave room."""
    falling = sorted(named, reverse=True)
    for (_, text, colour), height in zip(falling, spread_apart([want for want, _, _ in falling], gap), strict=True):
        look = {"fontsize": TEXT, "color": colour, "va": "center", "gid": "label"}
        axes.text(1.02, height, text, transform=axes.get_yaxis_transform(), **look)


def spread_apart(wanted: list[float], gap: float) -> list[float]:
    """Heights in falling order, at least a gap apart, none below the axis unless there are too many."""
    placed: list[float] = []
    for want in wanted:
        placed.append(min(want, placed[-1] - gap) if placed else want)
    for index in range(len(placed) - 1, -1, -1):
        least = 0.02 + gap * (len(placed) - 1 - index)
        placed[index] = max(placed[index], least)
    return placed
