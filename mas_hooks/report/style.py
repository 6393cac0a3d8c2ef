"""The look that all figures share: canvas, colours, texts, and the marks that several figures draw."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

DPI = 160
INK, SOFT, FAINT = "#222222", "#666666", "#e4e4e4"
TITLE, SUBTITLE, PANEL, TEXT, SMALL = 13, 10, 11, 9.5, 8.5  # points
Dashes = str | tuple[int, tuple[float, ...]]
LINES: tuple[Dashes, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)), (0, (3, 1, 1, 1)))

_LEFT, _LINE, _TITLE_CHARACTER, _SUBTITLE_CHARACTER = 0.12, 0.24, 0.115, 0.082  # inches
_MARGIN = 0.3  # inches beside a legend
_LONG = 1.2  # inches of a word that may be broken at its hyphens
_COLOURS = (0, 3, 2, 4, 9, 1)  # of seaborn's ten; its yellow and its rose vanish on white, its grey is the controls'
_CONTROL, _HATCHES = "#bdbdbd", ("////", "....", "xxxx", "----")
_FADED = 0.55  # what each round through the palette keeps of its colours


# The canvas


def make_canvas(width: float, height: float, title: str, subtitle: str, *, squares: bool = False) -> Figure:
    """Make an empty figure with a heading; it belongs to nobody's pyplot.

    Args:
        width: Inches.
        height: Inches below the heading, whose lines add to it.
        title: The heading, broken into lines where it is long.
        subtitle: What stands under it, in a softer ink.
        squares: Close the room that panels of a fixed aspect leave beside them.

    Returns:
        The figure, without axes.
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
    import seaborn

    seaborn.despine(ax=axes, **{side: side not in keep for side in axes.spines})
    for spine in axes.spines.values():
        spine.set_color(SOFT)
    axes.tick_params(labelsize=TEXT, color=SOFT, labelcolor=INK)
    axes.set_axisbelow(True)


# Colours


@cache
def palette() -> tuple[str, ...]:
    """Six colours that colour-blind readers can tell apart."""
    import seaborn

    colours = seaborn.color_palette("colorblind").as_hex()
    return tuple(colours[index] for index in _COLOURS)


def pick_colour(index: int, *, backwards: bool = False) -> str:
    """The colour of a thing by its number, from either end of the palette; beyond it the colours return, paler."""
    colours = palette()[::-1] if backwards else palette()
    return mix_white(colours[index % len(colours)], 1 - _FADED ** (index // len(colours)))


def mix_white(colour: str, white: float) -> str:
    """A colour with a share of white in it."""
    from matplotlib.colors import to_hex
    from seaborn import blend_palette

    return to_hex(blend_palette([colour, "white"], as_cmap=True)(white))


def choose_ink(colour: Sequence[float]) -> str:
    """Black or white, whichever has the higher contrast on `colour` (WCAG 2 relative luminance).

    seaborn keeps white until far lighter colours, where black would have twice the contrast.
    """
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"


def control_look(index: int) -> dict[str, Any]:
    """The look of a control's bars: grey, with a hatch that tells it from the other controls."""
    hatch = _HATCHES[index % len(_HATCHES)]
    return {"facecolor": _CONTROL, "hatch": hatch, "edgecolor": "white", "linewidth": 0}


# Texts


@lru_cache(maxsize=4096)
def measure_text(text: str, size: float) -> float:
    """The inches that one line of text takes at `size` points, on a canvas of our resolution."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    pixels, _, _ = RendererAgg(1, 1, DPI).get_text_width_height_descent(text, FontProperties(size=size), False)
    return pixels / DPI


def measure_longest_word(text: str, size: float) -> float:
    """The inches that a text takes when it is broken wherever it may be."""
    return max((measure_text(word, size) for word in _break_lines(text, size, 1)), default=0.0)


def wrap_text(text: str, size: float, room: float) -> str:
    """Break a text into as few lines as fit into some inches; a word longer than that stays whole.

    Args:
        text: One line.
        size: Points.
        room: Inches.

    Returns:
        The text with line breaks in it.
    """
    for characters in range(len(text), 0, -1):
        lines = _break_lines(text, size, characters)
        if max((measure_text(line, size) for line in lines), default=0.0) <= room:
            return "\n".join(lines)
    return "\n".join(_break_lines(text, size, 1))


def _break_lines(text: str, size: float, characters: int) -> list[str]:
    """Lines of at most so many characters, broken at spaces, and at hyphens only where a word is long."""
    long = any(measure_text(word, size) > _LONG for word in text.split())
    return textwrap.wrap(text, characters, break_long_words=False, break_on_hyphens=long)


def write_at_end(axes: Axes, named: Iterable[tuple[float, str, str]], gap: float) -> None:
    """Write names at the right edge, each at its height or as near as the others leave room.

    Args:
        axes: Where to write.
        named: The height, the text and the colour of each name.
        gap: The least distance of two names, as a share of the axes' height.
    """
    falling = sorted(named, reverse=True)
    for (_, text, ink), height in zip(falling, spread_apart([want for want, _, _ in falling], gap), strict=True):
        look = {"fontsize": TEXT, "color": ink, "va": "center", "gid": "label"}
        axes.text(1.02, height, text, transform=axes.get_yaxis_transform(), **look)


def spread_apart(wanted: list[float], gap: float) -> list[float]:
    """Move heights, given in falling order, at least a gap apart; none below the axis unless there are too many."""
    placed: list[float] = []
    for want in wanted:
        placed.append(min(want, placed[-1] - gap) if placed else want)
    for index in range(len(placed) - 1, -1, -1):
        least = 0.02 + gap * (len(placed) - 1 - index)
        placed[index] = max(placed[index], least)
    return placed


# Marks and their legend


@dataclass(frozen=True)
class Marks:
    """A pencil for bars and what lies on them: each mark has a place across the axes and a value along them.

    Drawn with matplotlib alone: seaborn's bars and error bars come from raw samples, ours from finished records.

    Args:
        axes: Where to draw.
        upright: Bars rise instead of running to the right.
        fine: A factor on the width of lines and dots.
    """

    axes: Axes
    upright: bool = False
    fine: float = 1.0

    def bar(self, at: float, value: float, width: float, **look: Any) -> None:
        """Draw a bar from zero to its value.

        Args:
            at: The place of its middle.
            value: Its length.
            width: How broad it is.
            look: Colours and hatch, as matplotlib names them.
        """
        (self.axes.bar if self.upright else self.axes.barh)(at, value, width, **look)

    def interval(self, at: float, low: float, high: float) -> None:
        """Draw a whisker; upright it has caps, as it would look like a minus sign under a turned number.

        Args:
            at: Its place.
            low: Where it begins.
            high: Where it ends.
        """
        caps = {"marker": "_", "markersize": 6 * self.fine, "markeredgewidth": 1.4 * self.fine} if self.upright else {}
        look = {"color": INK, "linewidth": 1.4 * self.fine, "gid": "interval", **caps}
        self.axes.plot(*self._points((at, at), (low, high)), **look)

    def seed(self, at: float, value: float) -> None:
        """Draw the dot of one seed."""
        look = {"color": "white", "markeredgecolor": INK, "markersize": 4.5 * self.fine, "gid": "seed"}
        self.axes.plot(*self._points((at,), (value,)), "o", markeredgewidth=self.fine, zorder=4, clip_on=False, **look)

    def across(self, at: float, value: float, half: float, gid: str) -> None:
        """Draw a line across a bar, with a pale edge so that it shows on any colour; dashed unless it is the floor.

        Args:
            at: The place of the bar.
            value: The height of the line.
            half: Half of its length.
            gid: What the line is, `floor` or `reference`.
        """
        lines = self.axes.hlines if self.upright else self.axes.vlines
        dashes = "-" if gid == "floor" else (0, (2.6, 1.3))
        for ink, width, name, kind in (("white", 4, "halo", "-"), (INK, 2, gid, dashes)):
            line = width * self.fine
            lines(value, at - half, at + half, color=ink, linewidth=line, linestyle=kind, zorder=3, gid=name)

    def _points(self, across: tuple[float, ...], along: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
        return (across, along) if self.upright else (along, across)


def legend_keys(*, upright: bool = False) -> dict[str, Artist]:
    """What stands for each mark of `Marks` in a legend: interval, floor, seed and reference."""
    from matplotlib.lines import Line2D

    thick = {"linestyle": "", "markersize": 11, "markeredgewidth": 2.4, "color": INK}
    whisker = {**thick, "marker": "|", "markeredgewidth": 1.4} if upright else {"linewidth": 1.4, "color": INK}
    return {
        "interval": Line2D([], [], **whisker),
        "floor": Line2D([], [], **{**thick, "marker": "_" if upright else "|"}),
        "seed": Line2D([], [], linestyle="", marker="o", color="white", markeredgecolor=INK),
        "reference": Line2D([], [], linewidth=1.6, linestyle=(0, (2.6, 1.3)), color=INK),
    }


def add_legend(figure: Figure, entries: Mapping[str, Artist]) -> None:
    """Explain marks below the figure, in as many columns as fit into its width; nothing where there are none."""
    columns = len(entries)
    while columns:
        look = {"ncols": columns, "frameon": False, "fontsize": TEXT}
        shown = figure.legend(entries.values(), entries.keys(), loc="outside lower left", **look)
        if columns == 1 or shown.get_window_extent().width <= figure.bbox.width - _MARGIN * figure.dpi:
            return
        shown.remove()
        lines = -(-len(entries) // columns) + 1
        columns = min(columns - 1, -(-len(entries) // lines))


# Heat maps


def draw_matrix(
    axes: Axes, values: np.ndarray, written: np.ndarray | None, *, low: float, high: float, **look: Any
) -> QuadMesh:
    """Draw numbers as coloured cells, the first row on top; what is NaN stays faint.

    Args:
        axes: An empty axes.
        values: (row, column) floats.
        written: (row, column) texts to write into the cells, or None.
        low: The number of the darkest colour.
        high: The number of the brightest colour.
        look: How texts look, as matplotlib names it.

    Returns:
        The cells; a colour bar of several panels needs those of one.
    """
    import numpy as np
    import seaborn
    from matplotlib.backend_bases import FigureCanvasBase

    figure, canvas = axes.figure, axes.figure.canvas
    FigureCanvasBase(figure)  # draws nothing: seaborn would render the whole figure once more for each of its panels
    plain = {"cbar": False, "xticklabels": False, "yticklabels": False}
    texts = {"annot": written, "fmt": "", "annot_kws": look | {"gid": "value"}}
    seaborn.heatmap(values, ax=axes, vmin=low, vmax=high, cmap="cividis", **texts, **plain)
    figure.set_canvas(canvas)
    axes.set_facecolor(FAINT)
    (cells,) = axes.collections
    for text, colour in zip(axes.texts, cells.to_rgba(values[~np.isnan(values)]), strict=False):
        text.set_color(choose_ink(colour))
    return cells
