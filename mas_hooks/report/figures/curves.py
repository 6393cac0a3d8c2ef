"""Validation IIA against training step: how soon the worst direction is aligned, from which start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mas_hooks.core.errors import EmptyError
from mas_hooks.core.records import Record
from mas_hooks.report import style
from mas_hooks.report.data import fits, names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

_PANEL, _HEIGHT, _COLUMNS, _NARROWEST = 4.6, 3.0, 3, 6.4  # inches
_GAP = 0.085  # least distance of two labels, as a share of the panel's height
_STARTS = ("random start", "Procrustes start")  # their colours stay the same in every panel and every run
_FLOOR = (0, (4, 3))


def iia_curves(records: Iterable[Record]) -> Figure:
    """Draw a panel for each comparison, method and variable; in it a line for each start (and rank, task, seed).

    Raises EmptyError when there is no validation row with a step.

    Example:
        >>> from mas_hooks import Record
        >>> from mas_hooks.report import iia_curves
        >>> ends = {"source": 0, "target": 1, "source_model": "gru", "target_model": "lstm"}
        >>> steps = [Record(method="mas", split="valid", step=step, iia=step / 40, **ends) for step in (0, 10, 20)]
        >>> iia_curves(steps).axes[0].get_title(loc="left")
        'MAS'
    """
    rows = fits.curve_rows(records)
    if not rows:
        raise EmptyError("the curve figure", "it needs validation rows with a step and an IIA")
    table = _tabulate(rows)
    looks = _looks(table["label"])
    panels = dict(iter(table.groupby("panel", sort=False)))
    figure, columns = _figure(len(panels))
    for index, (axes, (title, panel)) in enumerate(zip(figure.axes, panels.items(), strict=True)):
        _draw(axes, panel, looks)
        axes.set_title(str(title), fontsize=style.PANEL, color=style.INK, loc="left")
        axes.set_xlabel("training step", fontsize=style.TEXT, color=style.INK)
        unit = "" if index % columns else "validation IIA\n(share of pairs)"
        axes.set_ylabel(unit, fontsize=style.TEXT, color=style.INK)
    _share_scale(figure.axes)
    for axes, panel in zip(figure.axes, panels.values(), strict=True):
        _name_lines(axes, panel, looks)
    return figure


def _tabulate(rows: list[Record]) -> DataFrame:
    """A line for each row: its panel, the label of its line, its seed and direction, and its numbers."""
    from pandas import DataFrame

    words = names.fit_details(rows)
    several = len({fits.comparison(row) for row in rows if row.method != "das"}) > 1
    lines = []
    for row in rows:
        panel = f"{fits.comparison(row)}\n{names.fit_title(row)}" if several else names.fit_title(row)
        start = f"{names.start_title(row)} start" if row.init else "worst direction"
        label = words[names.setting_words(row)] or start
        direction = repr((row.seed, row.source, row.target, row.source_model, row.target_model))
        lines.append((panel, label, repr(row.seed), direction, row.step, row.iia, row.floor))
    return DataFrame(lines, columns=["panel", "label", "seed", "direction", "step", "iia", "floor"])


def _looks(labels: Iterable[str]) -> dict[str, tuple[str, style.Dashes]]:
    order = dict.fromkeys((*_STARTS, *labels))
    return {
        label: (style.pick_colour(index), style.LINES[index % len(style.LINES)]) for index, label in enumerate(order)
    }


def _figure(count: int) -> tuple[Figure, int]:
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
        figure.add_subplot(lines, columns, index + 1)
    return figure, columns


def _worst(panel: DataFrame) -> DataFrame:
    """(label, seed, step) → the IIA of the worst direction at that step."""
    return panel.groupby(["label", "seed", "step"], sort=False, as_index=False)["iia"].min()


def _draw(axes: Axes, panel: DataFrame, looks: dict[str, tuple[str, style.Dashes]]) -> None:
    import seaborn

    style.quiet_axes(axes)
    worst = _worst(panel)
    ends = worst.sort_values("step").groupby(["label", "seed"], sort=False).tail(1)
    palette = {label: colour for label, (colour, _) in looks.items()}
    dashes = {label: "" if kind == "-" else kind[1] for label, (_, kind) in looks.items()}
    shared = {"x": "step", "y": "iia", "hue": "label", "palette": palette, "legend": False, "ax": axes}
    lines = {**shared, "estimator": None}
    seaborn.lineplot(panel, units="direction", linewidth=0.7, alpha=0.45, gid="direction", **lines)
    seaborn.lineplot(worst, units="seed", style="label", dashes=dashes, linewidth=2.2, gid="worst", **lines)
    seaborn.scatterplot(ends, s=25, linewidth=0, clip_on=False, zorder=3, gid="end", **shared)
    floor = _floor(panel)
    if floor is not None:
        axes.axhline(floor, color=style.SOFT, linewidth=1.2, linestyle=_FLOOR, zorder=1, gid="floor")


def _floor(panel: DataFrame) -> float | None:
    """The highest floor of all directions: what is above it is above each."""
    floors = panel["floor"].dropna()
    return None if floors.empty else float(floors.max())


def _share_scale(panels: list[Axes]) -> None:
    """One scale for all panels, so that steps can be compared across them."""
    from matplotlib.ticker import MaxNLocator

    furthest = max(axes.get_xlim()[1] for axes in panels)
    for axes in panels:
        axes.set_xlim(0, furthest)
        axes.set_ylim(0, 1.02)
        axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        axes.spines["left"].set_bounds(0, 1)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _name_lines(axes: Axes, panel: DataFrame, looks: dict[str, tuple[str, style.Dashes]]) -> None:
    """Write each line's name at the right edge, at its last height or as near as the others leave room."""
    floor, edge = _floor(panel), axes.get_xlim()[1]
    worst = _worst(panel).sort_values(["step", "iia"])
    last = {label: (lines["step"].iloc[-1], lines["iia"].iloc[-1]) for label, lines in worst.groupby("label")}
    named = [(float(iia), f"{label} {iia:.2f}", looks[label][0]) for label, (_, iia) in last.items()]
    named += [(floor, f"no-op floor {floor:.2f}", style.SOFT)] if floor is not None else []
    style.write_at_end(axes, named, _GAP)
    for label, (step, iia) in last.items():
        axes.plot([step, edge], [iia] * 2, color=looks[label][0], linewidth=0.8, linestyle=(0, (1, 3)))
