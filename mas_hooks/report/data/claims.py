"""What a paper says beside what a run found, as a table for a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mas_hooks.core.errors import EmptyError

_COLUMNS = ("panel", "what", "ours", "paper", "agrees?")
_WORDS = {True: "yes", False: "**no**", None: "not comparable"}


@dataclass(frozen=True)
class Claim:
    """One statement of a paper and what a run found.

    Args:
        panel: Where the paper says it.
        what: What it says something about.
        ours: What the run found.
        paper: What the paper found.
        agrees: Whether the two agree, or None where they cannot be compared.
        why: The reason for that.

    Example:
        >>> from mas_hooks.report import Claim
        >>> Claim("a", "GRUs, hidden state", ours="0.93", paper="0.95", agrees=True).agrees
        True
    """

    panel: str
    what: str
    ours: str
    paper: str
    agrees: bool | None
    why: str = ""


def claims_table(rows: Sequence[Claim], header: str) -> str:
    """Write claims in GitHub's Markdown: the header sentence, how many agree, and a line for each with its reason.

    Raises EmptyError without claims.

    Example:
        >>> from mas_hooks.report import Claim, claims_table
        >>> claim = Claim("a", "GRUs, hidden state", ours="0.93", paper="0.95", agrees=True)
        >>> print(claims_table([claim], "Shares within 0.05 agree."))
        Shares within 0.05 agree.
        <BLANKLINE>
        1 of 1 claim agrees.
        <BLANKLINE>
        | panel | what | ours | paper | agrees? |
        | :-- | :-- | :-- | :-- | :-- |
        | a | GRUs, hidden state | 0.93 | 0.95 | yes |
        <BLANKLINE>
    """
    if not rows:
        raise EmptyError("the table of claims", "give at least one claim")
    cells = [(row.panel, row.what, row.ours, row.paper, _verdict(row)) for row in rows]
    lines = [_line(_COLUMNS), "|" + " :-- |" * len(_COLUMNS), *(_line(line) for line in cells)]
    return "\n".join([header, "", _count(rows), "", *lines, ""])


def _verdict(row: Claim) -> str:
    return f"{_WORDS[row.agrees]}: {row.why}" if row.why else _WORDS[row.agrees]


def _count(rows: Sequence[Claim]) -> str:
    verdicts = [row.agrees for row in rows if row.agrees is not None]
    claims = "claim agrees" if len(verdicts) == 1 else "claims agree"
    rest = len(rows) - len(verdicts)
    return f"{sum(verdicts)} of {len(verdicts)} {claims}" + (f"; {rest} not comparable." if rest else ".")


def _line(cells: Sequence[str]) -> str:
    written = (" ".join(cell.split()).replace("\\", "\\\\").replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(written)} |"
