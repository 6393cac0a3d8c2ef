"""The rules by which the recipe `figures` says whether a value agrees with the papers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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


def high(it: Any) -> bool:
    """High, as the rules say."""
    return it.mean >= HIGH


def above(more: Any, *less: Any) -> bool:
    """Above all the others, as the rules say."""
    return all(more.low > it.high for it in less)


def below(less: Any, *more: Any) -> bool:
    """Below all the others."""
    return all(above(it, less) for it in more)


def figure(number: float) -> Callable[[Any], bool]:
    """Whether a figure of the paper agrees."""
    return lambda it: it.low - NEAR <= number <= it.high + NEAR


def reaches_half(it: Any) -> bool | None:
    """Whether at least half of what lies between the floor and the bound is reached; None where there is nothing."""
    if it.bound is None or it.floor is None or it.bound - it.floor < NEAR:
        return None
    return (it.mean - it.floor) / (it.bound - it.floor) >= 0.5


def reaches_less(it: Any) -> bool | None:
    """Less than half."""
    half = reaches_half(it)
    return None if half is None else not half
