"""Validation IIA against training step: how soon the worst direction is aligned, from which start."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mas_hooks.core.errors import EmptyError
from mas_hooks.core.records import Record
from mas_hooks.report import style
from mas_hooks.report.data import fits, names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL, _HEIGHT, _COLUMNS, _NARROWEST = 4.6, 3.0, 3, 6.4  # inches
_GAP = 0.085  # least distance of two labels, as a share of the panel's height
_STARTS = ("random start", "Procrustes start")  # their colours stay the same in every panel and every run


@dataclass(frozen=True)
class _Line:
    """The rows of one fit, by seed and direction."""

    label: str
    rows: tuple[Record, ...]

    def directions(self) -> list[list[tuple[int, float]]]:
        """(step, IIA) of each seed and direction."""
        found: dict[tuple, list[tuple[int, float]]] = {}
        for row in self.rows:
            key = (row.seed, row.source, row.target, row.source_model, row.target_model)
            found.setdefault(key, []).append(_point(row))
        return [sorted(points) for points in found.values()]

    def worst(self) -> list[list[tuple[int, float]]]:
        """(step, IIA of the worst direction at that step) of each seed."""
        found: dict[int | None, dict[int, float]] = {}
        for row in self.rows:
            step, iia = _point(row)
            steps = found.setdefault(row.seed, {})
            steps[step] = min(iia, steps.get(step, iia))
        return [sorted(steps.items()) for steps in found.values()]

    def last(self) -> tuple[int, float]:
        """Where the longest of its worst-direction lines ends."""
        return max(points[-1] for points in self.worst())


def iia_curves(records: Iterable[Record]) -> Figure:
    """Draw a panel for each comparison, method and variable; in it a line for each start (and rank, task, seed).

    Raises EmptyError when there is no validation row with a step.
    """
    rows = fits.curve_rows(records)
    if not rows:
        raise EmptyError("the curve figure", "it needs validation rows with a step and an IIA")
    panels = _panels(rows)
    figure = _figure(len(panels))
    order = _order(line.label for lines in panels.values() for line in lines)
    for axes, (title, lines) in zip(figure.axes, panels.items(), strict=True):
        axes.set_title(title, fontsize=style.PANEL, color=style.INK, loc="left")
        _draw(axes, lines, order)
    _share(figure.axes)
    for axes, lines in zip(figure.axes, panels.values(), strict=True):
        _name_lines(axes, lines, order)
    return figure


def _point(row: Record) -> tuple[int, float]:
    return (row.step or 0, row.iia or 0.0)


def _panels(rows: list[Record]) -> dict[str, list[_Line]]:
    words = names.fit_details(rows)
    several = len({fits.comparison(row) for row in rows if row.method != "das"}) > 1
    gathered: dict[tuple[str, str], list[Record]] = {}
    for row in rows:
        title = f"{fits.comparison(row)}\n{names.fit_title(row)}" if several else names.fit_title(row)
        label = words[names.setting_words(row)] or (
            f"{names.start_title(row)} start" if row.init else "worst direction"
        )
        gathered.setdefault((title, label), []).append(row)
    panels: dict[str, list[_Line]] = {}
    for (title, label), members in gathered.items():
        panels.setdefault(title, []).append(_Line(label, tuple(members)))
    return panels


def _order(labels: Iterable[str]) -> list[str]:
    return list(dict.fromkeys((*_STARTS, *labels)))


def _figure(count: int) -> Figure:
    columns = min(count, 2 if count == 4 else _COLUMNS)
    lines = -(-count // columns)
    figure = style.make_canvas(
        max(_NARROWEST, columns * _PANEL),
        lines * _HEIGHT,
        "How soon swaps act as predicted in every direction",
        "Thick: the worst direction at each step. Thin: single directions. Dashed grey: the no-op floor, "
        "what the same pairs score without any swap.",
    )
    for index in range(count):
        axes = figure.add_subplot(lines, columns, index + 1)
        axes.set_xlabel("training step", fontsize=style.TEXT, color=style.INK)
        if index % columns == 0:
            axes.set_ylabel("validation IIA\n(share of pairs)", fontsize=style.TEXT, color=style.INK)
    return figure


def _draw(axes: Axes, lines: list[_Line], order: list[str]) -> None:
    style.quiet_axes(axes)
    for line in lines:
        colour, dashes = _look(line.label, order)
        for points in line.directions():
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=0.7, alpha=0.45, gid="direction")
        for points in line.worst():
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=2.2, linestyle=dashes, gid="worst")
            axes.plot(*points[-1], "o", color=colour, markersize=5, clip_on=False, gid="end")
    floor = _floor(lines)
    if floor is not None:
        axes.axhline(floor, color=style.SOFT, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1, gid="floor")


def _look(label: str, order: list[str]) -> tuple[str, style.Dashes]:
    index = order.index(label)
    return style.OKABE_ITO[index % len(style.OKABE_ITO)], style.LINES[index % len(style.LINES)]


def _floor(lines: list[_Line]) -> float | None:
    """The highest floor of all directions: what is above it is above each."""
    return max((row.floor for line in lines for row in line.rows if row.floor is not None), default=None)


def _share(panels: list[Axes]) -> None:
    """One scale for all panels, so that steps can be compared across them."""
    from matplotlib.ticker import MaxNLocator

    furthest = max(axes.get_xlim()[1] for axes in panels)
    for axes in panels:
        axes.set_xlim(0, furthest)
        axes.set_ylim(0, 1.02)
        axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        axes.spines["left"].set_bounds(0, 1)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _name_lines(axes: Axes, lines: list[_Line], order: list[str]) -> None:
    """Write each line's name at the right edge, at its last height or as near as the others leave room."""
    floor = _floor(lines)
    named = [(line.last()[1], f"{line.label} {line.last()[1]:.2f}", _look(line.label, order)[0]) for line in lines]
    named += [(floor, f"no-op floor {floor:.2f}", style.SOFT)] if floor is not None else []
    style.at_end(axes, named, _GAP)
    edge = axes.get_xlim()[1]
    for line in lines:
        step, iia = line.last()
        axes.plot([step, edge], [iia] * 2, color=_look(line.label, order)[0], linewidth=0.8, linestyle=(0, (1, 3)))
