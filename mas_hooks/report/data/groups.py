"""What the grouped bar figure shows: panels of groups of bars. Draws nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from mas_hooks.core.errors import EmptyError, NotFiniteError


@dataclass(frozen=True)
class GroupBar:
    """One bar: the mean of its values, one for each seed.

    Raises EmptyError without values, and NotFiniteError for a number that is NaN or infinite.

    Args:
        label: Written under the bar where the legend does not say it.
        values: One for each seed.
        low: The lower end of the interval of their mean.
        high: The upper end of the interval of their mean.
        floor: What the same pairs score without a swap.
        reference: A bound, drawn as a dashed line: the score of a model compared with itself, for instance.
        axis: `right` for what is no IIA (RSA, CKA).
        control: Drawn grey and hatched.
        key: The entry in the legend; bars of one key have one colour in the whole figure.

    Example:
        >>> from mas_hooks.report import GroupBar
        >>> GroupBar("MAS", (0.5, 1.0), low=0.4, high=1.0).value
        0.75
    """

    label: str
    values: tuple[float, ...]
    low: float | None
    high: float | None
    floor: float | None = None
    reference: float | None = None
    axis: Literal["left", "right"] = "left"
    control: bool = False
    key: str = ""

    def __post_init__(self) -> None:
        if not self.values:
            raise EmptyError(f"the bar {self.label!r}", "give one value for each seed")
        numbers = (*self.values, self.low, self.high, self.floor, self.reference)
        unfit = [number for number in numbers if number is not None and not math.isfinite(number)]
        if unfit:
            raise NotFiniteError(f"the bar {self.label!r}", len(unfit))

    @property
    def value(self) -> float:
        """The height of the bar."""
        return fmean(self.values)

    @property
    def name(self) -> str:
        """The entry in the legend: the key, or the label of a bar that has none."""
        return self.key or self.label

    @property
    def under(self) -> str:
        """What is written under the bar: the label where the legend does not say it."""
        return "" if self.label == self.name else self.label

    @property
    def ends(self) -> tuple[float, float]:
        """From where to where bar, seeds and interval reach; zero is always among them."""
        marks = [mark for mark in (self.value, *self.values, self.low, self.high) if mark is not None]
        return min(0.0, *marks), max(0.0, *marks)


@dataclass(frozen=True)
class Group:
    """Bars that stand together over one name, such as `hidden state`; an empty name is not written.

    Example:
        >>> from mas_hooks.report import Group, GroupBar
        >>> len(Group("hidden state", (GroupBar("MAS", (0.9,), 0.8, 1.0),)).bars)
        1
    """

    label: str
    bars: tuple[GroupBar, ...]


@dataclass(frozen=True)
class GroupPanel:
    """One part of a figure with a title of its own, such as `GRU × LSTM`; an empty title is not written.

    Example:
        >>> from mas_hooks.report import Group, GroupBar, GroupPanel
        >>> bar = GroupBar("MAS", (0.9,), 0.8, 1.0)
        >>> [bar.label for bar in GroupPanel("GRU × LSTM", (Group("hidden state", (bar,)),)).bars]
        ['MAS']
    """

    title: str
    groups: tuple[Group, ...]

    @property
    def bars(self) -> tuple[GroupBar, ...]:
        """The bars of all groups."""
        return tuple(bar for group in self.groups for bar in group.bars)
