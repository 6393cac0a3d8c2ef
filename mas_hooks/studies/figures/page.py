"""Writes `figures.md` of the recipe `figures`: claims beside our values, and every value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mas_hooks import report
from mas_hooks.core.records import Record
from mas_hooks.studies.figures import claims, rules
from mas_hooks.studies.figures.fits import Shown
from mas_hooks.studies.figures.results import Key, Value


def list_missing(marks: Iterable[Shown], values: Mapping[Key, Value]) -> str:
    """A paragraph that lists the marks without a value: a model of theirs did not learn its task."""
    keys = dict.fromkeys((mark.panel, mark.title, mark.group, mark.key) for mark in marks)
    left = ["; ".join(part for part in key if part) for key in keys if key not in values]
    lines = "\n".join(f"- {name}" for name in left)
    return f"\nNot run, as a model is short of the stop rule of training:\n\n{lines}\n" if left else ""


def write_figures_page(values: Mapping[Key, Value], rows: Sequence[Record], names: Sequence[str]) -> str:
    """Write the claims beside our values, what they rest on, the figures, and every value that they show.

    Args:
        values: The values of all panels, by where they stand.
        rows: The records of the run, which say how well the toys know their tasks.
        names: The file names of the figures.

    Returns:
        The page, in Markdown.
    """
    agreements = claims.figure_claims(values)
    seeds = max((len(value.seeds) for value in values.values()), default=0)
    interval = "of one seed's test pairs (Wilson)" if seeds == 1 else f"of the mean over {seeds} seeds (Student's t)"
    toys = [row for row in rows if row.measure == "trial_accuracy" and row.value is not None]
    known = ", ".join(f"{row.comparison} {row.value:.2%}" for row in toys)
    parts = [
        "# Figures of the Model Alignment Search paper, regenerated",
        report.claims_table(agreements, rules.RULES) if agreements else "Nothing here that the papers speak of.",
        f"Intervals are 95%, {interval}. All maps begin at random and are centred; 10 shared dims unless swept. What "
        "is marked (extra) is not the paper's.",
        f"Trials right on the models' own task: {known}.",
        *_dropped_lines(rows),
        *(f"![panel {name[0]}](figures/{name})" for name in names),
        "## Every value",
        _values_table(values),
    ]
    return "\n\n".join(parts) + "\n"


def _dropped_lines(rows: Sequence[Record]) -> list[str]:
    """What the latent losses had to do without."""
    counts = {
        f"{row.value:.0f} of {row.trials} pairs ({row.method})" for row in rows if row.measure == "latents_dropped"
    }
    return (
        [f"Left out of the latent loss, as no natural state has their values: {', '.join(sorted(counts))}."]
        if counts
        else []
    )


def _values_table(values: Mapping[Key, Value]) -> str:
    """Every value that is shown, as a table."""
    lines = ["| panel | part | where | what | ours | floor | bound |", "|" + " :-- |" * 7]
    for (panel, *names), value in sorted(values.items(), key=lambda item: item[0][0]):
        ends = ("" if number is None else f"{number:.3f}" for number in (value.floor, value.bound))
        lines.append(f"| {' | '.join((panel, *names, str(value), *ends))} |")
    return "\n".join(lines)
