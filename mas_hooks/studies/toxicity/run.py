"""Runs the study `toxicity`, and draws it again from its records."""

from __future__ import annotations

from pathlib import Path

from mas_hooks.core.progress import say
from mas_hooks.core.run_folder import RunFolder
from mas_hooks.core.settings import Options
from mas_hooks.studies.stages import print_files
from mas_hooks.studies.toxicity import align as alignment
from mas_hooks.studies.toxicity import order, report, stages
from mas_hooks.studies.toxicity.settings import ToxicitySettings


def run_toxicity(settings: ToxicitySettings, run: RunFolder, options: Options) -> None:
    """Run the stages asked for, each as far as it is not there yet.

    Args:
        settings: Of every stage, and which stages run.
        run: The folder of the run.
        options: Processes, device and bars.

    Raises:
        CheckpointError: A stage that is left out has not run before, or the base is no model.
        DataSetError: A data set cannot be read.
        MemoryPlanError: A stage takes more memory than the device has free.
    """
    members = stages.toxicity_members(settings, options)
    stages.run_early_stages(settings, members, run, options)
    if "align" in settings.stages:
        order.keep_names(run, alignment.run_alignments(settings, members, run, stages.run_alone(options)))
    run.write_records([*order.EARLY, *order.aligned_stages(run)])
    if "report" in settings.stages:
        order.require_aligned(run)
        print_files(draw_toxicity(run.path))
    elif "align" in settings.stages:
        say(f"all fits are done; the report: mas-hooks run toxicity --stages report --resume --out {run.path}")


def draw_toxicity(run_dir: Path) -> list[Path]:
    """Draw the report of a run, from its settings and records alone."""
    return report.draw_toxicity_report(run_dir)
