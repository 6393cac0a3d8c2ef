"""Figures and page of the recipe `scaling-family`, from its records alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mas_hooks.core.errors import EmptyError
from mas_hooks.core.files import write_file
from mas_hooks.core.records import Record
from mas_hooks.report import claims_table, layer_heatmaps, save_figures
from mas_hooks.studies.scaling_family import claims
from mas_hooks.studies.scaling_family.grids import FamilyGrids

PAGE = "scaling_family.md"
HEADER = """# Scaling family: which layers of which sizes are alike

Ours beside what *Understanding the Inner Workings of Language Models Through Representation Dissimilarity* (2023, §5)
says of Pythia. The rules of agreement are part of the recipe. A family that was trained here on a small corpus has no
reason to do as Pythia does: what disagrees is a finding about it."""


def draw_family_figures(run_dir: Path, rows: Sequence[Record]) -> list[Path]:
    """Write the heat maps of the family, those of the untrained copy, and the page; their paths."""
    layered = [row for row in rows if row.layer_a is not None]
    if not layered:
        raise EmptyError(f"the report of {run_dir}", "its records hold no grid of layers yet")
    family = FamilyGrids.of(rows)
    trained, fresh = [row for row in layered if not row.control], [row for row in layered if row.control]
    measure = str(layered[0].measure).replace("_", " ").upper()
    subtitle = (
        f"{measure} behind every block of {len(family.members)} members, smallest first; layers by share of the depth;"
        " colours from the lowest value up."
    )
    figures = {
        "heatmaps.png": layer_heatmaps(
            trained,
            title="Which layers of which sizes are alike",
            subtitle=subtitle,
            unit=measure,
            low=0.9,  # or the lowest value there is: blocks are seen in what is left above it
            columns=len(family.members),
        )
    }
    if fresh:
        figures["untrained.png"] = layer_heatmaps(
            [replace(row, control=None) for row in fresh if row.source_model != row.target_model],
            title="The control: a copy with fresh random weights",
            subtitle=f"{measure} of a member whose weights were drawn anew with the trained ones.",
            unit=measure,
            columns=len(family.members),
        )
    paths = save_figures(run_dir / "figures", figures)
    parts = [
        claims_table(claims.family_claims(family), HEADER),
        _write_control(family),
        _write_distances(family),
        _write_members(rows),
    ]
    return [*paths, write_file(run_dir / PAGE, "\n".join(parts))]


def _write_control(family: FamilyGrids) -> str:
    return f"## The control\n\n{claims.describe_control(family)}\n" if family.untrained else ""


def _write_distances(family: FamilyGrids) -> str:
    names = (*family.members, *([family.untrained] if family.untrained else []))
    values = family.distances(names)
    lines = [
        "## Distances (radians, at matched depths)",
        "",
        "sqrt of the mean of arccos(CKA)² over as many matched depths as the deeper of two models has layers; 1.57 is"
        " no similarity at all.",
        "",
        f"| | {' | '.join(names)} |",
        f"| :-- |{' --: |' * len(names)}",
        *(
            f"| {name} | {' | '.join(f'{value:.3f}' for value in row)} |"
            for name, row in zip(names, values, strict=True)
        ),
        "",
    ]
    return "\n".join(lines)


def _write_members(rows: Sequence[Record]) -> str:
    measures: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.layer_a is None:
            measures.setdefault(str(row.source_model), {})[str(row.measure)] = row.value or 0.0
    heads = list(dict.fromkeys(name for values in measures.values() for name in values))
    lines = ["## Members", "", f"| | {' | '.join(heads)} |", f"| :-- |{' --: |' * len(heads)}"]
    for name, values in measures.items():
        lines.append(f"| {name} | {' | '.join(_format_number(values.get(head)) for head in heads)} |")
    return "\n".join([*lines, "", "Losses are nats a token.", ""])


def _format_number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3f}"
