"""Figures and page of the recipe `identity-stitching`, from its records alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mas_hooks.core.errors import EmptyError
from mas_hooks.core.files import write_file
from mas_hooks.core.records import Record
from mas_hooks.evaluation import PairTable, compare_groups, describe_group_test
from mas_hooks.report import Curve, claims_table, pair_groups, save_figures, value_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

from mas_hooks.studies.identity_stitching import claims
from mas_hooks.studies.identity_stitching.groups import Groups

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
    groups = Groups.of(rows)
    paths = save_figures(
        run_dir / "figures",
        {
            "penalty.png": _draw_penalties(groups),
            "cka.png": _draw_cka(groups),
            "distances.png": _draw_distances(groups),
        },
    )
    page = "\n".join([claims_table(claims.identity_claims(groups), HEADER), *_write_tables(groups)])
    return [*paths, write_file(run_dir / PAGE, page)]


def _make_curve(label: str, points: Sequence[tuple[float, float | None, float | None]], look: int) -> Curve:
    at = tuple(float(number) for number in range(1, len(points) + 1))
    low, high = (
        tuple(math.nan if point[end] is None else float(point[end] or 0.0) for point in points) for end in (1, 2)
    )
    known = not any(map(math.isnan, (*low, *high)))
    values = tuple(point[0] for point in points)
    return Curve(label, at, values, low if known else None, high if known else None, look=look)


def _draw_penalties(groups: Groups) -> Figure:
    panels = {}
    for split, title in SPLITS.items():
        costs = [groups.ways(split, layer) for layer in range(groups.layers)]
        panels[title] = [_make_curve(way, [cost[way][:3] for cost in costs], look) for look, way in enumerate(costs[0])]
    count = len(groups.labels)
    return value_curves(
        panels,
        title="What it costs a classifier to go on from another's vectors",
        subtitle=f"Mean over all ordered pairs of {count} models, source → target; a model with itself costs nothing.",
        along=f"blocks that come from the source (of {groups.layers})",
        unit="accuracy lost",
        interval="95% interval, models resampled",
        zero="no cost",
    )


def _draw_cka(groups: Groups) -> Figure:
    tests = [groups.alike(layer) for layer in range(groups.layers)]
    lines = [
        _make_curve(
            group.label,
            [(test.groups[n].mean, test.groups[n].low, test.groups[n].high) for test in tests],
            (0, 2, 1)[n],
        )
        for n, group in enumerate(tests[0].groups)
    ]
    return value_curves(
        {"the same block of two models": lines},
        title="How alike the same blocks are",
        subtitle="Unbiased linear CKA over the tokens of the examples in distribution.",
        along=f"blocks (of {groups.layers})",
        unit="CKA",
        interval="95% interval, models resampled",
    )


def _draw_distances(groups: Groups) -> Figure:
    test = compare_groups(PairTable.of(groups.distances, groups.labels, "mean"), "both")
    return pair_groups(
        test.groups,
        title="How far apart two models are, over all blocks",
        subtitle="sqrt(Σ arccos(CKA)²) over the blocks; higher is less alike.",
        unit="radians",
    )


def _write_tables(groups: Groups) -> list[str]:
    lines = ["## Penalties", "", NOTE, "", "| test | blocks of the source | way | penalty | over models | over pairs |"]
    lines.append("| :-- | --: | :-- | --: | :-- | :-- |")
    for split, title in SPLITS.items():
        for layer in range(groups.layers):
            for way, (mean, low, high, below, above) in groups.ways(split, layer).items():
                cells = f"{mean:+.3f} | {_format_interval(low, high)} | {_format_interval(below, above)}"
                lines.append(f"| {title} | {layer + 1} of {groups.layers} | {way} | {cells} |")
    lines += ["", "## Penalties between the groups, in distribution, behind the last block", ""]
    lines += [describe_group_test(groups.groups_part("test", groups.layers - 1), "negative penalty"), ""]
    lines += ["## CKA within and between the groups behind the last block", ""]
    lines += [describe_group_test(groups.alike(groups.layers - 1), "CKA"), "", "## Two clusters by distance", ""]
    lines += [*(f"- {', '.join(names)}" for names in groups.tree.groups(2)), ""]
    lines += ["## Models", "", "| model | group | in distribution | out of distribution |", "| :-- | :-- | --: | --: |"]
    for name, label in groups.labels.items():
        lines.append(
            f"| {name} | {label} | {groups.accuracy['test', name]:.3f} | {groups.accuracy['shifted', name]:.3f} |"
        )
    examples = ", ".join(f"{groups.examples[split]} {title}" for split, title in SPLITS.items())
    return [*lines, "", f"Examples: {examples}.", ""]


def _format_interval(low: float, high: float) -> str:
    return "" if math.isnan(low) or math.isnan(high) else f"{low:+.3f} to {high:+.3f}"
