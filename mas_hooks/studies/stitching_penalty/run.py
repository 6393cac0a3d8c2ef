"""Runs the study `stitching-penalty`, and draws it again from its records."""

from __future__ import annotations

from pathlib import Path

from mas_hooks.core.run_folder import RunFolder
from mas_hooks.core.settings import Options
from mas_hooks.studies.stages import print_files
from mas_hooks.studies.stitching_penalty import page, work
from mas_hooks.studies.stitching_penalty.models import ModelPairs
from mas_hooks.studies.stitching_penalty.settings import StitchingPenaltySettings


def run_stitching_penalty(settings: StitchingPenaltySettings, run: RunFolder, options: Options) -> None:
    """Train the models, run every stitch that is not done yet, compare them row by row, then draw.

    Args:
        settings: Which models are stitched, where and how.
        run: The folder of the run.
        options: Processes, device and bars.

    Raises:
        SettingError: A layer is not in both models, or the two do not read the same tokens.
    """
    models = ModelPairs(settings, options)
    stages = [work.measure_losses(models, run), work.compare_layers_of_pairs(models, run)]
    planned = work.plan_stitches(models)
    work.run_stitches(planned, models, run, options)
    run.finish_stage("summary", work.summarise_stitches(planned, models, run))
    run.write_records([*stages, *planned, "summary"])
    print_files(draw_stitching_penalty(run.path))


def draw_stitching_penalty(run_dir: Path) -> list[Path]:
    """Draw the figures and write `stitching_penalty.md`, from the records of a run alone."""
    return page.draw_penalty_figures(run_dir)
