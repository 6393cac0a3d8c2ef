"""The memory plan of the recipe `toxicity`: what each stage takes, checked against what its device has free."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import nn

from mas_hooks.core.errors import MemoryPlanError
from mas_hooks.core.memory import free_bytes
from mas_hooks.core.progress import say
from mas_hooks.core.settings import Options
from mas_hooks.hooks import load_skeleton
from mas_hooks.models.language import (
    GIB,
    MemoryNeed,
    ModelShape,
    aligning_memory,
    answering_memory,
    finetuning_memory,
    untrained_base,
)
from mas_hooks.studies.toxicity.settings import ToxicitySettings

MANY = 2e8
"""Weights beyond which the CPU is no place for a study."""


@dataclass(frozen=True)
class StageMemory:
    """A stage: what it takes with the settings as they are, and smaller settings (flags) with what they would take.

    jobs: how many of it share the device.
    """

    memory_need: MemoryNeed
    smaller: Callable[[], Iterator[tuple[str, MemoryNeed]]]
    jobs: int = 1

    def check(self, free: int, device: str) -> None:
        """Raise MemoryPlanError, with the first smaller setting that fits, where this does not."""
        if self.memory_need.fits(free / self.jobs):
            return
        each = f" in each of {self.jobs} processes (--jobs)" if self.jobs > 1 else ""
        fitting = ((flags, need) for flags, need in self.smaller() if need.fits(free / self.jobs))
        flags, need = next(fitting, ("a smaller base, or a larger device", None))
        remedy = f"try {flags}" + (f", which takes {need.total / GIB:.1f} GiB" if need and need.parts else "")
        named = f"{self.memory_need.total / GIB:.1f} GiB for the stage {self.memory_need.stage}{each}"
        raise MemoryPlanError(named, f"{free / GIB:.1f} GiB", device, remedy)


def base_skeleton(settings: ToxicitySettings, folder: Path | None) -> nn.Module:
    """A model of the base's shape. folder: of the base or of a member, None for the embedded base."""
    return untrained_base(settings.pretrain, settings.seed).model if folder is None else load_skeleton(folder)


def check_memory(settings: ToxicitySettings, module: nn.Module, todo: Sequence[str], options: Options) -> None:
    """Print what the stages take that are still to be done, and check that each fits.

    Args:
        settings: Of the study.
        module: A model of the base's shape.
        todo: The stages to be done.
        options: Processes and device.

    Raises:
        MemoryPlanError: A stage takes more than the device has free.
    """
    shape = ModelShape.of(module)
    if options.device == "cpu" and shape.parameters > MANY:
        say(f"{shape.parameters / 1e9:.1f} billion weights take very long on the CPU; --device auto takes a card")
    planned = [
        stage_memory for stage in todo for stage_memory in plan_stage_memory(settings, shape, options).get(stage, [])
    ]
    free = free_bytes(torch.device(options.device))
    Console().print(memory_table(planned, free, options.device))
    for stage_memory in planned:
        stage_memory.check(free, options.device)


def memory_table(planned: Sequence[StageMemory], free: int, device: str) -> Table:
    """Show what every stage takes, and whether it fits what is free and cards of two sizes.

    Args:
        planned: The stages.
        free: Bytes that the device has free.
        device: Its name.

    Returns:
        The table, a line a stage.
    """
    table = Table(title=f"memory, estimated in GiB ({free / GIB:.1f} are free on {device})", box=SIMPLE)
    for name in ("stage", "needs", "times", "here?", "24 GB?", "80 GB?"):
        table.add_column(name, no_wrap=True)
    table.add_column("for what")
    for stage in planned:
        fits = [stage.memory_need.fits(size / stage.jobs) for size in (free, 24 * GIB, 80 * GIB)]
        parts = ", ".join(
            f"{name} {size / GIB:.2f}" for name, size in stage.memory_need.parts.items() if size > GIB / 200
        )
        answers = ["yes" if fit else "no" for fit in fits]
        table.add_row(stage.memory_need.stage, f"{stage.memory_need.total / GIB:.2f}", str(stage.jobs), *answers, parts)
    return table


def plan_stage_memory(settings: ToxicitySettings, shape: ModelShape, options: Options) -> dict[str, list[StageMemory]]:
    """Estimate what each stage takes.

    Args:
        settings: Of the study.
        shape: Of the base.
        options: Processes and device.

    Returns:
        The estimates by stage; `align` has one for pairs and one for the fit of all models.
    """
    card = options.device != "cpu"
    jobs = 1 if card else min(options.jobs, 2 * settings.prepare.splits)
    tune, say_, align = settings.finetune, settings.responses, settings.align

    def tuning(**changes: Any) -> MemoryNeed:
        return finetuning_memory(shape, tune.model_copy(update=changes), mixed=card)

    def answering(batch: int) -> MemoryNeed:
        return answering_memory(shape, say_.model_copy(update={"batch": batch}))

    def less_tuning() -> Iterator[tuple[str, MemoryNeed]]:
        for size in _halve(tune.device_batch):
            if tune.batch % size == 0:
                yield f"--finetune.device-batch {size}", tuning(device_batch=size)
        yield "--finetune.lora", tuning(lora=True)
        yield "--finetune.lora --finetune.device-batch 1", tuning(lora=True, device_batch=1)

    def less_answering() -> Iterator[tuple[str, MemoryNeed]]:
        return ((f"--responses.batch {size}", answering(size)) for size in _halve(say_.batch))

    needs = {
        "finetune": [StageMemory(tuning(), less_tuning, jobs)],
        "responses": [StageMemory(answering(say_.batch), less_answering, jobs)],
        "align": [_align_memory(settings, shape, 2, jobs, card=card)],
    }
    if align.shared_space:
        needs["align"].append(_align_memory(settings, shape, 2 * settings.prepare.splits, 1, card=card))
    return needs


def _align_memory(settings: ToxicitySettings, shape: ModelShape, models: int, jobs: int, *, card: bool) -> StageMemory:
    """Fits of so many models: of a pair, or of all in one shared space."""
    align = settings.align
    sizes = {"auto": 2 if card else shape.size, "float32": 4, "bfloat16": 2}
    copies = models if models == 2 and align.controls in ("one", "every") else 0

    def need(micro: int | None, copies: int = copies) -> MemoryNeed:
        # Without small passes the graphs of all targets live until the step is over.
        rows = models * micro if micro else models * models * align.fit.batch_size
        return aligning_memory(
            shape,
            models=models,
            rows=rows,
            tokens=settings.responses.tokens,
            texts=settings.prompts,
            rank=align.rank or shape.width // 2,
            size=sizes[align.dtype],
            copies=copies,
        )

    def less() -> Iterator[tuple[str, MemoryNeed]]:
        for size in _halve(align.fit.micro_batch or 2 * align.fit.batch_size):
            yield f"--align.fit.micro-batch {size}", need(size)
        if models > 2:
            yield "--align.no-shared-space: no fit of all models at once", MemoryNeed("nothing", {})
        yield "--align.fit.micro-batch 1 --align.controls random", need(1, 0)

    return StageMemory(need(align.fit.micro_batch), less, jobs)


def _halve(size: int) -> Iterator[int]:
    """Half of it, and so on, to 1."""
    while size > 1:
        size //= 2
        yield size
