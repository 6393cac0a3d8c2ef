"""The figures of a run folder, drawn from its records alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from mas_hooks.core import records
from mas_hooks.core.errors import CheckpointError, EmptyError, OutputFolderError
from mas_hooks.core.files import replace_file
from mas_hooks.core.records import Record
from mas_hooks.report.data import fits
from mas_hooks.report.data.panels import model_panels
from mas_hooks.report.figures.bars import iia_bars
from mas_hooks.report.figures.curves import iia_curves
from mas_hooks.report.figures.heatmap import direction_heatmap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# File name, what draws it, and what must not be empty for it to be drawn.
_FIGURES: tuple[tuple[str, Callable[[Iterable[Record]], Figure], Callable[[list[Record]], list]], ...] = (
    ("direction_heatmap.png", direction_heatmap, fits.result_rows),
    ("iia_bars.png", iia_bars, model_panels),
    ("iia_curves.png", iia_curves, fits.curve_rows),
)


def draw_run(run_dir: Path | str) -> list[Path]:
    """Draw the figures that the records of a run allow into its `figures/`, and return their paths.

    All are drawn before the first is written, and each appears whole under its name. Raises CheckpointError for a
    folder without records, EmptyError for records that give no figure, and OutputFolderError when it cannot write.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from mas_hooks import Record
        >>> from mas_hooks.core.records import write_records
        >>> from mas_hooks.report import draw_run
        >>> rows = [Record(method="mas", split="valid", source=0, target=1, step=step, iia=0.5) for step in (0, 10)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_records(Path(folder) / "records.jsonl", rows)
        ...     [path.name for path in draw_run(folder)]
        ['iia_curves.png']
    """
    run_dir = Path(run_dir)
    rows = _read_run(run_dir)
    _check_writable(run_dir / "figures")
    figures = {name: draw(rows) for name, draw, select in _FIGURES if select(rows)}
    if not figures:
        raise EmptyError(
            f"the report of {run_dir}", "its records hold no test rows, no validation curves and no RSA or CKA yet"
        )
    return save_figures(run_dir / "figures", figures)


def save_figures(folder: Path, figures: Mapping[str, Figure]) -> list[Path]:
    """Write figures as PNG under their names, each whole. Raises OutputFolderError when that cannot be done.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from matplotlib.figure import Figure
        >>> from mas_hooks.report import save_figures
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in save_figures(Path(folder), {"empty.png": Figure((1, 1))})]
        ['empty.png']
    """
    _check_writable(folder)
    pictures = {folder / name: _png(figure) for name, figure in figures.items()}
    _write(folder, pictures)
    return list(pictures)


def _read_run(run_dir: Path) -> list[Record]:
    path = run_dir / "records.jsonl"
    if not path.is_file():
        problem = "it has no records.jsonl" if run_dir.is_dir() else "there is no such folder"
        raise CheckpointError(run_dir, problem, "give the folder that a recipe wrote")
    rows = records.read_records(path)
    if not rows:
        raise EmptyError(str(path), "let the run finish, or continue it with --resume")
    return rows


def _check_writable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputFolderError(folder, "it is a file, not a folder", "move that file away")
    lowest = folder if folder.exists() else folder.parent
    if not os.access(lowest, os.W_OK | os.X_OK):
        raise OutputFolderError(lowest, "it is read-only", "make it writable, or copy the run elsewhere")


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _write(folder: Path, pictures: dict[Path, bytes]) -> None:
    """All pictures under their names, or none of them."""
    remedy = "free some space or make it writable, then draw again"
    with OutputFolderError.while_writing(folder, remedy):
        folder.mkdir(exist_ok=True)
    with ExitStack() as whole:  # renamed only when all of them are written
        for path, temporary in [(path, whole.enter_context(replace_file(path, remedy))) for path in pictures]:
            temporary.write_bytes(pictures[path])
