"""The tables of a report, for a terminal (rich) and for a page (Markdown)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich import box
from rich.markup import escape
from rich.table import Table

from mas_hooks.core.errors import EmptyError
from mas_hooks.core.records import Record
from mas_hooks.report.data.sheets import Sheet, SheetLine, result_sheets

_WORDS = ("control", "method", "task", "source → target", "start", "measure", "models", "site", "pair", "kind", "model")
_SAID_ONCE = ("control", "method", "task", "start")


def results_table(records: Iterable[Record]) -> Table:
    """Make a table for a terminal: every final direction by comparison, controls below and dim, worst directions bold.

    RSA and CKA stand in a table below. Cells that repeat the line above within one fit stay empty. Fits 100 columns
    with names of usual length. Raises EmptyError when there is neither a final row nor a similarity.

    Example:
        >>> from mas_hooks import Record
        >>> from mas_hooks.report import results_table
        >>> ends = {"source": 0, "target": 1, "source_model": "gru", "target_model": "lstm"}
        >>> table = results_table([Record(method="mas", variable="count", split="test", iia=0.9, **ends)])
        >>> type(table).__name__, table.row_count
        ('Table', 1)
    """
    grid = Table.grid(padding=(0, 0, 1, 0))
    grid.add_column()
    for sheet in _make_sheets(records):
        grid.add_row(_render(sheet))
    return grid


def markdown_table(records: Iterable[Record]) -> str:
    """Write the tables of `results_table` in GitHub's Markdown, every cell in full, so that lines can be searched.

    Raises EmptyError when there is neither a final row nor a similarity.

    Example:
        >>> from mas_hooks import Record
        >>> from mas_hooks.report import markdown_table
        >>> ends = {"source": 0, "target": 1, "source_model": "gru", "target_model": "lstm"}
        >>> row = Record(method="mas", variable="count", split="test", iia=0.9, **ends)
        >>> print(markdown_table([row]).splitlines()[4])
        | MAS · count | gru → lstm | 0.900 |
    """
    return "\n".join(line for sheet in _make_sheets(records) for line in format_sheet(sheet))


def _make_sheets(records: Iterable[Record]) -> list[Sheet]:
    sheets = result_sheets(records)
    if not sheets:
        raise EmptyError("the table", "it needs test rows with an IIA, or rows with a similarity measure")
    return sheets


def _render(sheet: Sheet) -> Table:
    inner = Table(title=escape(sheet.title), caption=_note(sheet, "*") or None, box=box.SIMPLE_HEAD, padding=0)
    inner.title_justify = inner.caption_justify = "left"
    inner.title_style, inner.caption_style = "bold", "dim"
    for head in sheet.columns:
        if head in _WORDS:
            inner.add_column(head, vertical="top", no_wrap=head == "source → target")
        else:
            inner.add_column(head.replace(" ", "\n"), justify="right", no_wrap=True)
    before = SheetLine(())
    for line in sheet.lines:
        if line.control and not before.control:
            inner.add_section()
        style = "dim italic" if line.control else "bold" if line.worst else ""
        inner.add_row(*map(escape, _shorten(sheet.columns, before, line)), style=style)
        before = line
    return inner


def _shorten(heads: tuple[str, ...], before: SheetLine, line: SheetLine) -> Iterator[str]:
    """Leave out a word that the line above already says, and star the worst IIA."""
    same_fit = before.cells and before.group == line.group
    for index, (head, cell) in enumerate(zip(heads, line.cells, strict=True)):
        if head in _SAID_ONCE and same_fit and before.cells[index] == cell:
            yield ""
        elif head == "IIA" and line.worst:
            yield f"*{cell}"
        else:
            yield cell


def format_sheet(sheet: Sheet) -> Iterator[str]:
    """Give the lines of one table in GitHub's Markdown, under its title.

    Example:
        >>> from mas_hooks.report import Sheet, SheetLine, format_sheet
        >>> sheet = Sheet("Every direction", ("models", "IIA"), (SheetLine(("gru × lstm", "0.930")),))
        >>> list(format_sheet(sheet))[:3]
        ['### Every direction', '', '| models | IIA |']
    """
    yield from (f"### {sheet.title}", "")
    yield f"| {' | '.join(sheet.columns)} |"
    yield "|" + "|".join(" :-- " if head in _WORDS else " --: " for head in sheet.columns) + "|"
    for line in sheet.lines:
        cells = [cell.replace("|", "\\|") for cell in line.cells]
        if line.worst:
            cells = [f"**{cell}**" if head == "IIA" else cell for head, cell in zip(sheet.columns, cells, strict=True)]
        yield f"| {' | '.join(cells)} |"
    yield from ("", _note(sheet, "Bold"), "")


def _note(sheet: Sheet, mark: str) -> str:
    worst = f"{mark}: the worst direction of its fit. " if sheet.marked else ""
    return (worst + sheet.note).strip()
