"""Figures and page of the recipe `identity-stitching`, from its records alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mas_hooks.core.errors import EmptyError
from mas_hooks.core.files import write_file
from mas_hooks.core.records import Record
from mas_hooks.evaluation import PairTable, compare_groups, describe_group_test
from mas_hooks.report import Curve, claims_table, pair_groups, save_figures, value_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

from mas_hooks.studies.identity_stitching import claims, groups

PAGE = "identity_stitching.md"
SPLITS = {"test": "in distribution", "shifted": "out of distribution"}
HEADER = """# Identity stitching: where two groups of classifiers part

Ours beside what *Understanding the Inner Workings of Language Models Through Representation Dissimilarity* (2023, §4)
says of BERTs on MNLI and HANS. The rules of agreement are part of the recipe. Classifiers that were trained here have
groups by construction, and no reason to part where BERTs do: what disagrees is a finding about them."""
NOTE = """Penalty: accuracy of the target minus that of the stitch, positive is worse. First interval: models resampled;
second: Student's t over pairs, as the paper's, too narrow since pairs share models."""


def draw_identity_figures(run_dir: Path, rows: Sequence[Record]) -> list[Path]:
    """Write the figures and the page; their paths."""
    if not any(row.measure == "cka" for row in rows):
        raise EmptyError(f"the report of {run_dir}", "its records hold no stitches and no CKA yet")
    own = groups.Groups.of(rows)
    paths = save_figures(
        run_dir / "figures", {"penalty.png": _penalty(own), "cka.png": _cka(own), "distances.png": _distances(own)}
    )
    page = "\n".join([claims_table(claims.identity_claims(own), HEADER), *_tables(own)])
    return [*paths, write_file(run_dir / PAGE, page)]


def _curve(label: str, points: Sequence[tuple[float, float | None, float | None]], look: int) -> Curve:
    at = tuple(float(number) for number in range(1, len(points) + 1))
    low, high = (tuple(math.nan if one[end] is None else float(one[end] or 0.0) for one in points) for end in (1, 2))
    known = not any(map(math.isnan, (*low, *high)))
    values = tuple(one[0] for one in points)
    return Curve(label, at, values, low if known else None, high if known else None, look=look)


def _penalty(own: Any) -> Figure:
    panels = {}
    for split, title in SPLITS.items():
        found = [own.ways(split, layer) for layer in range(own.layers)]
        panels[title] = [_curve(way, [one[way][:3] for one in found], look) for look, way in enumerate(found[0])]
    count = len(own.labels)
    return value_curves(
        panels,
        title="What it costs a classifier to go on from another's vectors",
        subtitle=f"Mean over all ordered pairs of {count} models, source → target; a model with itself costs nothing.",
        along=f"blocks that come from the source (of {own.layers})",
        unit="accuracy lost",
        interval="95% interval, models resampled",
        zero="no cost",
    )


def _cka(own: Any) -> Figure:
    found = [own.alike(layer) for layer in range(own.layers)]
    lines = [
        _curve(
            group.label, [(one.groups[n].mean, one.groups[n].low, one.groups[n].high) for one in found], (0, 2, 1)[n]
        )
        for n, group in enumerate(found[0].groups)
    ]
    return value_curves(
        {"the same block of two models": lines},
        title="How alike the same blocks are",
        subtitle="Unbiased linear CKA over the tokens of the examples in distribution.",
        along=f"blocks (of {own.layers})",
        unit="CKA",
        interval="95% interval, models resampled",
    )


def _distances(own: Any) -> Figure:
    found = compare_groups(PairTable.of(own.distances, own.labels, "mean"), "both")
    return pair_groups(
        found.groups,
        title="How far apart two models are, over all blocks",
        subtitle="sqrt(Σ arccos(CKA)²) over the blocks; higher is less alike.",
        unit="radians",
    )


def _tables(own: Any) -> list[str]:
    lines = ["## Penalties", "", NOTE, "", "| test | blocks of the source | way | penalty | over models | over pairs |"]
    lines.append("| :-- | --: | :-- | --: | :-- | :-- |")
    for split, title in SPLITS.items():
        for layer in range(own.layers):
            for way, (mean, low, high, below, above) in own.ways(split, layer).items():
                cells = f"{mean:+.3f} | {_ends(low, high)} | {_ends(below, above)}"
                lines.append(f"| {title} | {layer + 1} of {own.layers} | {way} | {cells} |")
    lines += ["", "## Penalties between the groups, in distribution, behind the last block", ""]
    lines += [describe_group_test(own.groups_part("test", own.layers - 1), "negative penalty"), ""]
    lines += ["## CKA within and between the groups behind the last block", ""]
    lines += [describe_group_test(own.alike(own.layers - 1), "CKA"), "", "## Two clusters by distance", ""]
    lines += [*(f"- {', '.join(names)}" for names in own.tree.groups(2)), ""]
    lines += ["## Models", "", "| model | group | in distribution | out of distribution |", "| :-- | :-- | --: | --: |"]
    for name, label in own.labels.items():
        lines.append(f"| {name} | {label} | {own.accuracy['test', name]:.3f} | {own.accuracy['shifted', name]:.3f} |")
    told = ", ".join(f"{own.examples[split]} {title}" for split, title in SPLITS.items())
    return [*lines, "", f"Examples: {told}.", ""]


def _ends(low: float, high: float) -> str:
    return "" if math.isnan(low) or math.isnan(high) else f"{low:+.3f} to {high:+.3f}"
