"""The first stages of the recipe `toxicity`: data, fine-tunes and their responses, each kept by what it depends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from mas_hooks.core.progress import say
from mas_hooks.core.records import Record
from mas_hooks.core.run_folder import RunFolder
from mas_hooks.core.settings import Options
from mas_hooks.data.text import LABELS, splits
from mas_hooks.studies.stages import follow_work
from mas_hooks.studies.toxicity import base as bases
from mas_hooks.studies.toxicity import behaviour, order, places, sources
from mas_hooks.studies.toxicity import members as work
from mas_hooks.studies.toxicity.members import Answering, ToxicityMember, Tuning
from mas_hooks.studies.toxicity.places import StageFolders
from mas_hooks.studies.toxicity.settings import ToxicitySettings


def toxicity_members(settings: ToxicitySettings, options: Options) -> list[ToxicityMember]:
    """Every fine-tune of these settings, the toxic ones first, whether it is there already or not."""
    folders = places.StageFolders.of(settings, options)
    return [
        ToxicityMember(
            name := f"{label}-{number + 1}", label, folders.finetunes / name / "model", folders.responses / name
        )
        for label in LABELS
        for number in range(settings.prepare.splits)
    ]


def run_early_stages(
    settings: ToxicitySettings, members: Sequence[ToxicityMember], run: RunFolder, options: Options
) -> None:
    """Do the early stages that are asked for, as far as they are not there.

    Args:
        settings: Of every stage, and which stages run.
        members: The fine-tunes, toxic ones first.
        run: The folder of the run.
        options: Processes, device and bars.

    Raises:
        CheckpointError: An earlier stage is left out and has not run before.
    """
    folders = places.StageFolders.of(settings, options)
    early: dict[str, Callable[[], list[Record]]] = {
        "data": lambda: _prepare_data(settings, folders, options),
        "finetune": lambda: _finetune_members(settings, members, folders, options),
        "responses": lambda: _collect_responses(settings, members, folders, options),
    }
    order.check_order(settings, members, folders, options)
    for stage in order.EARLY:
        if stage in settings.stages:
            rows = early[stage]()
            run.finish_stage(stage, [replace(row, recipe="toxicity", comparison=stage) for row in rows])


def _prepare_data(settings: ToxicitySettings, folders: StageFolders, options: Options) -> list[Record]:
    """Read, cut and keep the texts; how many there are of each split."""
    cut = settings.prepare.model_copy(update={"seed": settings.seed + settings.prepare.seed})
    if not (folders.data / splits.INDEX).is_file():
        splits.save_splits(
            folders.data, splits.split_texts(sources.read_sources(settings, progress=options.progress), cut), cut
        )
    ready, _ = splits.load_splits(folders.data)
    counts = [(f"{label}-{number + 1}", "train", len(rows)) for (label, number), rows in ready.splits.items()]
    counts += [(label, "test", sum(row.label == label for row in ready.test)) for label in LABELS]
    lost = ", ".join(f"{count} {why}" for why, count in ready.dropped.items() if count) or "none left out"
    say(f"data: {counts[0][2]} texts in each of {len(ready.splits)} splits, {len(ready.test)} in the test; {lost}")
    return [Record(measure="texts", split=split, target_model=name, value=rows) for name, split, rows in counts]


def _finetune_members(
    settings: ToxicitySettings, members: Sequence[ToxicityMember], folders: StageFolders, options: Options
) -> list[Record]:
    """Make or fetch the base, and fine-tune it on every split; the loss curves."""
    ready, _ = splits.load_splits(folders.data)
    texts = {f"{label}-{number + 1}": rows for (label, number), rows in ready.splits.items()}
    missing = [member for member in members if not member.model.is_dir()]
    base = bases.prepare_base(settings, folders, options) if missing else folders.base
    tuning = places.tuning_settings(settings, options)
    todo = [
        Tuning(
            member.name,
            base,
            tuple(row.text for row in texts[member.name]),
            member.model.parent,
            tuning,
            options.progress,
        )
        for member in members
    ]
    rows: dict[str, list[Record]] = {}
    for member, curve, done, left in follow_work(work.tune_member, todo, run_alone(options), "all fine-tunes"):
        rows[member.name] = curve
        say(f"{done} {member.name}: loss {curve[0].value:.3f} → {curve[-1].value:.3f}{left}")
    return [row for member in members for row in rows[member.name]]


def _collect_responses(
    settings: ToxicitySettings, members: Sequence[ToxicityMember], folders: StageFolders, options: Options
) -> list[Record]:
    """Let every fine-tune answer the held-out prompts; how each behaves, and whether the two kinds differ."""
    prompts = bases.draw_prompts(settings, members[0].model, splits.load_splits(folders.data)[0])
    todo = [
        Answering(
            member.name, member.model, prompts, member.responses, settings.responses, options.device,
            settings.classifier, options.progress,
        )
        for member in members
    ]  # fmt: skip
    rows: dict[str, list[Record]] = {}
    for member, behaviours, done, left in follow_work(work.answer_prompts, todo, run_alone(options), "all responses"):
        rows[member.name] = behaviours
        say(f"{done} {member.name}: {behaviour.describe_behaviour(behaviours)}{left}")
    every = [row for member in members for row in rows[member.name]]
    return [*every, *behaviour.compare_behaviour(every, {member.name: member.label for member in members})]


def run_alone(options: Options) -> Options:
    """One piece at a time where they would share the memory of a card."""
    return options if options.device == "cpu" else replace(options, jobs=1)
