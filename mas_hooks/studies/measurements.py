"""Rows of a benchmark: one flat object each, in a JSON list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from mas_hooks.core.files import ensure_writable, write_json


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One variant of a benchmark. A field that does not apply is None.

    ms_*: milliseconds of what `bench` repeats; tokens_per_s, pairs_per_s: throughput at the median; peak_mb: peak
    resident memory, on a GPU peak of what is allocated; floor_share: share of the hardware's floor; ratio: this
    variant's median over ours (of a plain forward: over the bare one), same run.
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


def peak_mb(call: Callable[[], object], device: str = "cpu") -> float | None:
    """Peak memory in MB while a call runs: allocated on a GPU, else resident; None where the system does not report it.

    What the process holds already counts too.
    """
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) / 2**20
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not clear.exists():
        return None
    clear.write_text("5")
    call()
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


def check_writable(path: Path) -> None:
    """Raise OutputFolderError before any long work where the JSON file could not be written."""
    ensure_writable(path.absolute().parent)


def write_measurements(path: Path, rows: Sequence[Measurement]) -> None:
    """Write the rows as a JSON list, whole or not at all. Raises OutputFolderError where it cannot."""
    write_json(path, [{key: value for key, value in asdict(row).items() if value is not None} for row in rows])


def show_measurements(rows: Sequence[Measurement]) -> None:
    """Print the rows as a table; what is the same in all of them stands in its title."""
    values = {key: [getattr(row, key) for row in rows] for key in asdict(rows[0])}
    same = {key: cells[0] for key, cells in values.items() if len(set(cells)) == 1 and key != "variant"}
    title = ", ".join(f"{key} {value}" for key, value in same.items() if key != "bench" and value is not None)
    table = Table(title=f"{rows[0].bench}: {title}", title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    shown = [key for key in values if key not in same]
    for key in shown:
        table.add_column(key.replace("_", "\n"), justify="left" if key == "variant" else "right", no_wrap=True)
    for index in range(len(rows)):
        table.add_row(*(_cell(values[key][index]) for key in shown))
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
