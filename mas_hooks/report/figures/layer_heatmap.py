"""A similarity of all layers of two models as a heat map: one panel a pair, layers by their share of the depth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mas_hooks.core.errors import EmptyError, NotFiniteError
from mas_hooks.core.records import Record
from mas_hooks.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

_CELL, _SIDE, _LARGEST = 0.42, 2.4, 3.4  # inches: a cell that has room for its number, a panel
_BESIDE, _ABOVE, _BAR, _WIDEST = 0.75, 0.95, 1.1, 13.6  # inches: what a panel needs around it, the colour bar
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class _Panel:
    """One pair of models, its layers in the order of their records."""

    models: tuple[str, str]
    control: str | None
    layers: tuple[tuple[str, ...], tuple[str, ...]]
    values: np.ndarray

    @property
    def deepest(self) -> int:
        return max(self.values.shape)


def layer_heatmaps(
    records: Iterable[Record], *, title: str, subtitle: str, unit: str = "CKA", low: float = 0.0, columns: int = 4
) -> Figure:
    """Draw one panel for each pair of models, layers of the one upwards and of the other to the right.

    records: those with `layer_a`, `layer_b` and a value, as `LayerGrid.records` gives them; several of one cell (seeds)
    are averaged. The layers of a model, in the order of the records, share its depth evenly, so that models of unequal
    depth can be compared; numbers stand in the cells where there is room. All panels share the colours, from `low`
    (lower where a value is) to 1. columns: the most panels side by side. Raises EmptyError without such records,
    NotFiniteError for values that are no numbers.
    """
    panels = _panels(records)
    if not panels:
        raise EmptyError("the layer heat map", "it needs records with layer_a, layer_b and a value")
    numbered = [_CELL * panel.deepest for panel in panels if _CELL * panel.deepest <= _LARGEST]
    side = max(_SIDE, *numbered, 0.0)
    across = max(1, min(columns, len(panels), int((_WIDEST - _BAR) / (side + _BESIDE))))
    lines = -(-len(panels) // across)
    width, height = across * (side + _BESIDE) + _BAR, lines * (side + _ABOVE)
    figure = style.make_canvas(width, height, title, subtitle, squares=True)
    colours = _colours(panels, low)
    for index, panel in enumerate(panels):
        _draw(figure.add_subplot(lines, across, index + 1), panel, colours, side)
    _colour_bar(figure, colours, unit, side * lines)
    return figure


def _panels(records: Iterable[Record]) -> list[_Panel]:
    gathered: dict[tuple[str, str, str | None], list[Record]] = {}
    for row in records:
        if row.layer_a is not None and row.layer_b is not None and row.value is not None:
            models = (row.source_model or "", row.target_model or "")
            gathered.setdefault((*models, row.control), []).append(row)
    return [_panel(*key, rows) for key, rows in gathered.items()]


def _panel(a: str, b: str, control: str | None, rows: Sequence[Record]) -> _Panel:
    layers = tuple(dict.fromkeys(str(row.layer_a) for row in rows)), tuple(dict.fromkeys(str(r.layer_b) for r in rows))
    found: dict[tuple[int, int], list[float]] = {}
    for row in rows:
        cell = layers[0].index(str(row.layer_a)), layers[1].index(str(row.layer_b))
        found.setdefault(cell, []).append(float(row.value or 0.0))
    unfit = sum(not math.isfinite(value) for own in found.values() for value in own)
    if unfit:
        raise NotFiniteError(f"the layer heat map of {a} × {b}", unfit)
    values = np.full((len(layers[0]), len(layers[1])), np.nan)
    for cell, own in found.items():
        values[cell] = sum(own) / len(own)
    return _Panel((a, b), control, layers, values)


def _colours(panels: Sequence[_Panel], low: float) -> ScalarMappable:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    lowest = min(float(np.nanmin(panel.values)) for panel in panels)
    return ScalarMappable(Normalize(min(low, math.floor(lowest * 10) / 10), 1), "cividis")


def _draw(axes: Axes, panel: _Panel, colours: ScalarMappable, side: float) -> None:
    low, high = colours.get_clim()
    look = {"cmap": colours.cmap, "vmin": low, "vmax": high, "interpolation": "nearest"}
    axes.imshow(panel.values, origin="lower", extent=(0, 1, 0, 1), **look)
    axes.set_facecolor(style.FAINT)
    one, other = panel.models
    named = f"{one} × {other}" if one != other else f"{one} with itself"
    told = f"{named}, {panel.control.replace('_', ' ')}" if panel.control else named
    axes.set_title(style.wrap_text(told, style.PANEL, side), fontsize=style.PANEL, color=style.INK, pad=8)
    style.quiet_axes(axes, keep=())
    axes.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    axes.set_yticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    shapes = panel.values.shape
    for write, model, count in ((axes.set_ylabel, one, shapes[0]), (axes.set_xlabel, other, shapes[1])):
        told = style.wrap_text(f"depth of {model} ({count} layers)", style.SMALL, 0.9 * side)
        write(told, fontsize=style.SMALL, color=style.INK)
    if side / panel.deepest >= _CELL:
        _write(axes, panel.values, colours)


def _write(axes: Axes, values: np.ndarray, colours: ScalarMappable) -> None:
    high, wide = values.shape
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            ink = style.ink_on(colours.to_rgba(np.array([value]))[0])
            at = ((column + 0.5) / wide, (row + 0.5) / high)
            text = f"{value:.2f}".replace("-", "−")
            axes.text(*at, text, fontsize=style.SMALL, color=ink, ha="center", va="center", gid="value")


def _colour_bar(figure: Figure, colours: ScalarMappable, unit: str, high: float) -> None:
    bar = figure.colorbar(colours, ax=figure.axes, shrink=0.9, aspect=9 * high, pad=0.02)
    bar.set_label(unit, fontsize=style.TEXT, color=style.INK)
    bar.ax.tick_params(labelsize=style.TEXT, labelcolor=style.INK)
