"""The stage `report` of the recipe `toxicity`: figures, `toxicity.md` and `report.html`, from records alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mas_hooks import report
from mas_hooks.core import records
from mas_hooks.core.errors import EmptyError
from mas_hooks.core.files import read_json
from mas_hooks.core.run_folder import ENVIRONMENT, RECORDS, SETTINGS
from mas_hooks.studies.toxicity import claims, tables, words
from mas_hooks.studies.toxicity.fits import TOGETHER
from mas_hooks.studies.toxicity.results import Results, group_by_fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Do toxic fine-tunes share internals that nontoxic ones do not?"
GROUPED = (
    "IIA",
    "token accuracy",
    "token accuracy without a swap",
    "tokens agreed on, text read whole",
    "CKA",
    "RSA",
)
"""The scores of the grouped figure, panel by panel."""
CAPTIONS = {
    "groups.png": "Every pair of models by kind: swaps beside what they have to be read against, and CKA and RSA",
    "pairs_tokens.png": "Token accuracy of every direction between all models",
    "pairs_iia.png": "Trials that are wholly right, of every direction between all models",
    "together_tokens.png": "The same in one fit of all models: token accuracy",
    "ranks.png": "How many dims carry what a swap moves",
}


def draw_toxicity_report(run_dir: Path) -> list[Path]:
    """Draw what the records allow; every file appears whole under its name."""
    settings, rows = read_json(run_dir / SETTINGS), records.read_records(run_dir / RECORDS)
    results = Results(settings["align"], rows)
    if not results.headline:
        raise EmptyError(f"the report of {run_dir}", "run the stage align: its records hold no test rows of swaps yet")
    paths = report.save_figures(run_dir / "figures", draw_figures_of_results(results))
    verdict, claim_rows, sheets = (
        words.write_verdict(results, settings),
        claims.toxicity_claims(results),
        tables.toxicity_sheets(results),
    )
    page = run_dir / "toxicity.md"
    report.save_html(page, _write_markdown(verdict, claim_rows, sheets, paths))
    pictures = {CAPTIONS[path.name]: path.read_bytes() for path in paths}
    sections = [
        report.Section("In plain words", verdict),
        *([_claims_section(claim_rows)] if claim_rows else []),
        report.Section("Figures", (), pictures),
        report.Section("Tables", ("A click on a column's name sorts by it.",), None, sheets),
    ]
    environment = read_json(run_dir / ENVIRONMENT) if (run_dir / ENVIRONMENT).exists() else None
    whole = report.html_page(TITLE, sections, settings=settings, environment=environment)
    return [*paths, page, report.save_html(run_dir / "report.html", whole)]


def draw_figures_of_results(results: Results) -> dict[str, Figure]:
    """Every figure that the records allow, by file name."""
    tests = {name: results.test(name) for name in GROUPED}
    panels = {name: test.groups for name, test in tests.items() if test is not None}
    drawings: dict[str, Figure] = {}
    if panels:
        subtitle = (
            f"{results.rank} dims at {results.site}, worst direction of each pair; the test is on {results.chosen}."
        )
        drawings["groups.png"] = report.pair_panels(panels, title=TITLE, subtitle=subtitle)
    # Fits of one model come first, in the order of the models, so that those of one kind stand together.
    alone_first = sorted(results.headline, key=lambda row: len({*str(row.comparison).split(" × ")}))
    drawings["pairs_tokens.png"] = report.direction_heatmap(alone_first, tokens=True)
    drawings["pairs_iia.png"] = report.direction_heatmap(alone_first)
    if results.together:
        drawings["together_tokens.png"] = report.direction_heatmap(results.together, tokens=True)
    lines = rank_lines(results)
    if lines:
        title, subtitle = (
            "How many dims carry the behaviour",
            f"Worst direction of each pair at {results.site}.",
        )
        drawings["ranks.png"] = report.rank_curves(lines, title=title, subtitle=subtitle, unit=results.chosen)
    return drawings


def rank_lines(results: Results) -> list[report.RankLine]:
    """The score of each pair that was fitted with several sizes, with its random maps; the floor is in the tables."""
    lines = []
    key = results.settings["score"]
    for control in (None, "random_maps"):
        rows = [
            row for row in results.records if row.split == "test" and row.iia is not None and row.control == control
        ]
        fits = group_by_fit([row for row in rows if row.source_site == results.site])
        by_pair: dict[str, dict[int, float]] = {}
        for (comparison, _, rank, _), inside in fits.items():
            if comparison != TOGETHER:
                by_pair.setdefault(comparison, {})[rank] = min(getattr(row, key) for row in inside)
        for pair, values in by_pair.items():
            if len(values) > 1:
                sizes = tuple(sorted(values))
                label = f"{pair}, random maps" if control else pair
                shown = tuple(values[size] for size in sizes)
                lines.append(report.RankLine(label, sizes, shown, control=control is not None))
    return lines


def _claims_section(claim_rows: Sequence[report.Claim]) -> report.Section:
    return report.Section(
        "The paper's finding beside ours", [_drop_marks(claims.RULES)], None, [_claims_sheet(claim_rows)]
    )


def _claims_sheet(claim_rows: Sequence[report.Claim]) -> report.Sheet:
    lines = tuple(
        report.SheetLine((claim.panel, claim.what, claim.ours, claim.paper, _format_agreement(claim), claim.why))
        for claim in claim_rows
    )
    return report.Sheet("The paper beside ours", ("score", "what", "ours", "paper", "agrees?", "test"), lines)


def _format_agreement(claim: report.Claim) -> str:
    return {True: "yes", False: "no", None: "not comparable"}[claim.agrees]


def _drop_marks(text: str) -> str:
    return text.replace("*", "")


def _write_markdown(
    verdict: Sequence[str], claim_rows: Sequence[report.Claim], sheets: Sequence[report.Sheet], paths: Sequence[Path]
) -> str:
    parts: list[str] = [f"# {TITLE}", *verdict]
    if claim_rows:
        parts.append(report.claims_table(claim_rows, claims.RULES))
    parts += [f"![{CAPTIONS[path.name]}](figures/{path.name})" for path in paths]
    parts += ["\n".join(report.format_sheet(sheet)) for sheet in sheets if sheet.title != "Every direction"]
    return "\n\n".join(parts) + "\n"
