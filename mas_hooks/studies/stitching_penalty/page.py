"""Figures and `stitching_penalty.md` of the recipe `stitching-penalty`, from records alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mas_hooks import report
from mas_hooks.core import records
from mas_hooks.core.errors import EmptyError
from mas_hooks.core.files import write_file
from mas_hooks.core.records import Record
from mas_hooks.core.run_folder import RECORDS
from mas_hooks.studies.stitching_penalty import claims, tables

PAGE = "stitching_penalty.md"
if TYPE_CHECKING:
    from matplotlib.figure import Figure

INTERVAL = "95% interval over test rows"


def draw_penalty_figures(run_dir: Path) -> list[Path]:
    """Draw the three figures and write the page; their paths. Raises EmptyError where no stitch is done yet."""
    rows = records.read_records(run_dir / RECORDS)
    if not tables.overall_penalties(rows):
        raise EmptyError(f"the report of {run_dir}", "let the run finish, or continue it with --resume")
    figures = {
        "penalties.png": draw_penalties(rows),
        "loss_curves.png": draw_loss_curves(rows),
        "cka_layers.png": report.layer_heatmaps(
            [row for row in rows if row.measure == "cka"],
            title="How alike the layers of the two models are",
            subtitle="Linear CKA (unbiased, minibatches of 8 test rows) of the residual streams behind each block; "
            "mean over seeds. It compares distributions of features, not what they are good for.",
        ),
    }
    saved = report.save_figures(run_dir / "figures", figures)
    page = write_file(run_dir / PAGE, write_penalty_page(rows, [path.name for path in saved]))
    return [*saved, page]


def draw_penalties(rows: Sequence[Record]) -> Figure:
    """Penalty by layer: both directions, and the baselines dashed."""
    whole = tables.overall_penalties(rows)
    curves = []
    for index, name in enumerate(dict.fromkeys(row.comparison for row in whole)):
        points = sorted((row for row in whole if row.comparison == name), key=tables.layer_of)
        seeds = _by_seed([row for row in rows if tables.is_penalty_of(row, name) and row.seeds is None])
        several = [sorted(seed_rows, key=tables.layer_of) for seed_rows in seeds] if len(seeds) > 1 else []
        curves.append(
            report.Curve(
                label=str(name),
                at=tuple(tables.layer_of(row) for row in points),
                values=tuple(float(row.value or 0.0) for row in points),
                low=tuple(float(row.value_low or 0.0) for row in points),
                high=tuple(float(row.value_high or 0.0) for row in points),
                seeds=tuple(tuple(float(row.value or 0.0) for row in each) for each in several),
                baseline=points[0].source == points[0].target,
                look=index,
            )
        )
    return report.value_curves(
        {"": curves},
        title="What it costs to stitch the head of one model to the tail of another",
        subtitle="Stitched loss minus the loss of the model that supplies the tail (nats a token, more is worse), "
        "head → tail, behind each block.",
        along="stitched behind block",
        unit="penalty (nats a token)",
        interval=INTERVAL,
        zero="no penalty",
    )


def draw_loss_curves(rows: Sequence[Record]) -> Figure:
    """Validation loss of every stitch against the step, a panel a layer."""
    losses = [row for row in rows if row.split == "valid" and row.step is not None]
    panels, early = {}, []
    for layer in sorted({tables.layer_of(row) for row in losses}):
        here = [row for row in losses if tables.layer_of(row) == layer]
        panels[f"behind block {layer}"] = curves = []
        for index, name in enumerate(dict.fromkeys(row.comparison for row in here)):
            curve_rows = [row for row in here if row.comparison == name]
            steps = sorted({row.step or 0 for row in curve_rows})
            values = np.array([[_value_at(each, step) for step in steps] for each in _by_seed(curve_rows)])
            seeds = tuple(map(tuple, values.tolist())) if len(values) > 1 else ()
            baseline = curve_rows[0].source == curve_rows[0].target
            mean = tuple(values.mean(0).tolist())
            curves.append(report.Curve(str(name), tuple(steps), mean, seeds=seeds, baseline=baseline, look=index))
            early.append(max(values[:, min(1, len(steps) - 1)]))
    return report.value_curves(
        panels,
        title="How the stitches were learned",
        subtitle="Loss on the validation rows; the fall from the start to the second validation is cut off.",
        along="training step",
        unit="loss (nats a token)",
        top=float(max(early)),
    )


def write_penalty_page(rows: Sequence[Record], figures: Iterable[str]) -> str:
    """The claims beside what came out, what they rest on, and every value."""
    texts = sorted({row.task for row in rows if row.measure == "loss" and row.task})
    parts = [
        "# What a stitch costs, between SoLU and GELU models",
        report.claims_table(claims.penalty_claims(rows), claims.RULES),
        *(f"![{name.removesuffix('.png')}](figures/{name})" for name in figures),
        f"## The models\n\nNats a token on rows of {', '.join(texts)}, which all have in common.",
        tables.models_table(rows),
        tables.describe_difference(rows),
        "## Every penalty",
        tables.penalties_table(rows),
        "## Every difference",
        tables.differences_table(rows),
    ]
    return "\n\n".join(parts) + "\n"


def _by_seed(rows: Sequence[Record]) -> list[list[Record]]:
    return [[row for row in rows if row.seed == seed] for seed in sorted({row.seed or 0 for row in rows})]


def _value_at(rows: Sequence[Record], step: int) -> float:
    """The value at a step, or at the last before it."""
    return float(max((row for row in rows if (row.step or 0) <= step), key=lambda row: row.step or 0).value or 0.0)
