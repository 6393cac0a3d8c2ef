"""IIA of the worst direction beside RSA and CKA, as bars on one scale."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mas_hooks.core.errors import EmptyError
from mas_hooks.core.records import Record
from mas_hooks.report import style
from mas_hooks.report.data.panels import ModelBar, ModelPanel, model_panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW, _AROUND, _WIDTH, _CHARACTER = 0.27, 1.35, 3.9, 0.075  # inches
_BAND = "#f4f4f4"
_TITLE = "Does a swap move behaviour, and do activations look alike?"
_PER_LINE = 44  # characters of a comparison's name


def iia_bars(records: Iterable[Record]) -> Figure:
    """Draw a bar for the worst direction of each fit, and one for each RSA or CKA, grouped by comparison.

    With one seed the whisker is the record's interval. Of several seeds each is a dot with its own whisker, and the
    bar is their mean. Raises EmptyError when there is neither an IIA nor a similarity.

    Example:
        >>> from mas_hooks import Record
        >>> from mas_hooks.report import iia_bars
        >>> ends = {"source": 0, "target": 1, "source_model": "gru", "target_model": "lstm"}
        >>> figure = iia_bars([Record(method="mas", variable="count", split="test", iia=0.9, **ends)])
        >>> figure.axes[0].get_xlabel()
        'IIA of the worst direction (share of test pairs)'
    """
    shown = model_panels(records)
    if not shown:
        raise EmptyError("the bar figure", "it needs test rows with an IIA, or RSA or CKA rows")
    rows = _rows(shown)
    figure = _figure(shown, rows)
    for axes, panel in zip(figure.axes, shown, strict=True):
        _draw(axes, panel, rows)
        _finish(axes, panel, rows)
        _label(axes, panel, rows, named=panel is shown[0])
        if len(shown) > 1:
            axes.set_title(panel.title, fontsize=style.PANEL, color=style.INK, loc="left")
    _legend(figure, shown)
    return figure


def _rows(shown: list[ModelPanel]) -> dict[str, range]:
    """The rows of each comparison, counted from the top: those of its name, then one for each bar."""
    rows: dict[str, range] = {}
    for comparison in dict.fromkeys(bar.comparison for panel in shown for bar in panel.bars):
        start = max((block.stop for block in rows.values()), default=0)
        bars = max(len(panel.of(comparison)) for panel in shown)
        rows[comparison] = range(start, start + len(_heading(comparison)) + bars)
    return rows


def _heading(comparison: str) -> list[str]:
    return textwrap.wrap(comparison, _PER_LINE)


def _place_rows(panel: ModelPanel, rows: dict[str, range]) -> dict[int, ModelBar]:
    return {
        y: bar
        for comparison, block in rows.items()
        for y, bar in zip(block[len(_heading(comparison)) :], panel.of(comparison), strict=False)
    }


def _figure(shown: list[ModelPanel], rows: dict[str, range]) -> Figure:
    labels = [max(len(bar.label) for bar in panel.bars) for panel in shown]
    figure = style.make_canvas(
        max(6.4, _WIDTH * len(shown) + _CHARACTER * sum(labels)),
        _ROW * max(block.stop for block in rows.values()) + _AROUND,
        _TITLE if len(shown) > 1 else shown[0].alone,
        " ".join(panel.explained for panel in shown),
    )
    figure.subplots(1, len(shown))
    return figure


def _draw(axes: Axes, panel: ModelPanel, rows: dict[str, range]) -> None:
    labels = list(dict.fromkeys(bar.label for bar in panel.bars if not bar.control))
    controls = list(dict.fromkeys(bar.control for bar in panel.bars if bar.control))
    pencil = style.Marks(axes)
    for y, bar in _place_rows(panel, rows).items():
        if bar.control:
            look = style.control_look(controls.index(bar.control))
        else:
            look = {"color": style.pick_colour(labels.index(bar.label), backwards=not panel.causal)}
        pencil.bar(y, bar.value, 0.76, **look)
        _mark(pencil, y, bar)


def _mark(pencil: style.Marks, y: int, bar: ModelBar) -> None:
    for index, dot in enumerate(bar.dots):
        height = y + 0.5 * ((index + 0.5) / len(bar.dots) - 0.5)
        if dot.low is not None and dot.high is not None:
            pencil.interval(height, dot.low, dot.high)
        if len(bar.dots) > 1:
            pencil.seed(height, dot.value)
    if bar.floor is not None:
        pencil.across(y, bar.floor, 0.38, "floor")
    pencil.axes.text(bar.reach[1] + 0.02, y, f"{bar.value:.2f}", fontsize=style.TEXT, color=style.INK, va="center")


def _finish(axes: Axes, panel: ModelPanel, rows: dict[str, range]) -> None:
    style.quiet_axes(axes, keep=("bottom",))
    lowest = min(bar.reach[0] for bar in panel.bars)
    axes.set_xticks([tick for tick in (-1, -0.8, -0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6, 0.8, 1) if tick >= lowest])
    axes.set_xlim(lowest, 1.14)
    axes.spines["bottom"].set_bounds(lowest, 1)
    axes.set_ylim(max(block.stop for block in rows.values()) - 0.4, -0.6)
    axes.set_xlabel(panel.unit, fontsize=style.TEXT, color=style.INK, x=(0.5 - lowest) / (1.14 - lowest))
    for block in list(rows.values())[1::2]:
        axes.axhspan(block.start - 0.5, block.stop - 0.5, color=_BAND, zorder=0, linewidth=0)


def _label(axes: Axes, panel: ModelPanel, rows: dict[str, range], *, named: bool) -> None:
    bars = _place_rows(panel, rows)
    axes.set_yticks(list(bars), [bar.label for bar in bars.values()])
    axes.tick_params(axis="y", length=0)
    for comparison, block in rows.items() if named else ():
        for y, line in zip(block, _heading(comparison), strict=False):
            axes.text(0, y, line, fontsize=style.TEXT, fontweight="bold", color=style.INK, va="center")


def _legend(figure: Figure, shown: list[ModelPanel]) -> None:
    from matplotlib.patches import Patch

    bars, known = [bar for panel in shown for bar in panel.bars], style.legend_keys()
    entries = {
        " / ".join(panel.whisker for panel in shown): (
            any(dot.low is not None for bar in bars for dot in bar.dots),
            known["interval"],
        ),
        "no-op floor": (any(bar.floor is not None for bar in bars), known["floor"]),
        "one seed (bar: mean)": (any(len(bar.dots) > 1 for bar in bars), known["seed"]),
        "control": (any(bar.control for bar in bars), Patch(**style.control_look(0))),
    }
    style.add_legend(figure, {name: key for name, (applies, key) in entries.items() if applies})
