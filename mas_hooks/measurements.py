"""Rows of a benchmark: one flat object each, in a JSON list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mas_hooks.checkpoints import writable


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One variant of a benchmark. None does not apply.

    ms_*: milliseconds of what `bench` repeats; tokens_per_s, pairs_per_s: throughput at the median; peak_mb: peak
    resident memory; floor_share: share of the hardware's floor; ratio: this variant's median over ours, same run.
    """

    bench: str
    variant: str
    method: str | None = None
    backend: str | None = None
    device: str | None = None
    dtype: str | None = None
    batch: int | None = None
    length: int | None = None
    width: int | None = None
    rank: int | None = None
    layer: int | None = None
    models: int | None = None
    ms_median: float | None = None
    ms_min: float | None = None
    ms_max: float | None = None
    tokens_per_s: float | None = None
    pairs_per_s: float | None = None
    peak_mb: float | None = None
    floor_share: float | None = None
    ratio: float | None = None
    loss: float | None = None


def check_writable(path: Path) -> None:
    """Raise OutputFolderError before any long work where the JSON file could not be written."""
    writable(path.absolute().parent)


def write(path: Path, rows: Sequence[Measurement]) -> None:
    """Write the rows under a temporary name, then rename."""
    temporary = path.with_name(f".{path.name}.tmp")
    told = [{key: value for key, value in asdict(row).items() if value is not None} for row in rows]
    temporary.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def show(rows: Sequence[Measurement]) -> None:
    """Print the rows as a table, leaving out columns that apply to none."""
    keys = [key for key in asdict(rows[0]) if any(getattr(row, key) is not None for row in rows)]
    table = Table()
    for key in keys:
        table.add_column(key.replace("_", "\n"), justify="left" if key in ("bench", "variant") else "right")
    for row in rows:
        cells = [getattr(row, key) for key in keys]
        table.add_row(
            *("" if cell is None else f"{cell:,.4g}" if isinstance(cell, float) else str(cell) for cell in cells)
        )
    Console().print(table)
