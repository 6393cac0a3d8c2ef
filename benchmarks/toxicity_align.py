"""Steps and memory of the toxicity study's align stage: models of random weights, alone, by twos and all together."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, NamedTuple

import torch
from pydantic import Field

import mas_hooks as mh
from mas_hooks.alignment import Alignment
from mas_hooks.core.errors import DeviceError
from mas_hooks.core.settings import Settings as Base
from mas_hooks.core.sites import Site
from mas_hooks.data.text_pairs import DirectedPairs, ResponseTokens
from mas_hooks.engine import SharedActivations, freeze_models, share_activations
from mas_hooks.evaluation import evaluate
from mas_hooks.hooks import HookedModel
from mas_hooks.studies.measurements import Measurement, peak_mb
from mas_hooks.studies.step_benchmark import models
from mas_hooks.training import FitLoop, FitSettings

ROWS = 8
"""Sequences at once where the models' own next tokens are read: logits of a whole vocabulary are large."""


class Sizes(NamedTuple):
    """How much is swapped: sequences of each model, pairs of a direction, pairs a step and in one pass, steps timed."""

    sequences: int
    pairs: tuple[int, int, int]
    batch: int
    micro: int | None
    steps: int


SIZES = {
    "small": Sizes(40, (64, 8, 8), 4, None, 3),
    "paper": Sizes(1_000, (10_000, 1_000, 1_000), 256, 32, 20),
}


class Settings(Base):
    """What is measured: fits at one site of one model, of two, and of all of them in one space."""

    model: str = "qwen2-small"
    """A shape (qwen2-small, qwen2-1.5b), given random weights, or a model folder, whose weights are all models'."""
    models: int = Field(default=6, ge=2)
    """How many."""
    site: str = "embed"
    """Where they are swapped."""
    rank: int | None = Field(default=None, ge=1)
    """Shared dims; None is half the width."""
    tokens: int = Field(default=64, ge=24)
    """Of every sequence."""
    margin: int = Field(default=10, ge=0)
    """As in the recipe."""
    sizes: Literal["auto", "small", "paper"] = "auto"
    """`paper` is 10,000 pairs and a batch of 256 in passes of 32; auto is that on a GPU, and small elsewhere."""
    steps: int | None = Field(default=None, ge=1)
    """How many are timed, after one that is not; None for those of the sizes (paper 20; 3,000 is a whole fit)."""
    every: bool = False
    """Every pair of models and every model alone; else one of each."""
    device: str = "cpu"
    """Where they run."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of the models; None is bfloat16 on a GPU and float32 elsewhere."""


def main(settings: Settings) -> list[Measurement]:
    """Measure each fit: milliseconds of a step, tokens and pairs a second, peak memory with data and the test."""
    device = torch.device(settings.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError.missing(settings.device)
    gpu = device.type == "cuda"
    sizes = SIZES[settings.sizes if settings.sizes != "auto" else "paper" if gpu else "small"]
    sizes = sizes._replace(steps=settings.steps or sizes.steps)
    dtype = getattr(torch, settings.dtype or ("bfloat16" if gpu else "float32"))
    wrapped = [
        mh.wrap(models.load_model(settings.model, device, dtype, seed), name=f"model-{seed}")
        for seed in range(settings.models)
    ]
    sites = [model.at(settings.site) for model in wrapped]
    written = [_draw_responses(model, sizes.sequences, settings.tokens, seed) for seed, model in enumerate(wrapped)]
    pairs = mh.text_pairs(written, sizes.pairs, margin=settings.margin)
    kept, rows = SharedActivations(), []
    with share_activations(kept), freeze_models([model.module for model in wrapped]):
        for name, chosen in _fits(settings):
            measured: list[Measurement] = []
            work = partial(
                _measure_fit, settings, sizes, [sites[number] for number in chosen], _select_pairs(pairs, chosen)
            )
            peak = peak_mb(lambda work=work, measured=measured: measured.append(work()), settings.device)
            rows.append(replace(measured[0], variant=name, peak_mb=peak, dtype=str(dtype).removeprefix("torch.")))
    return rows


def _fits(settings: Settings) -> list[tuple[str, tuple[int, ...]]]:
    """The fits that are measured: their names, and the models of each."""
    count = settings.models
    alone = [(f"model {number} alone", (number,)) for number in range(count if settings.every else 1)]
    twos = [(a, b) for a in range(count) for b in range(a + 1, count)][: None if settings.every else 1]
    return [*alone, *((f"models {a} and {b}", (a, b)) for a, b in twos), ("all together", tuple(range(count)))]


def _draw_responses(model: HookedModel, sequences: int, tokens: int, seed: int) -> ResponseTokens:
    """Random tokens in place of texts, with the model's own next token after each."""
    vocabulary = getattr(model.module, "config").vocab_size  # noqa: B009 - a module knows no config by type
    ids = torch.randint(0, vocabulary, (sequences, tokens), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        said = [model.forward(part.to(model.device)).argmax(-1).cpu() for part in ids.split(ROWS)]
    return ResponseTokens(ids, torch.cat(said), vocabulary)


def _select_pairs(pairs: Sequence[DirectedPairs], chosen: tuple[int, ...]) -> list[DirectedPairs]:
    """The training, validation and test pairs between some models, renumbered in the order of `chosen`."""
    return [{(i, j): split[a, b] for i, a in enumerate(chosen) for j, b in enumerate(chosen)} for split in pairs]


def _measure_fit(
    settings: Settings, sizes: Sizes, sites: Sequence[Site], pairs: Sequence[DirectedPairs]
) -> Measurement:
    """Build the data of one fit, time its steps, and run its test."""
    rank = settings.rank or sites[0].width // 2
    plan = mh.methods.stepwise(mh.MapSpec(rank=rank))
    plan = plan.model_copy(update={"models": "one"}) if len(sites) == 1 else plan
    alignment = Alignment.from_plan(plan, sites)
    fit = FitSettings(batch_size=sizes.batch, micro_batch=sizes.micro, steps=sizes.steps + 1, select_by="loss")
    loop = FitLoop(alignment, plan, (pairs[0], pairs[1]), fit, {})
    spent = [_time_step(loop, settings.device) for _ in range(sizes.steps + 1)][1:]
    evaluate(alignment, pairs[2])
    median = statistics.median(spent)
    swapped = len(sites) ** 2 * min(sizes.batch, sizes.pairs[0])
    return Measurement(
        bench="toxicity-align",
        variant="",
        method=plan.method,
        backend=loop.train.path,
        device=settings.device,
        models=len(sites),
        batch=sizes.batch,
        length=settings.tokens,
        width=sites[0].width,
        rank=rank,
        ms_median=median,
        ms_min=min(spent),
        ms_max=max(spent),
        tokens_per_s=1_000 * swapped * settings.tokens / median,
        pairs_per_s=1_000 * swapped / median,
    )


def _time_step(loop: FitLoop, device: str) -> float:
    """Milliseconds of one optimiser step."""
    began = time.perf_counter()
    loop.step()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return 1_000 * (time.perf_counter() - began)
