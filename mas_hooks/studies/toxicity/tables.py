"""The tables of the recipe `toxicity`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mas_hooks.core.records import Record
from mas_hooks.evaluation import PairTable
from mas_hooks.report import Sheet, SheetLine
from mas_hooks.studies.toxicity.fits import TOGETHER
from mas_hooks.studies.toxicity.results import Results, group_by_fit, worst_row

BEHAVIOUR = ("insult_share", "classified_share")
COLUMNS = {
    "IIA": "IIA",
    "token accuracy": "tokens",
    "token accuracy without a swap": "tokens, no swap",
    "token accuracy, random maps": "tokens, random maps",
    "tokens agreed on, text read whole": "tokens, text read whole",
    "CKA": "CKA",
    "RSA": "RSA",
    "IIA, all together": "IIA, all together",
    "token accuracy, all together": "tokens, all together",
}
"""What the table of pairs shows of `Results.tables`, and under which name."""


def toxicity_sheets(results: Results) -> list[Sheet]:
    """Every table that the records allow, the verdict's own first."""
    sheets = (
        pair_sheet(results),
        cost_sheet(results),
        control_sheet(results),
        sweep_sheet(results),
        behaviour_sheet(results),
        direction_sheet(results),
    )
    return [sheet for sheet in sheets if sheet.lines]


def pair_sheet(results: Results) -> Sheet:
    """One line a pair of models: its worst direction beside what it has to be read against."""
    shown = {name: column for name, column in COLUMNS.items() if name in results.tables}
    ends = {fit[0]: worst_row(rows) for fit, rows in group_by_fit(results.headline).items()}
    lines = []
    if shown:
        table = next(iter(results.tables.values()))
        scores = {name: _all_pairs(results.tables[name]) for name in shown}
        for pair in _all_pairs(table):
            row = ends[pair]
            cells = [_format_share(scores[name][pair]) for name in shown]
            lines.append(SheetLine((pair, results.kind(pair.split(" × ")), *cells, _format_interval(row))))
    note = (
        "Worst direction of each fit, for trials and for tokens. No swap: the same pairs, untouched. Text read whole: "
        "how many of the source's next tokens the target says when it reads all of the source's text, unswapped."
    )
    return Sheet("Every pair of models", ("pair", "kind", *shown.values(), "95% of IIA"), tuple(lines), note)


def _all_pairs(table: PairTable) -> dict[str, float]:
    return {pair: score for kinds in ((0, 0), (0, 1), (1, 1)) for pair, score in table.pairs(*kinds).items()}


def cost_sheet(results: Results) -> Sheet:
    """One fit of all models beside those of the pairs: what they reach and what they take."""
    lines = []
    for name, together in (("one fit a pair, and one a model", False), ("one fit of all models", True)):
        steps, learned = (results.cost(measure, together=together) for measure in ("steps", "parameters"))
        if steps:
            every = results.together if together else results.headline
            rows = [row for row in every if row.source != row.target]  # each once: those within are in several fits
            means = [_average(row.iia for row in rows), _average(row.token_accuracy for row in rows)]
            numbers = (len(steps), _add(row.value for row in steps), _add(row.value for row in learned))
            cells = [*(f"{number:.0f}" for number in numbers), f"{_add(row.seconds for row in steps):.0f}"]
            lines.append(SheetLine((name, *cells, *map(_format_share, means))))
    columns = ("what is fitted", "fits", "steps", "parameters", "seconds", "mean IIA between models", "mean tokens")
    note = (
        "Seconds: of the training alone, added up. Means are over the directions between two models, each of them once."
    )
    return Sheet("All models in one shared space, or two at a time", columns, tuple(lines), note)


def _add(values: Iterable[float | None]) -> float:
    return sum(value or 0.0 for value in values)


def _average(values: Iterable[float | None]) -> float:
    numbers = list(values)
    return _add(numbers) / len(numbers)


def control_sheet(results: Results) -> Sheet:
    """The worst direction of every refit where there is nothing to find."""
    refits = group_by_fit([row for row in results.controls if row.control != "random_maps"])
    fitted = {fit[0]: worst_row(rows) for fit, rows in group_by_fit(results.headline).items()}
    lines = []
    for (comparison, _, _, control), rows in refits.items():
        row_, row = fitted[comparison], worst_row(rows)
        cells = (
            comparison,
            control.replace("_", " "),
            *_swap_cells(row_),
            *_swap_cells(row),
            _format_share(row.token_floor),
        )
        lines.append(SheetLine(cells))
    columns = ("pair", "control", "IIA", "tokens", "IIA, control", "tokens, control", "tokens, no swap, control")
    note = "A score that its control shares is no evidence. Random maps stand in the table of pairs."
    return Sheet("Controls", columns, tuple(lines), note)


def sweep_sheet(results: Results) -> Sheet:
    """The worst direction by site and size of the subspace."""
    rows = [row for row in results.swaps if row.comparison not in (TOGETHER, _itself(row))]
    fits = group_by_fit(rows)
    many = {fit[0] for fit in fits if sum(other[0] == fit[0] for other in fits) > 1}
    lines = []
    for (comparison, site, rank, _), inside in sorted(fits.items(), key=lambda item: item[0][:3]):
        if comparison in many:
            row = worst_row(inside)
            cells = (comparison, results.kind(comparison.split(" × ")), str(site), str(rank))
            lines.append(SheetLine((*cells, *_swap_cells(row), _format_share(row.token_floor))))
    columns = ("pair", "kind", "site", "dims", "IIA", "tokens", "tokens, no swap")
    return Sheet("Other sites and sizes of the subspace", columns, tuple(lines))


def _itself(row: Record) -> str:
    return f"{row.source_model} × {row.source_model}"


def behaviour_sheet(results: Results) -> Sheet:
    """Whether the fine-tunes behave as they are called."""
    rows = [row for row in results.records if row.measure in BEHAVIOUR and row.value is not None]
    lines = tuple(
        SheetLine(
            (str(row.target_model), str(row.measure).replace("_", " "), _format_share(row.value), str(row.trials))
        )
        for row in rows
    )
    return Sheet("What the fine-tunes say", ("model", "measure", "share", "responses"), lines)


def direction_sheet(results: Results) -> Sheet:
    """Every direction of every fit, controls after them."""
    lines = tuple(_direction_line(row) for row in (*results.swaps, *_control_rows(results)))
    columns = ("fit", "control", "source → target", "site", "dims", "IIA", "95%", "tokens", "IIA, no swap")
    return Sheet("Every direction", (*columns, "tokens, no swap", "trials"), lines)


def _control_rows(results: Results) -> Iterator[Record]:
    yield from (
        row for row in results.records if row.split == "test" and row.control is not None and row.iia is not None
    )


def _direction_line(row: Record) -> SheetLine:
    way = f"{row.source_model} → {row.target_model}"
    named = (str(row.comparison), (row.control or "").replace("_", " "), way, str(row.source_site), str(row.k))
    floors = (_format_share(row.floor), _format_share(row.token_floor))
    shares = (_format_share(row.iia), _format_interval(row), _format_share(row.token_accuracy), *floors)
    return SheetLine((*named, *shares, str(row.trials)), control=row.control is not None)


def _swap_cells(row: Record) -> tuple[str, str]:
    return _format_share(row.iia), _format_share(row.token_accuracy)


def _format_share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _format_interval(row: Record) -> str:
    return "" if row.iia_low is None or row.iia_high is None else f"{row.iia_low:.3f}–{row.iia_high:.3f}"
