"""What a reader can and cannot read of a figure, measured in pixels."""

import math
from itertools import combinations

from matplotlib.text import Text
from matplotlib.transforms import Bbox

from mas_hooks.report import style


def texts(figure):
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    return [
        (text, written(text, renderer))
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip()
    ]


def written(text, renderer):
    """The box of a text without the blank lines at its end, where the subtitle hangs."""
    box, lines = text.get_window_extent(renderer), text.get_text().split("\n")
    blank = len(lines) - len(text.get_text().rstrip("\n").split("\n"))
    return Bbox.from_extents(box.x0, box.y0 + box.height * blank / len(lines), box.x1, box.y1)


def marked(axes, gid):
    return [artist for artist in axes.get_children() if artist.get_gid() == gid]


def overlap(one, first, other, second):
    """By how many pixels two texts cover each other, in the direction in which they do so least."""
    turn = math.radians(one.get_rotation())
    if turn and one.get_rotation() == other.get_rotation():  # two names under one axis: how far apart are their lines
        height = one.get_fontsize() * style.DPI / 72
        return height - math.hypot(first.x1 - second.x1, first.y1 - second.y1) * math.sin(turn)
    return min(min(first.x1, second.x1) - max(first.x0, second.x0), min(first.y1, second.y1) - max(first.y0, second.y0))


def assert_readable(figure):
    """No text leaves the figure, and no two overlap by more than a hair."""
    shown = texts(figure)
    width, height = figure.canvas.get_width_height()
    for text, box in shown:
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert inside, f"{text.get_text()!r} is cut off at {box.extents} of {(width, height)}"
    for (one, first), (other, second) in combinations(shown, 2):
        assert overlap(one, first, other, second) < 1.5, f"{one.get_text()!r} overlaps {other.get_text()!r}"
