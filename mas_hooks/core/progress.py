"""Progress bars: one line for each process, so that parallel work does not write over itself."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm

_line = 0


def take_line(line: int) -> None:
    """Draw the bars of this process on that line from now on."""
    global _line  # noqa: PLW0603
    _line = line


def progress_bar(
    total: int | None, label: str, *, initial: int = 0, shown: bool = True, line: int | None = None
) -> tqdm[Any]:
    """A bar that vanishes when its work is done; none when the output is no terminal.

    Args:
        total: how many steps the work has; None when nobody knows.
        label: the words in front of the bar.
        initial: steps that were done before.
        shown: False draws nothing.
        line: where to draw it, default the line of this process.

    Returns:
        The bar: call its `update()` after each step, and `close()` at the end or use it in a `with`.
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
