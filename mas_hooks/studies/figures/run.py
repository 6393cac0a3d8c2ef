"""Runs the study `figures`, and draws it again from its records."""

from __future__ import annotations

from pathlib import Path

from mas_hooks.core import records
from mas_hooks.core.files import read_json
from mas_hooks.core.progress import say
from mas_hooks.core.run_folder import RECORDS, SETTINGS, RunFolder
from mas_hooks.core.settings import Options
from mas_hooks.studies.figures import drawing, panels, work
from mas_hooks.studies.figures.settings import FiguresSettings
from mas_hooks.studies.stages import accuracy_record, print_files, run_comparisons, train_toys


def run_figures(settings: FiguresSettings, run: RunFolder, options: Options) -> None:
    """Train every toy once, run every fit once, then draw the panels and compare with the paper.

    Args:
        settings: Which panels, seeds and fits.
        run: The folder of the run; what it has finished is not done again.
        options: Processes, device and progress bars.
    """
    planned = work.plan_fits(settings.marks(), settings.every_seed(), settings.panels, options.device)
    toys = [toy for fit in planned.values() for toy in fit.toys]
    trained = train_toys(toys, options)
    short = {toy.key for toy, loaded in trained if not loaded.trained.reached}
    run.finish_stage(
        "toys",
        [work.label_figure_record(accuracy_record(toy, loaded), f"{toy.task} {toy.name}") for toy, loaded in trained],
    )
    going = {name: fit for name, fit in planned.items() if not short & {toy.key for toy in fit.toys}}
    if len(going) < len(planned):
        say(f"{len(planned) - len(going)} fits are left out: a model of theirs is short of the stop rule")
    stages = ["toys"]
    if "a" in settings.panels:
        asked = [(toy, loaded) for loaded in settings.every_seed() for toy in panels.correlated_toys(loaded)]
        stages += [work.correlate_toys(toy, loaded, run, short) for toy, loaded in asked]
    for name, rows in run_comparisons(going, run, options):
        run.finish_stage(name, [work.label_figure_record(row, name) for row in rows])
    if "e" in settings.panels:
        stages += work.measure_null_spaces(settings.every_seed(), going, run)
    run.write_records([*stages, *going])
    print_files(draw_figures(run.path))


def draw_figures(run_dir: Path) -> list[Path]:
    """Draw the panels and write `figures.md`, from the settings and records of a run alone."""
    values = {key: value for key, value in read_json(run_dir / SETTINGS).items() if key != "recipe"}
    settings = FiguresSettings(**values)
    return drawing.draw_panels(run_dir, settings.marks(), records.read_records(run_dir / RECORDS), settings.panels)
