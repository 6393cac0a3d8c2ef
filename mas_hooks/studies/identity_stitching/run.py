"""Runs the study `identity-stitching`, and draws it again from its records."""

from __future__ import annotations

from pathlib import Path

from mas_hooks.core import records
from mas_hooks.core.run_folder import RECORDS, RunFolder
from mas_hooks.core.settings import Options
from mas_hooks.studies.identity_stitching import drawing, work
from mas_hooks.studies.identity_stitching.settings import IdentityStitchingSettings
from mas_hooks.studies.stages import run_stages, tell_files
from mas_hooks.studies.work import classifier_stitching, layer_comparison


def run_identity_stitching(settings: IdentityStitchingSettings, run: RunFolder, options: Options) -> None:
    """Train or load the classifiers, stitch all ordered pairs, compare their layers, then draw."""
    members = work.members(settings, options)
    stitches = work.stitches(settings, members, options.device)
    run_stages(stitches, run, options, classifier_stitching.run, "stitches")
    grids = work.grids(settings, members, options.device)
    run_stages(grids, run, options, layer_comparison.run, "layers")
    rows = classifier_stitching.combined([run.finished(name) or [] for name in stitches])
    own = [row for name in grids for row in run.finished(name) or [] if row.layer_a == row.layer_b]
    run.finish("all", [work.told(row, settings.labels) for row in [*rows, *own]])
    run.write_records(["all"])
    tell_files(draw_identity_stitching(run.path))


def draw_identity_stitching(run_dir: Path) -> list[Path]:
    """Draw penalties, CKA and distances and write `identity_stitching.md`, from the records of a run alone."""
    return drawing.draw(run_dir, records.read(run_dir / RECORDS))
