"""The look all figures share: a canvas of their own, quiet axes, colours that colour-blind readers can tell apart."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def canvas(width: float, height: float, title: str, subtitle: str, *, squares: bool = False) -> Figure:
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


def quiet(axes: Axes, keep: tuple[str, ...] = ("left", "bottom")) -> None:
    """Leave only the spines in `keep`, and make ticks small and dark."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in keep)
        spine.set_color(SOFT)
    axes.tick_params(labelsize=TEXT, color=SOFT, labelcolor=INK)
    axes.set_axisbelow(True)


def colour(index: int, palette: Sequence[str] = OKABE_ITO) -> str:
    """The colour of a thing by its number; beyond the palette its colours come again, each time paler."""
    return mixed(palette[index % len(palette)], 1 - _FADED ** (index // len(palette)))


def mixed(colour: str, white: float) -> str:
    """A colour with a share of white in it."""
    from matplotlib.colors import to_hex, to_rgb

    red, green, blue = (part + (1 - part) * white for part in to_rgb(colour))
    return to_hex((red, green, blue))


def ink_on(colour: Sequence[float]) -> str:
    """Black or white, whichever has the higher contrast on `colour` (WCAG 2 relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"
