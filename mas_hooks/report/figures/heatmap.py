"""IIA of every direction as a source × target matrix, one panel for each method and variable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mas_hooks.core.errors import EmptyError
from mas_hooks.core.records import Record
from mas_hooks.report import style
from mas_hooks.report.data.matrices import Matrix, direction_matrices, iia_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

TOKENS = "Token accuracy"
_CELL, _LARGEST_CELL, _GAP, _CHARACTER = 0.95, 1.5, 0.35, 0.085  # inches
_MARGIN, _PANEL_TEXT, _NARROWEST, _WIDEST = 1.9, 0.9, 6.4, 12.0  # inches


def direction_heatmap(records: Iterable[Record], *, tokens: bool = False) -> Figure:
    """Draw the final test rows that are no controls; a cell of several rows (seeds, fits) shows their mean and range.

    tokens: the share of right tokens in place of the IIA. Models that no direction links stand in panels of their own.
    Raises EmptyError when there is no such row.
    """
    if tokens:
        records = [replace(row, iia=row.token_accuracy, iia_low=None, iia_high=None) for row in records]
    panels, score = direction_matrices(records), TOKENS if tokens else "Interchange intervention accuracy (IIA)"
    if not panels:
        raise EmptyError("the direction heat map", "it needs test rows with an IIA that are no controls")
    figure, columns = _figure(panels, score)
    alike = len({panel.places for panel in panels}) == 1
    cells = [_draw(axes, panel) for axes, panel in zip(figure.axes, panels, strict=True)]
    for index, (axes, panel) in enumerate(zip(figure.axes, panels, strict=True)):
        _name_axes(axes, panel.places, models=not alike or index % columns == 0, label=index % columns == 0)
    _add_colour_bar(figure, cells[0], "tokens" if tokens else "IIA")
    return figure


def _figure(panels: list[Matrix], score: str) -> tuple[Figure, int]:
    count, side = len(panels), max(len(panel.places) for panel in panels)
    places = [place for panel in panels for place in panel.places]
    labels = _CHARACTER * max(map(len, places))
    gap = _GAP if len({panel.places for panel in panels}) == 1 else _GAP + labels
    columns = min(count, max(1, int(_WIDEST / (side * _CELL + gap))))
    lines = -(-count // columns)
    room = _NARROWEST - labels - _MARGIN - columns * gap
    cell = min(_LARGEST_CELL, max(_CELL, room / (columns * side)))
    figure = style.make_canvas(
        max(_NARROWEST, columns * (side * cell + gap) + labels + _MARGIN),
        lines * (side * cell + _GAP + _PANEL_TEXT + (labels * 0.6 if _turns_labels(places) else 0)),
        "How often a swapped state moves behaviour as predicted",
        _explain(panels, score),
        squares=True,
    )
    for index in range(count):
        figure.add_subplot(lines, columns, index + 1)
    return figure, columns


def _explain(panels: list[Matrix], score: str) -> str:
    counts = {len(rows) > 1 for panel in panels for rows in panel.cells.values()}
    below = {
        frozenset({False}): "" if score == TOKENS else ", 95% interval below",
        frozenset({True}): ", mean over seeds or fits, range below",
        frozenset({True, False}): ", several seeds or fits: mean and range below"
        if score == TOKENS
        else ", 95% interval below (several seeds or fits: mean and range)",
    }[frozenset(counts)]
    parts = [f"{score} of each direction on held-out pairs{below}."]
    if any(panel.crosses for panel in panels):
        parts.append("Framed: the worst direction of a panel.")
    if not all(panel.full for panel in panels):
        parts.append("Grey: not measured.")
    return " ".join(parts)


def _turns_labels(places: Sequence[str]) -> bool:
    return max(map(len, places)) * _CHARACTER > 0.9 * _CELL


def _draw(axes: Axes, panel: Matrix) -> QuadMesh:
    values = panel.values()
    written = np.array([[f"{value:.2f}" for value in row] for row in values])
    spreads = {ends: _spread(rows) for ends, rows in panel.cells.items()}
    cells = style.draw_matrix(axes, values, written, low=0, high=1, fontsize=style.TITLE, va="bottom")
    axes.set_aspect("equal")
    axes.set_title(panel.title, fontsize=style.PANEL, color=style.INK)
    for (row, column), text in zip(np.argwhere(~np.isnan(values)), list(axes.texts), strict=True):
        # seaborn writes one size into a cell: the interval below the number is ours
        below = spreads[panel.places[row], panel.places[column]]
        look = {"fontsize": style.SMALL, "color": text.get_color(), "ha": "center", "va": "top"}
        axes.annotate(below, text.get_position(), (0, -4), textcoords="offset points", **look)
    if panel.crosses:
        _frame(axes, *np.unravel_index(np.nanargmin(values), values.shape))
    return cells


def _spread(rows: list[Record]) -> str:
    if len(rows) > 1:
        return f"{min(iia_values(rows)):.2f}–{max(iia_values(rows)):.2f}"
    low, high = rows[0].iia_low, rows[0].iia_high
    return "" if low is None or high is None else f"{low:.2f}–{high:.2f}"


def _frame(axes: Axes, row: np.intp, column: np.intp) -> None:
    from matplotlib.patches import Rectangle

    corner = (float(column) + 0.04, float(row) + 0.04)
    axes.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, edgecolor=style.pick_colour(1), linewidth=2))


def _name_axes(axes: Axes, places: Sequence[str], *, models: bool, label: bool) -> None:
    style.quiet_axes(axes, keep=())
    ticks = [place + 0.5 for place in range(len(places))]  # the middles of the cells
    axes.set_xticks(
        ticks, places, rotation=35 if _turns_labels(places) else 0, ha="right" if _turns_labels(places) else "center"
    )
    axes.set_yticks(ticks, places if models else [""] * len(places))
    axes.tick_params(length=0)
    axes.set_xlabel("target model\n(behaviour read)", fontsize=style.TEXT, color=style.INK)
    if label:
        axes.set_ylabel("source model\n(state given)", fontsize=style.TEXT, color=style.INK)


def _add_colour_bar(figure: Figure, cells: QuadMesh, score: str) -> None:
    bar = figure.colorbar(cells, ax=figure.axes, shrink=0.9, aspect=18, pad=0.02)
    unit = {"IIA": "IIA (share of test pairs)", "tokens": "token accuracy (share of tokens)"}[score]
    bar.set_label(unit, fontsize=style.TEXT, color=style.INK)
    bar.ax.tick_params(labelsize=style.TEXT, labelcolor=style.INK)
