"""Milliseconds of CKA of all layer pairs of two models: one streaming pass, plain loops, the forwards alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

import mas_hooks as mh
from mas_hooks.core.errors import MasHooksError
from mas_hooks.core.settings import Settings as Base
from mas_hooks.hooks import HookedModel
from mas_hooks.studies.measurements import Measurement, peak_mb

TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2}
"""How far the loops' values may lie from ours."""
FORWARDS = "both forwards, no vocabulary"
OURS = "ours"


class UnequalValuesError(MasHooksError):
    """A variant that gives other numbers: it does not do the same."""

    def __init__(self, variant: str, distance: float, tolerance: float) -> None:
        super().__init__(
            f"{variant!r} lies {distance:.1e} from ours, but must be within {tolerance:.0e}; nothing was timed."
        )


class Settings(Base):
    """What is measured: two random-weight GPT-NeoX (Pythia) models that read the same random ids."""

    layers: int = 12
    """Blocks of each model; the site after each is compared."""
    width: int = 256
    """Units of a site."""
    batch: int = 8
    """Sequences a minibatch."""
    length: int = 64
    """Tokens a sequence, each one a row."""
    minibatches: int = 4
    """Minibatches of a pass."""
    device: str = "cpu"
    """Where it runs: cpu or cuda."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the models."""
    plain: bool = True
    """Whether the plain loops are timed too."""
    repeats: int = 9
    """Timed passes of each variant; they take turns."""
    threads: int = 1
    """Torch threads."""
    seed: int = 0


def main(settings: Settings) -> list[Measurement]:
    """Time each variant's pass over all minibatches, in milliseconds a minibatch, after its values are checked.

    `floor_share` of ours is the time of both forwards over ours: 0.8 is an overhead of 25%.
    """
    torch.set_num_threads(settings.threads)
    models, ids = _models(settings), _ids(settings)
    variants = {
        FORWARDS: lambda: _forwards(models, ids),
        OURS: lambda: _ours(models, ids, settings),
    }
    if settings.plain:
        variants["kernels once, loop over pairs"] = lambda: _loop_over_pairs(models, ids, kernels_once=True)
        variants["each pair alone"] = lambda: _loop_over_pairs(models, ids, kernels_once=False)
    with torch.no_grad():
        _check(variants, settings)
        times = _times(variants, settings)
        peaks = {name: peak_mb(run, settings.device) for name, run in variants.items()}
    return [_row(name, times, peaks[name], settings) for name in variants]


def _models(settings: Settings) -> list[HookedModel]:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(settings.seed)
    size: dict[str, Any] = {"hidden_size": settings.width, "intermediate_size": 4 * settings.width}
    config = GPTNeoXConfig(num_hidden_layers=settings.layers, num_attention_heads=8, **size)
    modules: list[Any] = [GPTNeoXForCausalLM(config).eval() for _ in range(2)]
    place = {"device": settings.device, "dtype": getattr(torch, settings.dtype)}
    return [mh.wrap(model.to(**place), name=name) for model, name in zip(modules, "ab", strict=True)]


def _ids(settings: Settings) -> list[Tensor]:
    generator = torch.Generator().manual_seed(settings.seed)
    shape = (settings.minibatches, settings.batch, settings.length)
    return list(torch.randint(50_000, shape, generator=generator))


def _base(model: HookedModel) -> Any:
    """What gives the hidden states, without the vocabulary."""
    return model.module.base_model


def _forwards(models: list[HookedModel], ids: list[Tensor]) -> None:
    for batch in ids:
        for model in models:
            _base(model)(batch.to(model.device), use_cache=False)


def _ours(models: list[HookedModel], ids: list[Tensor], settings: Settings) -> Tensor:
    a, b = models
    grid = mh.compare_layers(a, b, torch.cat(ids), batch_size=settings.batch, progress=False)
    return torch.from_numpy(grid.values)


def _hidden(model: HookedModel, batch: Tensor) -> list[Tensor]:
    """What follows each block, as transformers gives it; only the last is read by a hook, before the final norm."""
    last: list[Tensor] = []
    base = _base(model)
    hook = base.layers[-1].register_forward_hook(lambda *given: last.append(given[2]))
    try:
        states = base(batch.to(model.device), use_cache=False, output_hidden_states=True).hidden_states
    finally:
        hook.remove()
    final = last[0][0] if isinstance(last[0], tuple) else last[0]
    return [state.flatten(0, 1).float() for state in (*states[1:-1], final)]


def _kernel(x: Tensor) -> Tensor:
    x = x - x.mean(0)
    return (x @ x.T).fill_diagonal_(0)


def _hsic(k: Tensor, other: Tensor) -> Tensor:
    n = len(k)
    whole = k.sum() * other.sum() / ((n - 1) * (n - 2))
    return ((k * other).sum() + whole - 2 / (n - 2) * (k.sum(0) @ other.sum(0))) / (n * (n - 3))


def _pair(x: Tensor, y: Tensor, *, kernels_once: bool) -> Tensor:
    k, other = (x, y) if kernels_once else (_kernel(x), _kernel(y))
    return torch.stack([_hsic(k, other), _hsic(k, k), _hsic(other, other)])


def _loop_over_pairs(models: list[HookedModel], ids: list[Tensor], *, kernels_once: bool) -> Tensor:
    """HSIC₁ by pairs. Without `kernels_once` each pair builds both kernels, as a function of two matrices does."""
    terms = []
    for batch in ids:
        sides = [_hidden(model, batch) for model in models]
        if kernels_once:
            sides = [[_kernel(x) for x in side] for side in sides]
        terms.append(torch.stack([_pair(x, y, kernels_once=kernels_once) for x in sides[0] for y in sides[1]]))
    xy, xx, yy = torch.stack(terms).cpu().double().mean(0).unbind(-1)
    return (xy / (xx * yy).sqrt()).unflatten(0, (-1, _base(models[1]).config.num_hidden_layers))


def _check(variants: dict[str, Callable[[], Any]], settings: Settings) -> None:
    """Run each once, which also warms it up. Raises UnequalValuesError where values differ."""
    results = {name: run() for name, run in variants.items()}
    for name, values in results.items():
        if isinstance(values, Tensor):
            distance = float((values - results[OURS]).abs().max())
            if not distance <= TOLERANCE[settings.dtype]:
                raise UnequalValuesError(name, distance, TOLERANCE[settings.dtype])


def _times(variants: dict[str, Callable[[], Any]], settings: Settings) -> dict[str, list[float]]:
    """Milliseconds a minibatch of each pass; variants take turns, so that a slow moment hits all."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(settings.repeats):
        for name, run in variants.items():
            _wait(settings)
            began = time.perf_counter()
            run()
            _wait(settings)
            times[name].append((time.perf_counter() - began) * 1e3 / settings.minibatches)
    return times


def _wait(settings: Settings) -> None:
    if settings.device.startswith("cuda"):
        torch.cuda.synchronize(settings.device)


def _row(name: str, times: dict[str, list[float]], peak: float | None, settings: Settings) -> Measurement:
    medians = {variant: statistics.median(passes) for variant, passes in times.items()}
    return Measurement(
        bench="cka",
        variant=name,
        device=settings.device,
        dtype=settings.dtype,
        batch=settings.batch,
        length=settings.length,
        width=settings.width,
        layer=settings.layers,
        models=2,
        ms_median=medians[name],
        ms_min=min(times[name]),
        ms_max=max(times[name]),
        tokens_per_s=settings.batch * settings.length * 1e3 / medians[name],
        peak_mb=peak,
        floor_share=medians[FORWARDS] / medians[name],
        ratio=medians[name] / medians[OURS],
    )
