"""The tables of a report as plain text cells, before anyone renders them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mas_hooks.core.records import Record
from mas_hooks.report.data import fits, names


@dataclass(frozen=True)
class SheetLine:
    """One row of cells; `group` counts the fits, so that a reader can see where the next one begins.

    Example:
        >>> from mas_hooks.report import SheetLine
        >>> SheetLine(("gru → lstm", "0.930"), worst=True).cells[0]
        'gru → lstm'
    """

    cells: tuple[str, ...]
    group: int = 0
    worst: bool = False
    control: bool = False


@dataclass(frozen=True)
class Sheet:
    """One table: what it is about, its columns, its lines, and what must be known to read it.

    Example:
        >>> from mas_hooks.report import Sheet, SheetLine
        >>> Sheet("Every direction", ("direction", "IIA"), (SheetLine(("gru → lstm", "0.930"), worst=True),)).marked
        True
    """

    title: str
    columns: tuple[str, ...]
    lines: tuple[SheetLine, ...]
    note: str = ""

    @property
    def marked(self) -> bool:
        """Whether a line is marked as the worst direction of its fit."""
        return any(line.worst for line in self.lines)


@dataclass(frozen=True)
class _Column:
    head: str
    cell: Callable[[Record], str]


def result_sheets(records: Iterable[Record]) -> list[Sheet]:
    """Make a sheet for each comparison and one for the correlational measures; those without rows are left out."""
    records = list(records)
    return [*_iia(records), *_similarity(records)]


def _iia(records: list[Record]) -> list[Sheet]:
    gathered: dict[str, list[fits.FitRows]] = {}
    for fit in fits.group_fits(records):
        gathered.setdefault(fit.comparison, []).append(fit)
    known = fits.task_accuracies(records)
    return [_sheet(comparison, members, known) for comparison, members in gathered.items()]


def _sheet(comparison: str, members: list[fits.FitRows], known: dict[str, float]) -> Sheet:
    rows = [row for fit in members for row in fit.rows]
    columns = _columns(rows)
    heads = tuple(column.head for column in columns)
    title = f"Interchange intervention accuracy: {comparison}{_common(rows)}"
    return Sheet(title, heads, _lines(members, columns), _note(members) + _knowledge(members, known))


def _knowledge(members: list[fits.FitRows], known: dict[str, float]) -> str:
    """How well the models know their task: an IIA of models that do not says little."""
    models = dict.fromkeys(row.target_model or "" for fit in members for row in fit.rows)
    shares = ", ".join(f"{model} {known[model]:.2%}" for model in models if model in known)
    return f" Trials right without any swap on the models' own task: {shares}." if shares else ""


def _common(rows: list[Record]) -> str:
    """What all rows share and therefore needs no column: dims and start."""
    dims, starts = {row.k for row in rows}, {names.start_title(row) for row in rows}
    common = [f"{row.k} dims" for row in rows[:1] if len(dims) == 1 and row.k is not None]
    common += [f"{start} start" for start in starts if len(starts) == 1 and start]
    return f" ({', '.join(common)})" if common else ""


def _lines(members: list[fits.FitRows], columns: list[_Column]) -> tuple[SheetLine, ...]:
    lines = []
    for group, fit in enumerate(members):
        worst = fit.worst() if len(fit.rows) > len(fit.worst()) else []
        for row in fit.rows:
            cells = tuple(column.cell(row) for column in columns)
            lines.append(SheetLine(cells, group, any(row is lowest for lowest in worst), bool(fit.control)))
    return tuple(lines)


def _note(members: list[fits.FitRows]) -> str:
    notes = []
    if any(row.floor is not None for fit in members for row in fit.rows):
        notes.append("Floor: the same pairs without a swap.")
    if any(fit.control for fit in members):
        notes.append("A high IIA that the controls share is no evidence.")
    return " ".join(notes)


def _columns(rows: list[Record]) -> list[_Column]:
    named = names.EndNames.of(rows)
    every = [
        _Column("control", names.control_title),
        _Column("method", names.fit_title),
        _Column("task", lambda row: (row.task or "") if len({row.task for row in rows}) > 1 else ""),
        _Column("source → target", named.direction),
        _Column("k", lambda row: _count(row.k) if len({row.k for row in rows}) > 1 else ""),
        _Column("IIA", lambda row: _share(row.iia)),
        _Column("95% interval", lambda row: _interval(row.iia_low, row.iia_high)),
        _Column("tokens", lambda row: _share(row.token_accuracy)),
        _Column("floor", lambda row: _share(row.floor)),
        _Column("trials", lambda row: _count(row.trials)),
        _Column("start", lambda row: names.start_title(row) if len({row.init for row in rows}) > 1 else ""),
        _Column("seed", lambda row: _count(row.seed) if len({row.seed for row in rows}) > 1 else ""),
    ]
    return [column for column in every if any(column.cell(row) for row in rows)]


def _similarity(records: list[Record]) -> list[Sheet]:
    rows = fits.similarity_rows(records)
    if not rows:
        return []
    named = names.EndNames.of(rows)
    every = [
        _Column("control", names.control_title),
        _Column("measure", lambda row: (row.measure or "").upper()),
        _Column("models", named.pair),
        _Column("site", lambda row: "" if named.layered else " × ".join(dict.fromkeys(filter(None, _sites(row))))),
        _Column("value", lambda row: _share(row.value)),
        _Column("spread", lambda row: _interval(row.value_low, row.value_high)),
        _Column("seed", lambda row: _count(row.seed) if len({row.seed for row in rows}) > 1 else ""),
    ]
    columns = [column for column in every if any(column.cell(row) for row in rows)]
    lines = tuple(
        SheetLine(tuple(column.cell(row) for column in columns), control=row.control is not None)
        for row in sorted(rows, key=lambda row: row.control is not None)
    )
    return [Sheet("Correlational similarity", tuple(column.head for column in columns), lines)]


def _sites(row: Record) -> tuple[str | None, str | None]:
    return row.source_site, row.target_site


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3f}–{high:.3f}"


def _count(value: int | None) -> str:
    return "" if value is None else str(value)
