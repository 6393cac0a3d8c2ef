"""What a paper says beside what a run found, as a table for a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mas_hooks.core.errors import EmptyError

_COLUMNS = ("panel", "what", "ours", "paper", "agrees?")
_WORDS = {True: "yes", False: "**no**", None: "not comparable"}


@dataclass(frozen=True)
class Claim:
    """One statement of a paper and what we found; `agrees` is None where the two cannot be compared."""

    panel: str
    what: str
    ours: str
    paper: str
    agrees: bool | None
    why: str = ""


def claims_table(rows: Sequence[Claim], header: str) -> str:
    """The claims in GitHub's Markdown: the header sentence, how many agree, and a line for each with its reason.

    Raises EmptyError without claims.
    """
    if not rows:
        raise EmptyError("the table of claims", "give at least one claim")
    cells = [(row.panel, row.what, row.ours, row.paper, _verdict(row)) for row in rows]
    lines = [_line(_COLUMNS), "|" + " :-- |" * len(_COLUMNS), *(_line(line) for line in cells)]
    return "\n".join([header, "", _count(rows), "", *lines, ""])


def _verdict(row: Claim) -> str:
    return f"{_WORDS[row.agrees]}: {row.why}" if row.why else _WORDS[row.agrees]


def _count(rows: Sequence[Claim]) -> str:
    told = [row.agrees for row in rows if row.agrees is not None]
    claims = "claim agrees" if len(told) == 1 else "claims agree"
    rest = len(rows) - len(told)
    return f"{sum(told)} of {len(told)} {claims}" + (f"; {rest} not comparable." if rest else ".")


def _line(cells: Sequence[str]) -> str:
    written = (" ".join(cell.split()).replace("\\", "\\\\").replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(written)} |"
