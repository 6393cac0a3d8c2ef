"""What the stages of the recipe `toxicity` need of one another, checked before any of them starts."""

from __future__ import annotations

from collections.abc import Sequence

from mas_hooks.core.errors import CheckpointError
from mas_hooks.core.records import Record
from mas_hooks.core.run_folder import RunFolder
from mas_hooks.core.settings import Options
from mas_hooks.data.text import splits
from mas_hooks.models.language import WHOLE_RESPONSES, classified_share
from mas_hooks.studies.toxicity import base as bases
from mas_hooks.studies.toxicity import fits, memory, sources
from mas_hooks.studies.toxicity.members import ToxicityMember
from mas_hooks.studies.toxicity.places import StageFolders
from mas_hooks.studies.toxicity.settings import ToxicitySettings

EARLY = ("data", "finetune", "responses")


def check_order(
    settings: ToxicitySettings, members: Sequence[ToxicityMember], folders: StageFolders, options: Options
) -> None:
    """Check, before anything starts, what would fail later.

    Args:
        settings: Of the study.
        members: The fine-tunes.
        folders: Where the stages keep what they make.
        options: Processes and device.

    Raises:
        CheckpointError: An earlier stage has not run, or the base or the classifier is no model.
        DataSetError: A data set has no place to be read from.
        SettingError: A site, a rank or the batch does not fit the base, or its tokenizer has no pad token.
        MemoryPlanError: A stage takes more memory than the device has free.
    """
    there = {
        "data": (folders.data / splits.INDEX).is_file(),
        "finetune": all(member.model.is_dir() for member in members),
        "responses": all((member.responses / WHOLE_RESPONSES).is_dir() for member in members),
    }
    asked = [place for place, stage in enumerate((*EARLY, "align")) if stage in settings.stages]
    needed = EARLY[: max(asked, default=0)]
    for stage in needed:
        if stage not in settings.stages and not there[stage]:
            folder = {"data": folders.data, "finetune": folders.finetunes, "responses": folders.responses}[stage]
            remedy = f"run it too, with --stages {' '.join(stage for stage in EARLY if not there[stage])} …"
            raise CheckpointError(folder, f"the stage {stage} has not been run to its end with these settings", remedy)
    if "data" in settings.stages and not there["data"]:
        sources.check_sources(settings)
    if "responses" in settings.stages and settings.classifier is not None:
        classified_share(["Hello."], "the check", settings.classifier)
    tune = "finetune" in settings.stages and not there["finetune"]
    base = bases.check_base(settings, options) if tune else None
    todo = [stage for stage in settings.stages if not there.get(stage)]
    if {*todo} & {"finetune", "responses", "align"}:
        folder = members[0].model if members[0].model.is_dir() else base
        module = memory.base_skeleton(settings, folder)
        if "align" in todo:
            fits.check_fits(settings.align, module)
        memory.check_memory(settings, module, todo, options)


def keep_names(run: RunFolder, names: Sequence[str]) -> None:
    """Keep what the stages of `align` are called, for a later run of the report alone."""
    run.finish_stage("align", [Record(recipe="toxicity", comparison=name) for name in names])


def aligned_stages(run: RunFolder) -> list[str]:
    """The stages of `align` that this run has finished."""
    return [str(row.comparison) for row in run.read_stage("align") or []]


def require_aligned(run: RunFolder) -> None:
    """Raise CheckpointError where there is nothing to report yet."""
    if not aligned_stages(run):
        remedy = "run it too, or go on in the folder of its run: --stages align report --resume --out FOLDER"
        raise CheckpointError(run.path, "the stage align has not been run here", remedy)
