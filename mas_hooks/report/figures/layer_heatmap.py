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
    from matplotlib.collections import QuadMesh
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
    lowest = _find_lowest(panels, low)
    cells = [
        _draw(figure.add_subplot(lines, across, index + 1), panel, lowest, side) for index, panel in enumerate(panels)
    ]
    _add_colour_bar(figure, cells[0], unit, side * lines)
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
    cells: dict[tuple[int, int], list[float]] = {}
    for row in rows:
        cell = layers[0].index(str(row.layer_a)), layers[1].index(str(row.layer_b))
        cells.setdefault(cell, []).append(float(row.value or 0.0))
    unfit = sum(not math.isfinite(value) for seeds in cells.values() for value in seeds)
    if unfit:
        raise NotFiniteError(f"the layer heat map of {a} × {b}", unfit)
    values = np.full((len(layers[0]), len(layers[1])), np.nan)
    for cell, seeds in cells.items():
        values[cell] = sum(seeds) / len(seeds)
    return _Panel((a, b), control, layers, values)


def _find_lowest(panels: Sequence[_Panel], low: float) -> float:
    """The number of the darkest colour: `low`, or a round number under the lowest value."""
    lowest = min(float(np.nanmin(panel.values)) for panel in panels)
    return min(low, math.floor(lowest * 10) / 10)


def _draw(axes: Axes, panel: _Panel, low: float, side: float) -> QuadMesh:
    values, written = panel.values, None
    if side / panel.deepest >= _CELL:
        written = np.array([[f"{value:.2f}".replace("-", "−") for value in row] for row in values])
    cells = style.draw_matrix(axes, values, written, low=low, high=1, fontsize=style.SMALL)
    axes.invert_yaxis()  # first layers at the bottom
    axes.set_box_aspect(1)
    first, second = panel.models
    named = f"{first} × {second}" if first != second else f"{first} with itself"
    title = f"{named}, {panel.control.replace('_', ' ')}" if panel.control else named
    axes.set_title(style.wrap_text(title, style.PANEL, side), fontsize=style.PANEL, color=style.INK, pad=8)
    style.quiet_axes(axes, keep=())
    high, wide = values.shape
    axes.set_xticks([tick * wide for tick in _TICKS], [f"{tick:g}" for tick in _TICKS])
    axes.set_yticks([tick * high for tick in _TICKS], [f"{tick:g}" for tick in _TICKS])
    for write, model, count in ((axes.set_ylabel, first, high), (axes.set_xlabel, second, wide)):
        name = style.wrap_text(f"depth of {model} ({count} layers)", style.SMALL, 0.9 * side)
        write(name, fontsize=style.SMALL, color=style.INK)
    return cells


def _add_colour_bar(figure: Figure, cells: QuadMesh, unit: str, high: float) -> None:
    bar = figure.colorbar(cells, ax=figure.axes, shrink=0.9, aspect=9 * high, pad=0.02)
    bar.set_label(unit, fontsize=style.TEXT, color=style.INK)
    bar.ax.tick_params(labelsize=style.TEXT, labelcolor=style.INK)
