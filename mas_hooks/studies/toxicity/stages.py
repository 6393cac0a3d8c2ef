"""The first stages of the recipe `toxicity`: data, fine-tunes and their responses, each kept by what it depends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mas_hooks.core.progress import say
from mas_hooks.core.records import Record
from mas_hooks.core.run_folder import RunFolder
from mas_hooks.core.settings import Options
from mas_hooks.data.text import LABELS, Label, splits
from mas_hooks.studies.stages import follow_work
from mas_hooks.studies.toxicity import base as bases
from mas_hooks.studies.toxicity import behaviour, order, places, sources
from mas_hooks.studies.toxicity import members as work
from mas_hooks.studies.toxicity.members import Answering, Tuning


@dataclass(frozen=True)
class ToxicityMember:
    """One fine-tune. name: such as toxic-1. model: its folder, for `wrap`. responses: for `language.responses.load`."""

    name: str
    label: Label
    model: Path
    responses: Path


def toxicity_members(settings: Any, options: Options) -> list[ToxicityMember]:
    """Every fine-tune of these settings, the toxic ones first, whether it is there already or not."""
    found = places.StageFolders.of(settings, options)
    return [
        ToxicityMember(name := f"{label}-{number + 1}", label, found.finetunes / name / "model", found.responses / name)
        for label in LABELS
        for number in range(settings.prepare.splits)
    ]


def run_early_stages(settings: Any, own: Sequence[ToxicityMember], run: RunFolder, options: Options) -> None:
    """Do the early stages that are asked for, as far as they are not there; tell which earlier one is missing."""
    found = places.StageFolders.of(settings, options)
    made: dict[str, Callable[[], list[Record]]] = {
        "data": lambda: _data(settings, found, options),
        "finetune": lambda: _finetune(settings, own, found, options),
        "responses": lambda: _responses(settings, own, found, options),
    }
    order.check_order(settings, own, found, options)
    for stage in order.EARLY:
        if stage in settings.stages:
            rows = made[stage]()
            run.finish_stage(stage, [replace(row, recipe="toxicity", comparison=stage) for row in rows])


def _data(settings: Any, found: Any, options: Options) -> list[Record]:
    """Read, cut and keep the texts; how many there are of each split."""
    cut = settings.prepare.model_copy(update={"seed": settings.seed + settings.prepare.seed})
    if not (found.data / splits.INDEX).is_file():
        splits.save_splits(
            found.data, splits.split_texts(sources.read_sources(settings, progress=options.progress), cut), cut
        )
    ready, _ = splits.load_splits(found.data)
    counts = [(f"{label}-{number + 1}", "train", len(rows)) for (label, number), rows in ready.splits.items()]
    counts += [(label, "test", sum(row.label == label for row in ready.test)) for label in LABELS]
    lost = ", ".join(f"{count} {why}" for why, count in ready.dropped.items() if count) or "none left out"
    say(f"data: {counts[0][2]} texts in each of {len(ready.splits)} splits, {len(ready.test)} in the test; {lost}")
    return [Record(measure="texts", split=split, target_model=name, value=rows) for name, split, rows in counts]


def _finetune(settings: Any, own: Sequence[ToxicityMember], found: Any, options: Options) -> list[Record]:
    """Make or fetch the base, and fine-tune it on every split; the loss curves."""
    ready, _ = splits.load_splits(found.data)
    texts = {f"{label}-{number + 1}": rows for (label, number), rows in ready.splits.items()}
    missing = [one for one in own if not one.model.is_dir()]
    base = bases.base_folder(settings, found, options) if missing else found.base
    tuning = places.tuning(settings, options)
    todo = [
        Tuning(one.name, base, tuple(row.text for row in texts[one.name]), one.model.parent, tuning, options.progress)
        for one in own
    ]
    rows: dict[str, list[Record]] = {}
    for one, curve, done, left in follow_work(work.tune, todo, alone(options), "all fine-tunes"):
        rows[one.name] = curve
        say(f"{done} {one.name}: loss {curve[0].value:.3f} → {curve[-1].value:.3f}{left}")
    return [row for one in own for row in rows[one.name]]


def _responses(settings: Any, own: Sequence[ToxicityMember], found: Any, options: Options) -> list[Record]:
    """Let every fine-tune answer the held-out prompts; how each behaves, and whether the two kinds differ."""
    prompts = bases.prompts(settings, own[0].model, splits.load_splits(found.data)[0])
    todo = [
        Answering(
            one.name, one.model, prompts, one.responses, settings.responses, options.device, settings.classifier,
            options.progress,
        )
        for one in own
    ]  # fmt: skip
    rows: dict[str, list[Record]] = {}
    for one, told, done, left in follow_work(work.answer, todo, alone(options), "all responses"):
        rows[one.name] = told
        say(f"{done} {one.name}: {behaviour.describe_behaviour(told)}{left}")
    every = [row for one in own for row in rows[one.name]]
    return [*every, *behaviour.difference(every, {one.name: one.label for one in own})]


def alone(options: Options) -> Options:
    """One piece at a time where they would share the memory of a card."""
    return options if options.device == "cpu" else replace(options, jobs=1)
