"""The stage `report` of the recipe `toxicity`: figures, `toxicity.md` and `report.html`, from records alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mas_hooks import report
from mas_hooks.core import records
from mas_hooks.core.errors import EmptyError
from mas_hooks.core.files import read_json
from mas_hooks.core.run_folder import ENVIRONMENT, RECORDS, SETTINGS
from mas_hooks.report import Sheet, SheetLine, format_value
from mas_hooks.studies.toxicity import claims, results, tables, words

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
    found = results.Results(settings["align"], rows)
    if not found.headline:
        raise EmptyError(f"the report of {run_dir}", "run the stage align: its records hold no test rows of swaps yet")
    paths = report.save_figures(run_dir / "figures", figures(found))
    verdict, told, sheets = words.verdict(found, settings), claims.toxicity_claims(found), tables.toxicity_sheets(found)
    page = run_dir / "toxicity.md"
    report.save_html(page, _markdown(verdict, told, sheets, paths))
    pictures = {CAPTIONS[path.name]: path.read_bytes() for path in paths}
    sections = [
        report.Section("In plain words", verdict),
        *([_paper(told)] if told else []),
        report.Section("Figures", (), pictures),
        report.Section("Tables", ("A click on a column's name sorts by it.",), None, sheets),
    ]
    environment = read_json(run_dir / ENVIRONMENT) if (run_dir / ENVIRONMENT).exists() else None
    whole = report.html_page(TITLE, sections, settings=settings, environment=environment)
    return [*paths, page, report.save_html(run_dir / "report.html", whole)]


def figures(found: Any) -> dict[str, Any]:
    """Every figure that the records allow, by file name."""
    tests = {name: found.test(name) for name in GROUPED}
    panels = {name: test.groups for name, test in tests.items() if test is not None}
    made: dict[str, Any] = {}
    if panels:
        subtitle = f"{found.rank} dims at {found.site}, worst direction of each pair; the test is on {found.chosen}."
        made["groups.png"] = report.pair_panels(panels, title=TITLE, subtitle=subtitle)
    # Fits of one model come first, in the order of the models, so that those of one kind stand together.
    alone_first = sorted(found.headline, key=lambda row: len({*str(row.comparison).split(" × ")}))
    made["pairs_tokens.png"] = report.direction_heatmap(alone_first, tokens=True)
    made["pairs_iia.png"] = report.direction_heatmap(alone_first)
    if found.together:
        made["together_tokens.png"] = report.direction_heatmap(found.together, tokens=True)
    lines = curves(found)
    if lines:
        title, subtitle = (
            "How many dims carry the behaviour",
            f"Worst direction of each pair at {found.site}.",
        )
        made["ranks.png"] = report.rank_curves(lines, title=title, subtitle=subtitle, unit=found.chosen)
    return made


def curves(found: Any) -> list[Any]:
    """The score of each pair that was fitted with several sizes, with its random maps; the floor is in the tables."""
    made = []
    key = found.settings["score"]
    for control in (None, "random_maps"):
        rows = [row for row in found.records if row.split == "test" and row.iia is not None and row.control == control]
        own = results.by_fit([row for row in rows if row.source_site == found.site])
        by_pair: dict[str, dict[int, float]] = {}
        for (comparison, _, rank, _), inside in own.items():
            if comparison != results.fits.TOGETHER:
                by_pair.setdefault(comparison, {})[rank] = min(getattr(row, key) for row in inside)
        for pair, values in by_pair.items():
            if len(values) > 1:
                sizes = tuple(sorted(values))
                label = f"{pair}, random maps" if control else pair
                shown = tuple(values[size] for size in sizes)
                made.append(report.RankLine(label, sizes, shown, control=control is not None))
    return made


def _paper(told: Any) -> Any:
    return report.Section("The paper's finding beside ours", [_plain(claims.RULES)], None, [_claims(told)])


def _claims(told: Any) -> Sheet:
    lines = tuple(SheetLine((one.panel, one.what, one.ours, one.paper, _agrees(one), one.why)) for one in told)
    return Sheet("The paper beside ours", ("score", "what", "ours", "paper", "agrees?", "test"), lines)


def _agrees(claim: Any) -> str:
    return {True: "yes", False: "no", None: "not comparable"}[claim.agrees]


def _plain(text: str) -> str:
    return text.replace("*", "")


def _markdown(verdict: Any, told: Any, sheets: Any, paths: Any) -> str:
    parts: list[str] = [f"# {TITLE}", *verdict]
    if told:
        parts.append(report.claims_table(told, claims.RULES))
    parts += [f"![{CAPTIONS[path.name]}](figures/{path.name})" for path in paths]
    parts += ["\n".join(format_value(sheet)) for sheet in sheets if sheet.title != "Every direction"]
    return "\n\n".join(parts) + "\n"
