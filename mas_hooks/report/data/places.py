"""Where each bar of a grouped figure stands, in inches from the left edge of its panel. Draws nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mas_hooks.report import style
from mas_hooks.report.data.groups import Group, GroupBar, GroupPanel

_SLOTS = (0.56, 0.5, 0.44, 0.4, 0.36, 0.3, 0.26, 0.23, 0.2, 0.18, 0.16)  # inches from one bar to the next
_COLUMNS = 4  # panels in a row
_NARROWEST, _WIDEST, _WIDEST_TURNED = 3.6, 10.0, 8.6  # inches of a row, and of one whose values are turned
_GAP, _APART, _NAME = 0.8, 0.35, 0.16  # slots between groups and between axes, inches between group names
_LYING = 0.36  # inches of the narrowest slot over which a value still fits as it is read


@dataclass(frozen=True)
class PanelLayout:
    """One panel: its bars with their places, its group names with their middles, and how wide all of it is."""

    panel: GroupPanel
    bars: tuple[tuple[float, GroupBar], ...]
    names: tuple[tuple[float, str], ...]
    width: float


@dataclass(frozen=True)
class BarPlaces:
    """Rows of panels that share columns, and the inches from one bar to the next, the same everywhere."""

    rows: tuple[tuple[PanelLayout, ...], ...]
    slot: float

    @property
    def widths(self) -> list[float]:
        """Inches of each column: of its widest panel."""
        columns = range(len(self.rows[0]))
        found = [max(row[column].width for row in self.rows if column < len(row)) for column in columns]
        spare = max(0.0, _NARROWEST - sum(found)) / len(found)
        return [width + spare for width in found]

    @property
    def turned(self) -> bool:
        """Whether the values over the bars are too long to be written as they are read."""
        return self.slot < _LYING

    @property
    def fits(self) -> bool:
        """Whether a page holds it: broader bars come at the price of a wider figure, up to here."""
        return sum(self.widths) <= (_WIDEST_TURNED if self.turned else _WIDEST)


def lay_out_bars(panels: Sequence[GroupPanel]) -> BarPlaces:
    """At most four panels in a row; bars as broad as the widest row leaves room for."""
    lines = -(-len(panels) // _COLUMNS)
    columns = -(-len(panels) // lines)
    tried = (_lay_out(panels, slot, columns) for slot in _SLOTS)
    return next((found for found in tried if found.fits), _lay_out(panels, _SLOTS[-1], columns))


def _lay_out(panels: Sequence[GroupPanel], slot: float, columns: int) -> BarPlaces:
    placed = [_place_bars(panel, slot) for panel in panels]
    return BarPlaces(tuple(tuple(placed[at : at + columns]) for at in range(0, len(placed), columns)), slot)


def _place_bars(panel: GroupPanel, slot: float) -> PanelLayout:
    """Groups side by side, each at least as wide as its name broken into words."""
    bars: list[tuple[float, GroupBar]] = []
    names: list[tuple[float, str]] = []
    edge = _GAP * slot / 2
    for group in panel.groups:
        steps = _steps(group, slot)
        room = max(steps[-1] + slot, style.measure_longest_word(group.label, style.TEXT) + _NAME)
        start = edge + (room - steps[-1]) / 2
        bars += [(start + step, bar) for step, bar in zip(steps, group.bars, strict=True)]
        names.append((edge + room / 2, style.wrap_text(group.label, style.TEXT, room + _GAP * slot - _NAME)))
        edge += room + _GAP * slot
    width = max(edge - _GAP * slot / 2, style.measure_longest_word(panel.title, style.PANEL) + _NAME)
    return PanelLayout(panel, tuple(bars), tuple(names), width)


def _steps(group: Group, slot: float) -> list[float]:
    """The place of each bar, counted from the first; where the axis changes there is a little more room."""
    steps = [0.0]
    for one, other in zip(group.bars, group.bars[1:], strict=False):
        steps.append(steps[-1] + slot * (1 + _APART * (one.axis != other.axis)))
    return steps
