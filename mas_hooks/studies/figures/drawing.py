"""Draws the panels of the recipe `figures` and writes `figures.md`, from records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mas_hooks import report
from mas_hooks.core.files import write_file
from mas_hooks.core.records import Record
from mas_hooks.studies.figures import page as pages
from mas_hooks.studies.figures import results
from mas_hooks.studies.figures.fits import Shown
from mas_hooks.studies.figures.results import Key, Value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PanelValues = Mapping[tuple[str, str, str], Value]
"""The values of one panel by title of the part, group and key."""
CONTROLS = ("untrained", "shuffled labels")

HEADINGS = {
    "a": ("Causal transfer beside correlation: seeds and architectures on one task", "Multi-Object."),
    "b": (
        "How many dims carry the behaviour",
        "Two Multi-Object GRUs, Full: subspace size of MAS and DAS, rank of a stitch.",
    ),
    "c": ("One model that may only be recorded", "Two Multi-Object GRUs, Full. No access: into the recorded model."),
    "d": ("One count, other tasks", "Count, from and into a Multi-Object GRU."),
    "e": ("Same-Object Count: one way or both ways", "GRUs."),
    "f": ("Numbers in Arithmetic and in counting", "GRUs."),
    "g": ("Stepwise MAS on the embeddings", "Full behaviour: every position up to the intervened one is swapped."),
}
FLOORS = "Floor: the same pairs without a swap"
OTHER_FLOORS = {"a": "; for RSA and CKA, untrained copies", "e": "; for null shares, the source as its own target"}
BOUNDS = {"c": "MAS, the same direction"}


def draw_panels(run_dir: Path, marks: Sequence[Shown], rows: Sequence[Record], letters: Sequence[str]) -> list[Path]:
    """Draw the panels whose values are among the records, and write `figures.md`.

    Every file appears whole under its name, or not at all.

    Args:
        run_dir: The folder of the run.
        marks: Everything that the panels show, over all seeds.
        rows: The records of the run.
        letters: The panels to draw, from a to g.

    Returns:
        The paths of the figures and of the page.
    """
    values = {
        **results.gather_results(marks, rows),
        **results.read_correlations(rows),
        **results.read_null_shares(rows),
    }
    drawings = {
        f"{letter}.png": _draw_panel(letter, values) for letter in letters if any(key[0] == letter for key in values)
    }
    paths = report.save_figures(run_dir / "figures", drawings)
    page = pages.write_figures_page(values, rows, list(drawings)) + pages.list_missing(marks, values)
    return [*paths, write_file(run_dir / "figures.md", page)]


def _draw_panel(letter: str, values: Mapping[Key, Value]) -> Figure:
    """The figure of a panel."""
    panel_values = {key[1:]: value for key, value in values.items() if key[0] == letter}
    title, subtitle = HEADINGS[letter]
    if letter == "b":
        return report.rank_curves(
            _rank_lines(panel_values), title=title, subtitle=subtitle, unit="IIA of the worst trained direction"
        )
    floors = f"{FLOORS}{OTHER_FLOORS.get(letter, '')}."
    panels = [
        report.GroupPanel(_panel_title(part), _bar_groups(part, panel_values))
        for part in dict.fromkeys(key[0] for key in panel_values)
    ]
    bound = {"reference": BOUNDS.get(letter, "itself (DAS, the lower of both)")}
    right = {"a": "RSA, CKA", "e": "null share"}.get(letter)
    return report.grouped_bars(panels, title=title, subtitle=f"{subtitle} {floors}", left="IIA", right=right, **bound)


def _panel_title(part: str) -> str:
    return "Read of what behaviour ignores" if part == "null" else part


def _bar_groups(part: str, panel_values: PanelValues) -> tuple[report.Group, ...]:
    groups: dict[str, list[report.GroupBar]] = {}
    for (title, group, key), value in panel_values.items():
        if title == part:
            groups.setdefault(f"τ = {group}" if part == "null" else group, []).append(_make_bar(key, value, part))
    return tuple(report.Group(name, tuple(bars)) for name, bars in groups.items())


def _make_bar(key: str, value: Value, part: str) -> report.GroupBar:
    control = next((name for name in CONTROLS if key.endswith(f", {name}")), "")
    return report.GroupBar(
        label=control or key,
        values=value.seeds,
        low=value.low,
        high=value.high,
        floor=value.floor,
        reference=value.bound,
        axis="right" if part == "null" or key in ("RSA", "CKA") else "left",
        control=bool(control),
        key=control or key,
    )


def _rank_lines(panel_values: PanelValues) -> list[report.RankLine]:
    lines = []
    for key in dict.fromkeys(name for _, _, name in panel_values):
        by_size = {int(group): value for (_, group, name), value in panel_values.items() if name == key}
        values = [by_size[size] for size in sorted(by_size)]
        lines.append(
            report.RankLine(
                label=key,
                sizes=tuple(sorted(by_size)),
                values=tuple(value.mean for value in values),
                low=tuple(value.low for value in values),
                high=tuple(value.high for value in values),
                floor=values[0].floor,
                control=key.endswith(CONTROLS),
                seeds=tuple(zip(*(value.seeds for value in values), strict=True)),
            )
        )
    return lines
