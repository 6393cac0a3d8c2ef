"""Progress bars: one line a process, so that parallel work does not write over itself."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm

_line = 0


def take_line(line: int) -> None:
    """From now on this process draws its bars on that line."""
    global _line  # noqa: PLW0603
    _line = line


def progress_bar(
    total: int | None, label: str, *, initial: int = 0, shown: bool = True, line: int | None = None
) -> tqdm[Any]:
    """A bar that vanishes when its work is done; nothing with shown=False, or where the output is no terminal.

    line: where it is drawn, default the line of this process.
    """
    return tqdm(
        total=total,
        initial=initial,
        desc=label,
        position=_line if line is None else line,
        leave=False,
        disable=None if shown else True,  # None: drawn only where somebody can watch
        bar_format="{desc:<24} {bar:24} {n_fmt}/{total_fmt} [{elapsed}<{remaining}] {postfix}",
    )


def say(text: str) -> None:
    """Print a line without tearing the bars."""
    tqdm.write(text)
