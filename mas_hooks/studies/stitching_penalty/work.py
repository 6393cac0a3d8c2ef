"""The stages of the recipe `stitching-penalty`: losses, similarities, stitches, and their comparison row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

from mas_hooks.core.parallel import Work
from mas_hooks.core.progress import say
from mas_hooks.core.records import Record
from mas_hooks.core.run_folder import RunFolder
from mas_hooks.core.settings import Options
from mas_hooks.hooks import HookedModel
from mas_hooks.models.language import pack_texts
from mas_hooks.similarity import compare_layers
from mas_hooks.studies.stages import alignment_folder, follow_work
from mas_hooks.studies.stitching_penalty.models import ModelPairs
from mas_hooks.studies.work import stitching
from mas_hooks.studies.work.stitching import StitchComparison, interval_record, read_losses

WAYS = ((1, 0), (0, 1), (0, 0), (1, 1))
"""(source, target) by the number of the model: into a, into b, and the two baselines."""
DIFFERENCES = (((1, 0), (0, 1)), ((0, 0), (1, 1)), *product(WAYS[:2], WAYS[2:]))
"""What is compared row by row: the two directions, the two baselines, each direction with each baseline."""
TOKENS = 4_096
"""At once, where whole logits are made."""


def stitch_name(way: tuple[int, int], layer: int, seed: int) -> str:
    """Name the stage of a stitch.

    Args:
        way: Source and target, each by its number in the pair.
        layer: The block behind which to stitch.
        seed: The seed of the stitch.

    Returns:
        A name such as `a-b-layer0-seed0`.
    """
    return f"{'ab'[way[0]]}-{'ab'[way[1]]}-layer{layer}-seed{seed}"


def plan_stitches(models: ModelPairs) -> dict[str, StitchComparison]:
    """Every stitch by its name: layers, seeds, directions."""
    every = product(models.seeds, models.layers, WAYS)
    return {stitch_name(way, layer, seed): models.plan_stitch(way, layer, seed) for seed, layer, way in every}


def make_work(name: str, comparison: StitchComparison, run: RunFolder, *, progress: bool) -> Work[StitchComparison]:
    """Give a stitch the folders it works in.

    Args:
        name: Of its stage.
        comparison: The stitch.
        run: The folder of the run.
        progress: Whether to show bars.

    Returns:
        The work, for a process of its own.
    """
    return Work(name, comparison, run.state(name), alignment_folder(run.path, name), progress)


def run_stitches(plan: Mapping[str, StitchComparison], models: ModelPairs, run: RunFolder, options: Options) -> None:
    """Run what is not done yet, and keep the records of each.

    Args:
        plan: The stitches by name.
        models: The pairs of models, which name the records.
        run: The folder of the run.
        options: Processes, device and bars.
    """
    left = [(name, comparison) for name, comparison in plan.items() if run.read_stage(name) is None]
    todo = [make_work(name, comparison, run, progress=options.progress) for name, comparison in left]
    for work, rows, done, about in follow_work(
        stitching.run_stitching, todo, options, "all stitches", len(plan) - len(todo)
    ):
        letters = work.name.split("-")[:2]
        way = ("ab".index(letters[0]), "ab".index(letters[1]))
        run.finish_stage(work.name, [models.describe(way, row) for row in rows])
        penalty = next(row.value for row in rows if row.measure == "stitching_penalty")
        say(f"{done} {work.name}: penalty {penalty:.3f} nats{about}")


def measure_losses(models: ModelPairs, run: RunFolder) -> str:
    """Measure the loss of every model alone on each part of the texts (task names them); the name of the stage."""
    if run.read_stage("models") is None:
        rows = []
        for seed in models.seeds:
            for number, model in enumerate(models.load_pair(seed)):
                parts = zip(("train", "valid", "test"), models.texts.rows(model), strict=True)
                for part, ids in parts:
                    described = models.describe(
                        (number, number), split=part, measure="loss", trials=len(ids), seed=seed
                    )
                    rows.append(interval_record(replace(described, task=_name_texts(models)), _losses(model, ids)))
        run.finish_stage("models", rows)
    return "models"


def compare_layers_of_pairs(models: ModelPairs, run: RunFolder) -> str:
    """The stage with the CKA of all layer pairs, between the models and within each, on the test rows."""
    if run.read_stage("cka") is None:
        run.finish_stage("cka", [row for seed in models.seeds for row in _compare_layers(models, seed)])
    return "cka"


def _compare_layers(models: ModelPairs, seed: int) -> Iterator[Record]:
    both, shown = models.load_pair(seed), models.options.progress
    rows = models.texts.rows(both[0])[2]
    for way in ((0, 1), (0, 0), (1, 1)):
        grid = compare_layers(both[way[0]], both[way[1]], rows, progress=shown)
        yield from (models.describe(way, row) for row in grid.records(seed=seed))


def _losses(model: HookedModel, ids: torch.Tensor) -> torch.Tensor:
    """Nats a token of every row."""
    batches = []
    with torch.no_grad():
        for part in ids.split(max(1, TOKENS // ids.shape[1])):
            logits = model.forward(part)[:, :-1].float()
            lost = torch.nn.functional.cross_entropy(logits.mT, part[:, 1:].to(logits.device), reduction="none")
            batches.append(lost.mean(1).double().cpu())
    return torch.cat(batches)


def _name_texts(models: ModelPairs) -> str:
    settings = models.settings
    return (
        pack_texts(settings.small.vocabulary, settings.context).name
        if settings.data is None
        else Path(settings.data).name
    )


def summarise_stitches(plan: Mapping[str, StitchComparison], models: ModelPairs, run: RunFolder) -> list[Record]:
    """Average penalties and their differences over the seeds, with intervals over the test rows.

    Args:
        plan: The stitches by name, all of them done.
        models: The pairs of models, which name the records.
        run: The folder of the run, with the losses of every stitch.

    Returns:
        The penalties and the differences of penalties, block by block.
    """
    kept = {name: read_losses(make_work(name, comparison, run, progress=False)) for name, comparison in plan.items()}
    rows = []
    for layer in models.layers:
        site, here = f"blocks.{layer}.hook_resid_post", []
        losses = {way: [kept[stitch_name(way, layer, seed)] for seed in models.seeds] for way in WAYS}
        costs = {way: torch.stack([stitched - alone for stitched, alone in seeds]) for way, seeds in losses.items()}
        for way, cost in costs.items():
            here.append(_over_rows(models.describe(way, measure="stitching_penalty"), cost))
        for first, second in DIFFERENCES:
            minus = f"minus {models.describe(second).comparison}"
            described = models.describe(first, measure="penalty_difference", variable=minus)
            here += _difference(described, costs[first] - costs[second], models.seeds)
        rows += [replace(row, split="test", source_site=site, target_site=site) for row in here]
    return rows


def _over_rows(described: Record, values: torch.Tensor) -> Record:
    """The mean of values (seed, row), its interval over rows."""
    return interval_record(replace(described, seeds=len(values), trials=values.shape[1]), values.mean(0))


def _difference(described: Record, values: torch.Tensor, seeds: Iterable[int]) -> Iterator[Record]:
    """A difference (seed, row) over all, of each seed, and with its interval over seeds."""
    yield _over_rows(described, values)
    for seed, of_seed in zip(seeds, values, strict=True):
        yield interval_record(replace(described, seed=seed, trials=len(of_seed)), of_seed)
    over = replace(described, measure="penalty_difference_of_seeds", seeds=len(values), trials=len(values))
    yield interval_record(over, values.mean(1))
