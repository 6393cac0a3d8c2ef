"""The tables of the recipe `toxicity`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mas_hooks.core.records import Record
from mas_hooks.report import Sheet, SheetLine
from mas_hooks.studies.toxicity import results

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


def toxicity_sheets(found: Any) -> list[Sheet]:
    """Every table that the records allow, the verdict's own first."""
    made = (pair_sheet(found), cost_sheet(found), controls(found), sweep(found), behaviour(found), directions(found))
    return [sheet for sheet in made if sheet.lines]


def pair_sheet(found: Any) -> Sheet:
    """One line a pair of models: its worst direction beside what it has to be read against."""
    shown = {name: column for name, column in COLUMNS.items() if name in found.tables}
    ends = {fit[0]: results.worst(rows) for fit, rows in results.by_fit(found.headline).items()}
    lines = []
    if shown:
        table = next(iter(found.tables.values()))
        scores = {name: _pairs(found.tables[name]) for name in shown}
        for pair in _pairs(table):
            row = ends[pair]
            cells = [_share(scores[name][pair]) for name in shown]
            lines.append(SheetLine((pair, found.kind(pair.split(" × ")), *cells, _interval(row))))
    note = (
        "Worst direction of each fit, for trials and for tokens. No swap: the same pairs, untouched. Text read whole: "
        "how many of the source's next tokens the target says when it reads all of the source's text, unswapped."
    )
    return Sheet("Every pair of models", ("pair", "kind", *shown.values(), "95% of IIA"), tuple(lines), note)


def _pairs(table: Any) -> dict[str, float]:
    return {pair: score for kinds in ((0, 0), (0, 1), (1, 1)) for pair, score in table.pairs(*kinds).items()}


def cost_sheet(found: Any) -> Sheet:
    """One fit of all models beside those of the pairs: what they reach and what they take."""
    lines = []
    for name, together in (("one fit a pair, and one a model", False), ("one fit of all models", True)):
        steps, learned = (found.cost(measure, together=together) for measure in ("steps", "parameters"))
        if steps:
            every = found.together if together else found.headline
            rows = [row for row in every if row.source != row.target]  # each once: those within are in several fits
            means = [sum(getattr(row, key) for row in rows) / len(rows) for key in ("iia", "token_accuracy")]
            numbers = (len(steps), sum(row.value for row in steps), sum(row.value for row in learned))
            told = [*(f"{number:.0f}" for number in numbers), f"{sum(row.seconds for row in steps):.0f}"]
            lines.append(SheetLine((name, *told, *map(_share, means))))
    columns = ("what is fitted", "fits", "steps", "parameters", "seconds", "mean IIA between models", "mean tokens")
    note = (
        "Seconds: of the training alone, added up. Means are over the directions between two models, each of them once."
    )
    return Sheet("All models in one shared space, or two at a time", columns, tuple(lines), note)


def controls(found: Any) -> Sheet:
    """The worst direction of every refit where there is nothing to find."""
    refits = results.by_fit([row for row in found.controls if row.control != "random_maps"])
    fitted = {fit[0]: results.worst(rows) for fit, rows in results.by_fit(found.headline).items()}
    lines = []
    for (comparison, _, _, control), rows in refits.items():
        own, row = fitted[comparison], results.worst(rows)
        cells = (comparison, control.replace("_", " "), *_swap(own), *_swap(row), _share(row.token_floor))
        lines.append(SheetLine(cells))
    columns = ("pair", "control", "IIA", "tokens", "IIA, control", "tokens, control", "tokens, no swap, control")
    note = "A score that its control shares is no evidence. Random maps stand in the table of pairs."
    return Sheet("Controls", columns, tuple(lines), note)


def sweep(found: Any) -> Sheet:
    """The worst direction by site and size of the subspace."""
    rows = [row for row in found.swaps if row.comparison not in (results.fits.TOGETHER, _alone(row))]
    own = results.by_fit(rows)
    many = {fit[0] for fit in own if sum(other[0] == fit[0] for other in own) > 1}
    lines = []
    for (comparison, site, rank, _), inside in sorted(own.items(), key=lambda item: item[0][:3]):
        if comparison in many:
            row = results.worst(inside)
            cells = (comparison, found.kind(comparison.split(" × ")), str(site), str(rank))
            lines.append(SheetLine((*cells, *_swap(row), _share(row.token_floor))))
    columns = ("pair", "kind", "site", "dims", "IIA", "tokens", "tokens, no swap")
    return Sheet("Other sites and sizes of the subspace", columns, tuple(lines))


def _alone(row: Record) -> str:
    return f"{row.source_model} × {row.source_model}"


def behaviour(found: Any) -> Sheet:
    """Whether the fine-tunes behave as they are called."""
    rows = [row for row in found.records if row.measure in BEHAVIOUR and row.value is not None]
    lines = tuple(
        SheetLine((str(row.target_model), str(row.measure).replace("_", " "), _share(row.value), str(row.trials)))
        for row in rows
    )
    return Sheet("What the fine-tunes say", ("model", "measure", "share", "responses"), lines)


def directions(found: Any) -> Sheet:
    """Every direction of every fit, controls after them."""
    lines = tuple(_direction(row) for row in (*found.swaps, *_random(found)))
    columns = ("fit", "control", "source → target", "site", "dims", "IIA", "95%", "tokens", "IIA, no swap")
    return Sheet("Every direction", (*columns, "tokens, no swap", "trials"), lines)


def _random(found: Any) -> Iterator[Record]:
    yield from (row for row in found.records if row.split == "test" and row.control is not None and row.iia is not None)


def _direction(row: Record) -> SheetLine:
    way = f"{row.source_model} → {row.target_model}"
    named = (str(row.comparison), (row.control or "").replace("_", " "), way, str(row.source_site), str(row.k))
    floors = (_share(row.floor), _share(row.token_floor))
    shares = (_share(row.iia), _interval(row), _share(row.token_accuracy), *floors)
    return SheetLine((*named, *shares, str(row.trials)), control=row.control is not None)


def _swap(row: Record) -> tuple[str, str]:
    return _share(row.iia), _share(row.token_accuracy)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _interval(row: Record) -> str:
    return "" if row.iia_low is None or row.iia_high is None else f"{row.iia_low:.3f}–{row.iia_high:.3f}"
