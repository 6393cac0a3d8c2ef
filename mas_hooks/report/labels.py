"""Names that must neither touch nor be cut off: how wide they are, where they break, how far apart they stand."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from mas_hooks.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LONG = 1.2  # inches of a word that may be broken at its hyphens


@lru_cache(maxsize=4096)
def inches(text: str, size: float) -> float:
    """How long one line of text is at `size` points, on a canvas of our resolution."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    pixels, _, _ = RendererAgg(1, 1, style.DPI).get_text_width_height_descent(text, FontProperties(size=size), False)
    return pixels / style.DPI


def longest_word(text: str, size: float) -> float:
    """The inches that a text needs when it is broken wherever it may be."""
    return max((inches(word, size) for word in _broken(text, size, 1)), default=0.0)


def wrapped(text: str, size: float, room: float) -> str:
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
    for (_, text, colour), height in zip(falling, apart([want for want, _, _ in falling], gap), strict=True):
        look = {"fontsize": style.TEXT, "color": colour, "va": "center", "gid": "label"}
        axes.text(1.02, height, text, transform=axes.get_yaxis_transform(), **look)


def apart(wanted: list[float], gap: float) -> list[float]:
    """Heights in falling order, at least a gap apart, none below the axis unless there are too many."""
    placed: list[float] = []
    for want in wanted:
        placed.append(min(want, placed[-1] - gap) if placed else want)
    for index in range(len(placed) - 1, -1, -1):
        least = 0.02 + gap * (len(placed) - 1 - index)
        placed[index] = max(placed[index], least)
    return placed
