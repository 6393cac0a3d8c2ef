"""A report as one HTML page that needs nothing else; what it looks like stands in `page.html.j2`."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mas_hooks.core.errors import EmptyError, SettingError, ShapeError
from mas_hooks.core.files import write_file
from mas_hooks.report import style
from mas_hooks.report.data.sheets import Sheet

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure

_PNG = b"\x89PNG\r\n\x1a\n"
_NUMBER = re.compile(r"[+\-−]?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Section:
    """One part of a page: paragraphs, then figures by their captions (drawn, or as PNG), then tables.

    Example:
        >>> from mas_hooks.report import Section
        >>> verdict = Section("In plain words", ["Both models count in the same dims."])
        >>> verdict.heading
        'In plain words'
    """

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
    """Write a page as text; it loads nothing from elsewhere, and its security policy forbids that too.

    Every table sorts by a click on a column's name: by number where a cell begins with one, empty cells last.

    Args:
        title: The heading and the name of the page.
        sections: The parts of the page, in their order.
        settings: Shown at the end, to be read and as data (`<script type="application/json">`).
        environment: The same, below the settings.

    Returns:
        The text of the page.

    Raises:
        EmptyError: There are no sections.
        ShapeError: A table has a line that is not as long as its columns.
        SettingError: A figure is neither a drawing nor the bytes of a PNG file.

    Example:
        >>> from mas_hooks.report import Section, html_page
        >>> page = html_page("Two GRUs", [Section("In plain words", ["IIA is < 0.1 & so on."])])
        >>> "<p>IIA is &lt; 0.1 &amp; so on.</p>" in page
        True
    """
    if not sections:
        raise EmptyError("the page of the report", "give at least one section")
    for section in sections:
        for sheet in section.tables:
            _check_lengths(sheet)
    data = {"Settings": settings, "Environment": environment}
    return _load_template().render(title=title, sections=sections, data=data, look=style)


def save_html(path: Path | str, page: str) -> Path:
    """Write a page whole, or not at all. Raises OutputFolderError when that cannot be done.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from mas_hooks.report import save_html
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_html(Path(folder) / "report.html", "<!DOCTYPE html>").name
        'report.html'
    """
    return write_file(path, page, "free some space, make the folder or make it writable, then write the page again")


@cache
def _load_template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("mas_hooks.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    environment.filters |= {"inline": _inline, "leading_number": _leading_number, "write_json": _write_json}
    return environment.get_template("page.html.j2")


def _check_lengths(sheet: Sheet) -> None:
    for line in sheet.lines:
        if len(line.cells) != len(sheet.columns):
            needed = f"({len(sheet.columns)},), a cell for each column,"
            raise ShapeError(f"a line of the table {sheet.title!r}", (len(line.cells),), needed)


def _inline(picture: Figure | bytes, caption: str) -> str:
    """A picture as an address that holds it."""
    if not isinstance(picture, bytes):
        buffer = BytesIO()
        picture.savefig(buffer, format="png", metadata={"Software": None})
        picture = buffer.getvalue()
    if not picture.startswith(_PNG):
        raise SettingError(f"the figure {caption!r}", picture[:8], "a figure, or the bytes of a PNG file")
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _leading_number(text: str) -> str:
    """The number that a cell begins with, or nothing: intervals sort by their lower end."""
    number = _NUMBER.match(text)
    return number[0].replace("−", "-") if number else ""


def _write_json(content: Mapping[str, Any]) -> str:
    """The data as a reader sees them; the filter `tojson` also escapes what could end the script."""
    return json.dumps(content, indent=2, ensure_ascii=False)
