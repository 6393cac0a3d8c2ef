"""Groups of upright bars side by side: IIA beside its controls, its bounds and correlational measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mas_hooks.core.errors import EmptyError, UnsupportedError
from mas_hooks.report import style
from mas_hooks.report.data import places
from mas_hooks.report.data.groups import GroupBar, GroupPanel

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_UNIT, _LINE, _MARGIN = 2.1, 0.17, 0.9  # inches: from 0 to 1, of a line of text, beside the panels
_BROAD, _PAD, _FINE = 0.8, 0.07, 0.75  # share of a slot, room around a value, lines of narrow bars
_PALE = 0.78  # the share of white in a hollow bar
_TICKS = (-1, -0.8, -0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6, 0.8, 1)

Reach = tuple[float, float]
Look = dict[str, Any]


def grouped_bars(
    panels: Sequence[GroupPanel],
    *,
    title: str,
    subtitle: str,
    left: str,
    right: str | None = None,
    reference: str = "itself (bound)",
    interval: str = "95% interval",
) -> Figure:
    """Draw panels of groups of bars on one scale from 0 to 1, at most four panels in a row.

    A dot is one seed, the bar their mean.

    Args:
        panels: What is drawn.
        title: The heading of the figure.
        subtitle: What stands under it.
        left: The name of the scale of filled bars.
        right: The name of the scale of hollow bars, by default `similarity`.
        reference: What the dashed lines are.
        interval: What the whiskers are.

    Returns:
        The figure.

    Raises:
        EmptyError: There are no panels, a panel has no groups, or a group has no bars.
        UnsupportedError: A control and a result have the same key.

    Example:
        >>> from mas_hooks.report import Group, GroupBar, GroupPanel, grouped_bars
        >>> bars = GroupBar("MAS", (0.9, 0.94), 0.88, 0.96, floor=0.1), GroupBar("untrained", (0.1,), 0.05, 0.2)
        >>> panel = GroupPanel("GRU × LSTM", (Group("hidden state", bars),))
        >>> figure = grouped_bars([panel], title="Swaps move the count", subtitle="Two seeds.", left="IIA")
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['hidden state']
    """
    _check_panels(panels)
    plan, bars = places.lay_out_bars(panels), [bar for panel in panels for bar in panel.bars]
    looks, reach = _looks(bars), _reach(bars, turned=plan.turned)
    figure, grid = _figure(plan, reach, title, subtitle)
    for line, row in zip(grid, plan.rows, strict=True):
        for axes, placed, width in zip(line, row, plan.widths, strict=False):
            _draw(axes, placed, plan, looks)
            _scale(axes, reach, placed, width)
        _name_left(line[0], left)
        if any(bar.axis == "right" for bar in bars):
            _name_right(line[len(row) - 1], right or "similarity", roomy=len(row) < len(line))
        for axes in line[len(row) :]:
            axes.remove()
    style.add_legend(figure, _entries(bars, looks, reference, interval))
    _resize(figure, plan, reach)
    return figure


def _check_panels(panels: Sequence[GroupPanel]) -> None:
    if not panels:
        raise EmptyError("the grouped bar figure", "give at least one panel")
    for panel in panels:
        if not panel.groups or not all(group.bars for group in panel.groups):
            raise EmptyError(f"the panel {panel.title!r}", "give it groups, and every group bars")
    bars = [bar for panel in panels for bar in panel.bars]
    controls, results = ({bar.name for bar in bars if bar.control is control} for control in (True, False))
    for name in sorted(controls & results):
        raise UnsupportedError(f"the key {name!r} for both a control and a result", "give each a key of its own")


def _looks(bars: Sequence[GroupBar]) -> dict[str, Look]:
    """One look for each key: colours from the front of the palette for the left axis, from its back for the right."""
    looks: dict[str, Look] = {}
    for axis in ("left", "right"):
        names = dict.fromkeys(bar.name for bar in bars if bar.axis == axis and not bar.control)
        for index, name in enumerate(name for name in names if name not in looks):
            colour = style.pick_colour(index, backwards=axis == "right")
            looks[name] = {"facecolor": colour, "edgecolor": colour, "linewidth": 0}
    for index, name in enumerate(dict.fromkeys(bar.name for bar in bars if bar.control)):
        looks[name] = style.control_look(index)
    return looks


def _look(bar: GroupBar, looks: dict[str, Look]) -> Look:
    """The look of its key; a bar of the right axis keeps only the outline of it."""
    look = looks[bar.name]
    if bar.axis == "left":
        return look
    inside = "white" if bar.control else style.mix_white(look["facecolor"], _PALE)
    return look | {"facecolor": inside, "edgecolor": look["facecolor"], "linewidth": 1.2}


def _reach(bars: Sequence[GroupBar], *, turned: bool) -> Reach:
    """From where to where the scale goes: 0 to 1 with room for the values, further where a bar leaves that."""
    highest = max(_value_at(bar, turned=turned) + (_length(bar, turned=turned) + _PAD) / _UNIT for bar in bars)
    lowest = min(bar.ends[0] for bar in bars)
    return lowest - (_PAD / _UNIT if lowest < 0 else 0), max(1.02, highest)


def _length(bar: GroupBar, *, turned: bool) -> float:
    """Inches that the value needs over its bar: lying where the slot is broad enough, else turned."""
    return style.measure_text(_write_value(bar) if turned else "0", style.SMALL)


def _write_value(bar: GroupBar) -> str:
    return f"{bar.value:.2f}".replace("-", "−")


def _value_at(bar: GroupBar, *, turned: bool) -> float:
    """Where the value is written: over the bar and its whisker, and over a floor or bound that would cross it."""
    at = bar.ends[1] + _PAD / _UNIT
    for mark in sorted(mark for mark in (bar.floor, bar.reference) if mark is not None):
        if at - _PAD / _UNIT < mark < at + (_length(bar, turned=turned) + _PAD) / _UNIT:
            at = mark + _PAD / _UNIT
    return at


def _figure(plan: places.BarPlaces, reach: Reach, title: str, subtitle: str) -> tuple[Figure, list[list[Axes]]]:
    lines = max(text.count("\n") + 1 for row in plan.rows for placed in row for _, text in placed.names)
    under = max(
        style.measure_text(bar.under, style.SMALL) for row in plan.rows for placed in row for bar in placed.panel.bars
    )
    high = _UNIT * (reach[1] - reach[0]) + _LINE * (lines + 3) + under
    width = sum(plan.widths) + _MARGIN
    figure = style.make_canvas(width, len(plan.rows) * high + 0.5, title, subtitle)
    shape = {"nrows": len(plan.rows), "ncols": len(plan.widths), "width_ratios": plan.widths, "squeeze": False}
    return figure, [list(line) for line in figure.subplots(**shape)]


def _draw(axes: Axes, placed: places.PanelLayout, plan: places.BarPlaces, looks: dict[str, Look]) -> None:
    pencil = style.Marks(axes, upright=True, fine=_FINE)
    half = _BROAD * plan.slot / 2
    for at, bar in placed.bars:
        pencil.bar(at, bar.value, 2 * half, **_look(bar, looks))
        if bar.low is not None and bar.high is not None:
            pencil.interval(at, bar.low, bar.high)
        for index, value in enumerate(bar.values if len(bar.values) > 1 else ()):
            pencil.seed(at + 1.3 * half * ((index + 0.5) / len(bar.values) - 0.5), value)
        if bar.floor is not None:
            pencil.across(at, bar.floor, half, "floor")
        if bar.reference is not None:
            pencil.across(at, bar.reference, 0.47 * plan.slot, "reference")
        look = {"ha": "center", "va": "bottom", "rotation": 90 if plan.turned else 0}
        height = _value_at(bar, turned=plan.turned)
        axes.text(at, height, _write_value(bar), fontsize=style.SMALL, color=style.INK, gid="value", **look)


def _scale(axes: Axes, reach: Reach, placed: places.PanelLayout, width: float) -> None:
    style.quiet_axes(axes, keep=())
    axes.set_title(
        style.wrap_text(placed.panel.title, style.PANEL, width), fontsize=style.PANEL, color=style.INK, loc="left"
    )
    spare = (width - placed.width) / 2
    axes.set_xlim(-spare, placed.width + spare)
    axes.set_ylim(*reach)
    axes.set_yticks([tick for tick in _TICKS if tick >= reach[0]])
    axes.grid(axis="y", color=style.FAINT, linewidth=0.8)
    axes.axhline(0, color=style.SOFT, linewidth=0.8, zorder=2)
    axes.tick_params(axis="both", length=0)
    axes.tick_params(axis="y", labelleft=False)
    _name_bars(axes, placed)


def _name_bars(axes: Axes, placed: places.PanelLayout) -> None:
    """Group names below; between them and the bars, turned, the labels that say more than the legend."""
    longest = max(style.measure_text(bar.under, style.SMALL) for bar in placed.panel.bars)
    axes.xaxis.remove_overlapping_locs = False
    axes.set_xticks([at for at, _ in placed.bars], [bar.under for _, bar in placed.bars], minor=True, rotation=90)
    axes.set_xticks([at for at, _ in placed.names], [name for _, name in placed.names])
    axes.tick_params(axis="x", which="minor", length=0, pad=3, labelsize=style.SMALL, labelcolor=style.INK)
    axes.tick_params(axis="x", which="major", pad=4 + (72 * longest + 6 if longest else 0))


def _name_left(axes: Axes, name: str) -> None:
    axes.set_ylabel(name, fontsize=style.TEXT, color=style.INK)
    axes.tick_params(axis="y", labelleft=True)


def _name_right(axes: Axes, name: str, *, roomy: bool) -> None:
    """The same ticks again; where the row has an empty place beside it, the columns need not move apart for them."""
    other = axes.secondary_yaxis("right")
    other.set_ylabel(name, fontsize=style.TEXT, color=style.SOFT)
    other.set_yticks(axes.get_yticks())
    other.tick_params(labelsize=style.TEXT, length=0, labelcolor=style.SOFT)
    other.spines["right"].set_visible(False)
    other.set_in_layout(not roomy)


def _entries(bars: Sequence[GroupBar], looks: dict[str, Look], reference: str, interval: str) -> dict[str, Artist]:
    from matplotlib.patches import Patch

    first: dict[str, GroupBar] = {}
    for bar in sorted(bars, key=lambda bar: (bar.axis == "right", bar.control)):
        first.setdefault(bar.name, bar)
    known = style.legend_keys(upright=True)
    applying = {
        interval: (any(bar.low is not None and bar.high is not None for bar in bars), known["interval"]),
        "one seed (bar: mean)": (any(len(bar.values) > 1 for bar in bars), known["seed"]),
        "no-op floor": (any(bar.floor is not None for bar in bars), known["floor"]),
        reference: (any(bar.reference is not None for bar in bars), known["reference"]),
    }
    entries: dict[str, Artist] = {name: Patch(**_look(bar, looks)) for name, bar in first.items()}
    return entries | {name: key for name, (applies, key) in applying.items() if applies}


def _resize(figure: Figure, plan: places.BarPlaces, reach: Reach) -> None:
    """Give the figure what names and legend took, so that an inch of the plan is an inch on paper."""
    figure.draw_without_rendering()
    first = figure.axes[: len(plan.rows[0])]
    wide = sum(plan.widths) - sum(axes.get_window_extent().width for axes in first) / figure.dpi
    high = _UNIT * (reach[1] - reach[0]) - first[0].get_window_extent().height / figure.dpi
    figure.set_size_inches(figure.get_figwidth() + wide, figure.get_figheight() + high * len(plan.rows))
