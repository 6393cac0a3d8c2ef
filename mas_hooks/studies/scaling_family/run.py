"""Runs the study `scaling-family`, and draws it again from its records."""

from __future__ import annotations

from pathlib import Path

from mas_hooks.core import records
from mas_hooks.core.run_folder import RECORDS, RunFolder
from mas_hooks.core.settings import Options
from mas_hooks.studies.scaling_family import drawing
from mas_hooks.studies.scaling_family.settings import ScalingFamilySettings
from mas_hooks.studies.stages import print_files, run_stages
from mas_hooks.studies.work import layer_comparison


def run_scaling_family(settings: ScalingFamilySettings, run: RunFolder, options: Options) -> None:
    """Train or load the family, compare its layers, then draw and compare with the paper.

    Args:
        settings: Which family, and the texts that it reads.
        run: The folder of the run; what it has finished is not done again.
        options: Processes, device and progress bars.
    """
    settings.texts.check(member.source for member in settings.members)
    members = {member.name: member for member in settings.members}
    run_stages(
        {f"member-{name}": member_settings for name, member_settings in members.items()},
        run,
        options,
        layer_comparison.prepare_member,
        "members",
    )
    planned = settings.comparisons(options.device)
    run_stages(planned, run, options, layer_comparison.run_layer_comparison, "grids of layers")
    run.write_records([*(f"member-{name}" for name in members), *planned])
    print_files(draw_scaling_family(run.path))


def draw_scaling_family(run_dir: Path) -> list[Path]:
    """Draw the heat maps and write `scaling_family.md`, from the records of a run alone."""
    return drawing.draw_family_figures(run_dir, records.read_records(run_dir / RECORDS))
