"""A report as one HTML page that needs nothing else: pictures, looks and the script that sorts tables lie inside."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mas_hooks.core.errors import EmptyError, SettingError, ShapeError
from mas_hooks.core.files import write_file
from mas_hooks.report import style
from mas_hooks.report.data.sheets import Sheet, SheetLine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PNG = b"\x89PNG\r\n\x1a\n"
_NUMBER = re.compile(r"[+\-−]?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_STYLE = f"""
body {{ font: 16px/1.5 system-ui, sans-serif; color: {style.INK}; max-width: 72rem;
  margin: 2rem auto; padding: 0 1rem }}
h1, h2, h3 {{ line-height: 1.2 }}
figure {{ margin: 1.5rem 0 }}
img {{ max-width: 100%; height: auto }}
figcaption, .note {{ color: {style.SOFT} }}
.wide {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-size: 0.9rem }}
caption {{ text-align: left; font-weight: bold; padding: 0.3rem 0 }}
th, td {{ padding: 0.25rem 0.7rem; border-bottom: 1px solid {style.FAINT}; text-align: left; vertical-align: top }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums }}
th button {{ font: inherit; font-weight: bold; color: inherit; background: none; border: 0;
  padding: 0; cursor: pointer }}
th[aria-sort=ascending] button::after {{ content: " ▲" }}
th[aria-sort=descending] button::after {{ content: " ▼" }}
tr.worst td {{ font-weight: bold }}
tr.control td {{ color: {style.SOFT}; font-style: italic }}
pre {{ overflow-x: auto; background: #f7f7f7; padding: 0.8rem }}
"""
_SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const value = row => {
      const cell = row.cells[column];
      return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
    };
    const order = (one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === "" || b === "") return (a === "") - (b === "");
      if (typeof a === "number" && typeof b === "number") return sign * (a - b);
      return sign * String(a).localeCompare(String(b), "en", {numeric: true});
    };
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    body.append(...[...body.rows].sort(order));
  }));
}
"""


@dataclass(frozen=True)
class Section:
    """One part of the page: paragraphs, then figures by their captions (drawn, or as PNG), then tables."""

    heading: str
    paragraphs: Sequence[str] = ()
    figures: Mapping[str, Figure | bytes] | None = None
    tables: Sequence[Sheet] = ()


def html_page(
    title: str,
    sections: Sequence[Section],
    *,
    settings: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
) -> str:
    """The page as text; nothing in it is loaded from elsewhere, and its policy forbids that too.

    Every table sorts by a click on a column's name: by number where a cell begins with one, empty cells last. settings
    and environment stand at the end, to be read and as data (`<script type="application/json">`). Raises EmptyError
    without sections, ShapeError for a table whose lines are not as long as its columns, and SettingError for a figure
    that is no picture.
    """
    if not sections:
        raise EmptyError("the page of the report", "give at least one section")
    told = {"Settings": settings, "Environment": environment}
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        f"<h1>{escape(title)}</h1>",
        *(line for section in sections for line in _section(section)),
        *(line for name, content in told.items() if content is not None for line in _data(name, content)),
        f"<script>{_SCRIPT}</script>",
        "</body>",
        "</html>",
        "",
    ]
    return "\n".join(parts)


def save_html(path: Path | str, page: str) -> Path:
    """Write a page whole, or not at all. Raises OutputFolderError where that cannot be done."""
    return write_file(path, page, "free some space, make the folder or make it writable, then write the page again")


def _section(section: Section) -> Iterator[str]:
    yield from ("<section>", f"<h2>{escape(section.heading)}</h2>")
    yield from (f"<p>{escape(text)}</p>" for text in section.paragraphs)
    for caption, picture in (section.figures or {}).items():
        yield f'<figure><img alt="{escape(caption)}" src="{_inline(caption, picture)}">'
        yield f"<figcaption>{escape(caption)}</figcaption></figure>"
    for sheet in section.tables:
        yield from _table(sheet)
    yield "</section>"


def _inline(caption: str, picture: Figure | bytes) -> str:
    """A picture as an address that holds it."""
    if not isinstance(picture, bytes):
        buffer = BytesIO()
        picture.savefig(buffer, format="png", metadata={"Software": None})
        picture = buffer.getvalue()
    if not picture.startswith(_PNG):
        raise SettingError(f"the figure {caption!r}", picture[:8], "a figure, or the bytes of a PNG file")
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _table(sheet: Sheet) -> Iterator[str]:
    for line in sheet.lines:
        if len(line.cells) != len(sheet.columns):
            needed = f"({len(sheet.columns)},), a cell for each column,"
            raise ShapeError(f"a line of the table {sheet.title!r}", (len(line.cells),), needed)
    heads = "".join(f'<th scope="col"><button type="button">{escape(head)}</button></th>' for head in sheet.columns)
    yield f'<div class="wide"><table class="sortable"><caption>{escape(sheet.title)}</caption>'
    yield f"<thead><tr>{heads}</tr></thead><tbody>"
    for line in sheet.lines:
        yield f"<tr{_kind(line)}>{''.join(map(_cell, line.cells))}</tr>"
    yield "</tbody></table></div>"
    worst = "Bold: the worst direction of its fit. " if sheet.marked else ""
    if worst or sheet.note:
        yield f'<p class="note">{escape((worst + sheet.note).strip())}</p>'


def _kind(line: SheetLine) -> str:
    return ' class="control"' if line.control else ' class="worst"' if line.worst else ""


def _cell(text: str) -> str:
    """A cell that begins with a number carries it: intervals sort by their lower end."""
    number = _NUMBER.match(text)
    if number is None:
        return f"<td>{escape(text)}</td>"
    return f'<td class="number" data-value="{number[0].replace("−", "-")}">{escape(text)}</td>'


def _data(name: str, content: Mapping[str, Any]) -> Iterator[str]:
    written = json.dumps(content, indent=2, ensure_ascii=False)
    within = written.replace("<", "\\u003c")  # so that no name in it can end the script
    yield f"<section><details><summary>{name}</summary><pre>{escape(written)}</pre></details>"
    yield f'<script type="application/json" id="{name.lower()}">{within}</script></section>'
