"""What the bar figure shows: results and similarities as bars, gathered into panels. Draws nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from mas_hooks.core.records import Record
from mas_hooks.report.data import fits, names

_MEASURES = ("rsa", "cka")


@dataclass(frozen=True)
class Dot:
    """One seed: a value, its interval from low to high, and the floor it has to beat."""

    value: float
    low: float | None
    high: float | None
    floor: float | None = None


@dataclass(frozen=True)
class ModelBar:
    """One bar: the mean of its dots, one dot for each seed."""

    comparison: str
    label: str
    dots: tuple[Dot, ...]
    control: str = ""

    @property
    def value(self) -> float:
        """The length of the bar."""
        return fmean(dot.value for dot in self.dots)

    @property
    def floor(self) -> float | None:
        """The mean floor of those dots that have one."""
        floors = [dot.floor for dot in self.dots if dot.floor is not None]
        return fmean(floors) if floors else None

    @property
    def reach(self) -> tuple[float, float]:
        """From where to where this bar has ink."""
        marks = [mark for dot in self.dots for mark in (dot.value, dot.low, dot.high, dot.floor) if mark is not None]
        return min(0.0, *marks), max(0.0, *marks)


@dataclass(frozen=True)
class ModelPanel:
    """Bars that share an axis.

    Args:
        title: The heading of the panel beside the other one.
        alone: The heading of the figure when this is its only panel.
        explained: What the abbreviations mean.
        unit: What the axis says.
        whisker: What the whiskers are.
        bars: The bars of all comparisons.
        causal: Results of swaps, not of activations that look alike.
    """

    title: str
    alone: str
    explained: str
    unit: str
    whisker: str
    bars: tuple[ModelBar, ...]
    causal: bool

    def of(self, comparison: str) -> list[ModelBar]:
        """The bars of one comparison, controls last."""
        return [bar for bar in self.bars if bar.comparison == comparison]


def model_panels(records: Iterable[Record]) -> list[ModelPanel]:
    """The causal panel and the correlational one, each if it has bars."""
    records = list(records)
    causal = ModelPanel(
        "Causal: swaps that act as predicted",
        "How often a swap moves behaviour as predicted",
        "IIA: interchange intervention accuracy. No-op floor: what the same pairs score without any swap.",
        "IIA of the worst direction (share of test pairs)",
        "95% interval",
        _causal(records),
        causal=True,
    )
    correlational = ModelPanel(
        "Correlational: activations that look alike",
        "How alike the activations look",
        "RSA: representational similarity analysis. CKA: centred kernel alignment.",
        "similarity (1 = the same geometry)",
        "spread",
        _correlational(records),
        causal=False,
    )
    return [panel for panel in (causal, correlational) if panel.bars]


def _causal(records: list[Record]) -> tuple[ModelBar, ...]:
    bars = []
    for fit in fits.group_fits(records):
        dots = (Dot(row.iia, row.iia_low, row.iia_high, row.floor) for row in fit.worst() if row.iia is not None)
        label = f"{fit.label}, {fit.control}" if fit.control else fit.label
        bars.append(ModelBar(fit.comparison, label, tuple(dots), fit.control))
    return tuple(bars)


def _correlational(records: list[Record]) -> tuple[ModelBar, ...]:
    rows = [row for row in fits.similarity_rows(records) if row.measure in _MEASURES]
    named, joined = names.EndNames.of(rows), fits.comparison_of_models(records)
    dots: dict[tuple[str, str, str], dict[str, list[Dot]]] = {}
    for row in sorted(rows, key=lambda row: row.control is not None):
        models = frozenset((row.source_model, row.target_model))
        comparison = row.comparison or joined.get(models) or fits.comparison(row)
        pairs = dots.setdefault((comparison, (row.measure or "").upper(), names.control_title(row)), {})
        pairs.setdefault(named.pair(row), []).append(Dot(row.value or 0.0, row.value_low, row.value_high))
    return tuple(
        ModelBar(comparison, _name_bar(measure, pair if len(pairs) > 1 else "", control), tuple(seeds), control)
        for (comparison, measure, control), pairs in dots.items()
        for pair, seeds in pairs.items()
    )


def _name_bar(measure: str, pair: str, control: str) -> str:
    """`RSA`, `RSA · gru-0 × gru-1`, `RSA, untrained`."""
    label = f"{measure} · {pair}" if pair else measure
    return f"{label}, {control}" if control else label
