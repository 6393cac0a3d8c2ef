"""Runs the study `demo`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from mas_hooks import report
from mas_hooks.core.records import Record
from mas_hooks.core.run_folder import RunFolder
from mas_hooks.core.settings import Options
from mas_hooks.studies.demo.settings import DemoSettings, plan_comparisons
from mas_hooks.studies.stages import accuracy_record, print_files, run_comparisons, train_toys
from mas_hooks.studies.work import correlations


def run_demo(settings: DemoSettings, run: RunFolder, options: Options) -> None:
    """Run every stage that is not done yet, then print the table and draw the figures.

    Args:
        settings: What the toys learn and how they are aligned.
        run: The folder of the run; what it has finished is not done again.
        options: Processes, device and progress bars.
    """
    planned = plan_comparisons(settings, options.device)
    toys = planned[f"mas-full-{settings.init}"].toys
    models = [toy.name for toy in toys]
    trained = [accuracy_record(toy, loaded) for toy, loaded in train_toys(toys, options)]
    run.finish_stage("toys", keep_rows(sorted(trained, key=lambda row: str(row.source_model)), models, final=True))
    if run.read_stage("correlations") is None:
        run.finish_stage(
            "correlations",
            keep_rows(correlations.correlate(toys, ["state"] * len(toys), settings.seed), models, final=True),
        )
    for name, rows in run_comparisons(planned, run, options):
        run.finish_stage(name, keep_rows(rows, models, final=planned[name].plan.init == settings.init))
    rows = run.write_records([*planned, "correlations", "toys"])
    Console().print(report.results_table(rows))
    print_files(report.draw_run(run.path))


def keep_rows(rows: list[Record], models: Sequence[str], *, final: bool) -> list[Record]:
    """Put the rows of a fit under the one comparison of the demo, DAS within each model included.

    Args:
        rows: Rows of a fit, or of a stage before the fits.
        models: The names of the two models, in the order of the comparison.
        final: Whether the maps began where the settings say. Only then are the test rows kept.

    Returns:
        The rows, with their recipe, their comparison and the numbers of their models.
    """
    shared = {"recipe": "demo", "comparison": " × ".join(models)}
    number = {name: index for index, name in enumerate(models)}
    kept = [row for row in rows if final or row.split != "test"]
    ways = [(number[str(row.source_model)], number[str(row.target_model)]) for row in kept]
    return [replace(row, source=way[0], target=way[1], **shared) for row, way in zip(kept, ways, strict=True)]
