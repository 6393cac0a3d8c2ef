"""What studies share: every toy trained once, every comparison run once in parallel, reports drawn and drawn again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from mas_hooks import report
from mas_hooks.core import parallel, records
from mas_hooks.core.errors import CheckpointError
from mas_hooks.core.files import read_json
from mas_hooks.core.parallel import Planned, Work
from mas_hooks.core.progress import progress_bar, say
from mas_hooks.core.records import Record
from mas_hooks.core.run_folder import RECORDS, SETTINGS, RunFolder
from mas_hooks.core.settings import Options
from mas_hooks.models.toys import Toy, ToySettings, load_toy
from mas_hooks.studies import registry
from mas_hooks.studies.work import toy_comparison

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def train_toys(toys: Sequence[ToySettings], options: Options) -> list[tuple[ToySettings, Toy]]:
    """Load or train every different toy once, and print a line about each when it is ready; in the order given."""
    different = list({settings.key: settings for settings in toys}.values())
    toys_by_key: dict[str, Toy] = {}
    for settings, toy in parallel.run_parallel(load_toy, different, options.jobs):
        toys_by_key[settings.key] = toy
        trained = toy.trained
        spent = "from the cache" if toy.from_cache else f"trained in {trained.steps} steps"
        short = "" if trained.reached else "; SHORT OF THE STOP RULE, so read what follows with care"
        say(f"{settings.task} {settings.name}: {spent}, {trained.accuracy:.2%} of {trained.trials} trials right{short}")
    return [(settings, toys_by_key[settings.key]) for settings in different]


def accuracy_record(settings: ToySettings, toy: Toy, name: str | None = None) -> Record:
    """Record how well a toy knows its task.

    Args:
        settings: The settings of the toy.
        toy: The trained toy.
        name: A name that is unique in the study; default the usual name of the toy.

    Returns:
        Its accuracy over the trials of its last check.
    """
    name, trained = name or settings.name, toy.trained
    described = Record(
        split="train", source_model=name, target_model=name, measure="trial_accuracy", task=settings.task
    )
    return replace(described, value=trained.accuracy, trials=trained.trials)


def run_comparisons(
    planned: Mapping[str, Planned],
    run: RunFolder,
    options: Options,
    runner: Callable[[Work[Planned]], list[Record]] = toy_comparison.run_toy_comparison,
) -> Iterator[tuple[str, list[Record]]]:
    """Fit and test what the run has not finished yet, and yield each name with its records as it ends.

    Call `run.finish_stage(name, records)` on each before the next: a resumed run then leaves it out.

    Args:
        planned: The comparisons by name.
        run: The folder of the run.
        options: Processes, device and bars.
        runner: What runs one of them in a process of its own.

    Returns:
        Pairs of a name and its records.
    """
    todo = _unfinished_work(planned, run, options)
    for work, rows, done, left in follow_work(runner, todo, options, "all fits", len(planned) - len(todo)):
        yield work.name, rows
        final = [row for row in rows if row.split == "test" and row.control is None and row.iia is not None]
        iia, tokens = (
            min((getattr(row, key) or 0.0 for row in final), default=0.0) for key in ("iia", "token_accuracy")
        )
        say(f"{done} {work.name}: worst direction {iia:.3f} (tokens {tokens:.3f}){left}")


def follow_work(
    work: Callable[[Argument], Result], todo: Sequence[Argument], options: Options, label: str, before: int = 0
) -> Iterator[tuple[Argument, Result, str, str]]:
    """Run pieces of work in parallel under a progress bar, and yield each with its result as it ends.

    Args:
        work: What runs one piece.
        todo: The pieces.
        options: Processes and bars.
        label: What the bar says.
        before: How many pieces were done earlier; the count goes on from there.

    Returns:
        For each piece: the piece, its result, how many are done ("3/6"), and the time that is left
        (", about 0:01:00 left", or nothing after the last).
    """
    began, total = time.monotonic(), before + len(todo)
    with progress_bar(total, label, initial=before, shown=options.progress, line=max(1, options.jobs)) as whole:
        for number, (argument, result) in enumerate(parallel.run_parallel(work, todo, options.jobs), 1):
            whole.update()
            left = (time.monotonic() - began) / number * (len(todo) - number)
            about = f", about {timedelta(seconds=round(left))} left" if number < len(todo) else ""
            yield argument, result, f"{before + number}/{total}", about


def print_files(paths: Sequence[Path]) -> None:
    """Print where figures and pages lie."""
    for path in paths:
        say(f"{'figure' if path.suffix == '.png' else 'page'}: {path}")


def redraw_run(run_dir: Path) -> list[Path]:
    """Draw a run again with the figures of its recipe; without any, print the usual table and draw the usual figures.

    Raises CheckpointError where the run holds no records yet.
    """
    recipe = read_json(run_dir / SETTINGS).get("recipe") if (run_dir / SETTINGS).exists() else None
    draw = registry.load_study("recipes", recipe).draw if recipe in registry.study_names("recipes") else None
    if draw is not None:
        if not (run_dir / RECORDS).is_file():
            remedy = f"go on with the run: mas-hooks run {recipe} --resume --out {run_dir}"
            raise CheckpointError(run_dir, "holds no records yet", remedy)
        return draw(run_dir)
    from rich.console import Console

    figures = report.draw_run(run_dir)
    Console().print(report.results_table(records.read_records(run_dir / RECORDS)))
    return figures


def alignment_folder(run_dir: Path, name: str) -> Path:
    """Where a run keeps the fitted alignment of a comparison."""
    return run_dir / "alignment" / name


def run_stages(
    planned: Mapping[str, Planned],
    run: RunFolder,
    options: Options,
    runner: Callable[[Work[Planned]], list[Record]],
    label: str,
) -> None:
    """Run what the run has not finished yet, each piece as a stage; print its name as it ends.

    Args:
        planned: The pieces by name.
        run: The folder of the run.
        options: Processes, device and bars.
        runner: What runs one piece in a process of its own.
        label: What the progress bar says.
    """
    todo = _unfinished_work(planned, run, options)
    for work, rows, done, left in follow_work(runner, todo, options, label, len(planned) - len(todo)):
        run.finish_stage(work.name, rows)
        say(f"{done} {work.name}{left}")


def _unfinished_work(planned: Mapping[str, Planned], run: RunFolder, options: Options) -> list[Work[Planned]]:
    """What the run has not finished yet, each with the folder of its state and that of its alignment."""
    return [
        Work(name, comparison, run.state(name), alignment_folder(run.path, name), options.progress)
        for name, comparison in planned.items()
        if run.read_stage(name) is None
    ]
