"""Runs the study `identity-stitching`, and draws it again from its records."""

from __future__ import annotations

from pathlib import Path

from mas_hooks.core import records
from mas_hooks.core.run_folder import RECORDS, RunFolder
from mas_hooks.core.settings import Options
from mas_hooks.studies.identity_stitching import drawing, work
from mas_hooks.studies.identity_stitching.settings import IdentityStitchingSettings
from mas_hooks.studies.stages import print_files, run_stages
from mas_hooks.studies.work import classifier_stitching, layer_comparison


def run_identity_stitching(settings: IdentityStitchingSettings, run: RunFolder, options: Options) -> None:
    """Train or load the classifiers, stitch all ordered pairs, compare their layers, then draw.

    Args:
        settings: Which classifiers, of which groups, on which examples.
        run: The folder of the run; what it has finished is not done again.
        options: Processes, device and progress bars.
    """
    members = work.prepare_classifiers(settings, options)
    stitches = work.plan_group_stitches(settings, members, options.device)
    run_stages(stitches, run, options, classifier_stitching.run_classifier_stitching, "stitches")
    grids = work.plan_grids(settings, members, options.device)
    run_stages(grids, run, options, layer_comparison.run_layer_comparison, "layers")
    rows = classifier_stitching.combine_parts([run.read_stage(name) or [] for name in stitches])
    same_layers = [row for name in grids for row in run.read_stage(name) or [] if row.layer_a == row.layer_b]
    run.finish_stage("all", [work.name_groups(row, settings.labels) for row in [*rows, *same_layers]])
    run.write_records(["all"])
    print_files(draw_identity_stitching(run.path))


def draw_identity_stitching(run_dir: Path) -> list[Path]:
    """Draw penalties, CKA and distances and write `identity_stitching.md`, from the records of a run alone."""
    return drawing.draw_identity_figures(run_dir, records.read_records(run_dir / RECORDS))
