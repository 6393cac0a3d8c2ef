"""The rules by which the recipe `figures` says whether a value agrees with the papers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mas_hooks.studies.figures.results import Value

RULES = (
    "*High* is an IIA of at least 0.8; *above* and *below* mean that the 95% intervals do not overlap; *at the bound* "
    "is within 0.05 of it; a figure of the paper agrees where it lies within 0.05 of our interval. IIA is that of the "
    "worst trained direction. These rules were written down before the fits were run."
)
HIGH, NEAR = 0.8, 0.05


@dataclass(frozen=True)
class ClaimRow:
    """One claim: what the paper says of it, the rule on the values, and where they stand (name: title, group, key)."""

    panel: str
    what: str
    paper: str
    rule: Callable[..., bool | None]
    wanted: Mapping[str, tuple[str, str, str]]


def is_high(value: Value) -> bool:
    """High, as the rules say."""
    return value.mean >= HIGH


def is_above(more: Value, *less: Value) -> bool:
    """Above all the others, as the rules say."""
    return all(more.low > value.high for value in less)


def is_below(less: Value, *more: Value) -> bool:
    """Below all the others."""
    return all(is_above(value, less) for value in more)


def match_figure(number: float) -> Callable[[Value], bool]:
    """Whether a figure of the paper agrees."""
    return lambda value: value.low - NEAR <= number <= value.high + NEAR


def reaches_half(value: Value) -> bool | None:
    """Whether at least half of what lies between the floor and the bound is reached; None where there is nothing."""
    if value.bound is None or value.floor is None or value.bound - value.floor < NEAR:
        return None
    return (value.mean - value.floor) / (value.bound - value.floor) >= 0.5


def reaches_less(value: Value) -> bool | None:
    """Less than half."""
    half = reaches_half(value)
    return None if half is None else not half
