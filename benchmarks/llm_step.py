"""Milliseconds of one DAS training step on a language model, ours next to plain hooks and other libraries."""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable
from functools import partial
from importlib import metadata
from typing import Literal, NamedTuple

import torch

import mas_hooks as mh
from mas_hooks.alignment import random_frame
from mas_hooks.core.errors import DeviceError, MasHooksError, UnknownNameError
from mas_hooks.core.settings import Settings as Base
from mas_hooks.studies.measurements import Measurement, peak_mb
from mas_hooks.studies.step_benchmark import cost, models, steps

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-3}
"""How far a first loss may lie from that of plain hooks, as a share of it; TransformerLens rounds its basis too."""
PEER_ERRORS = (ImportError, RuntimeError, ValueError, TypeError, AttributeError, LookupError)
"""What a library raises when it cannot do the step with this model, dtype or device."""


class Peer(NamedTuple):
    """A variant of another library: the printed name, the function that makes its step, the package it needs."""

    variant: str
    make: Callable[..., Callable[[], float]]
    package: str
    install: str


PEERS = {
    "pyvene": Peer("pyvene", steps.pyvene, "pyvene", "pyvene"),
    "pyvene-rotation": Peer("pyvene, full rotation", partial(steps.pyvene, low_rank=False), "pyvene", "pyvene"),
    "transformer-lens": Peer("TransformerLens", steps.lens, "transformer-lens", "'mas-hooks[lens]'"),
    "nnsight": Peer("nnsight", steps.nnsight, "nnsight", "'mas-hooks[nnsight]'"),
}
OURS = {"ours": "auto", "ours, no prefix reuse": "tail", "ours, whole forward": "reference"}
FORWARDS = {"bare forward": steps.bare_forward, "identity edit, over bare forward": steps.identity}


class UnequalLossError(MasHooksError):
    """A variant whose first loss is not that of plain hooks: it does not do the same step."""

    def __init__(self, variant: str, loss: float, expected: float, tolerance: float) -> None:
        super().__init__(
            f"the first loss of {variant!r} is {loss:.7g}, but must be within {tolerance:.0e} of {expected:.7g}, "
            "that of plain hooks; nothing was timed."
        )


class Settings(Base):
    """What is measured: DAS on one frozen model, swapped at one place of every example's second half."""

    model: str = "qwen2-small"
    """qwen2-small, qwen2-1.5b (both with random weights), or a folder with a model."""
    device: str = "cpu"
    """Where it runs: cpu, cuda, cuda:1, or auto for the best there is."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the model; auto is float32 on a CPU, bfloat16 on a GPU."""
    batch: int = 16
    """Pairs a step."""
    length: int = 64
    """Tokens of a source and of a target."""
    rank: int = 64
    """Aligned dims."""
    layer: int | None = None
    """The block whose output is swapped, from 0 (default: the last of the lower half)."""
    peers: tuple[str, ...] = tuple(PEERS)
    """Libraries to compare with; those not installed are left out."""
    repeats: int = 15
    """Timed steps of each variant; they take turns."""
    threads: int = 2
    """Torch threads."""
    seed: int = 0


def make(settings: Settings) -> steps.StepBench:
    """The model and the batch. The labels are what the model says without a swap: a swap shows in the loss."""
    device = _device(settings.device)
    auto = torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype = auto if settings.dtype == "auto" else getattr(torch, settings.dtype)
    model = models.load_model(settings.model, device, dtype, settings.seed)
    shape = (2, settings.batch, settings.length)
    generator = torch.Generator().manual_seed(settings.seed)
    source, target = torch.randint(model.config.vocab_size, shape, generator=generator).to(device)
    path, half = mh.wrap(model).point("blocks.0.hook_resid_post").path.removesuffix(".0"), settings.length // 2
    middle = len(model.get_submodule(path)) // 2 - 1
    at = torch.randint(half, settings.length, shape[:2], generator=generator).to(device)
    with torch.no_grad():
        labels = model(target).logits.argmax(-1)
    return steps.StepBench(
        model=model,
        layer_path=path,
        layer=middle if settings.layer is None else settings.layer,
        source=source,
        source_at=at[0],
        target=target,
        target_at=at[1],
        labels=labels,
        scored=torch.arange(settings.length, device=device) >= at[1][:, None],
        frame=random_frame(model.config.hidden_size, settings.rank, generator).to(device),
    )


def main(settings: Settings) -> list[Measurement]:
    """Time every variant on one batch. They take turns: a slow moment of the machine hits all."""
    unknown = [name for name in settings.peers if name not in PEERS]
    if unknown:
        raise UnknownNameError("library", unknown[0], PEERS, "--peers")
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        return _measure(settings, make(settings))
    finally:
        torch.set_num_threads(threads)


def _device(named: str) -> torch.device:
    """Raises DeviceError for a device that is not there."""
    there = torch.cuda.device_count()
    if named == "auto":
        named = "cuda" if there else "cpu"
    if named not in ("cpu", *(["cuda"] if there else []), *(f"cuda:{number}" for number in range(there))):
        raise DeviceError.missing(named)
    return torch.device(named)


def first_losses(settings: Settings, bench: steps.StepBench) -> tuple[dict[str, Callable[[], float]], dict[str, float]]:
    """The steps that can be timed, and the first loss of each. Raises UnequalLossError where they differ."""
    variants = {"plain hooks": steps.plain(bench)}
    variants |= {variant: steps.ours_step(bench, path) for variant, path in OURS.items()}
    losses = {variant: step() for variant, step in variants.items()}
    for name in settings.peers:
        peer = PEERS[name]
        if importlib.util.find_spec(peer.package.replace("-", "_")) is None:
            print(f"{peer.variant} is left out: it is not installed; pip install {peer.install}")
            continue
        try:
            step = peer.make(bench)
            losses[peer.variant] = step()
        except PEER_ERRORS as error:
            said = (str(error).strip() or "no message").splitlines()[-1]  # nnsight puts a whole traceback before
            print(f"{peer.variant} is left out: it raised {type(error).__name__}: {said}")
            continue
        variants[peer.variant] = step
    expected, tolerance = losses["plain hooks"], TOLERANCE[bench.model.dtype] * abs(losses["plain hooks"])
    for variant, loss in losses.items():
        if not abs(loss - expected) <= tolerance:
            raise UnequalLossError(variant, loss, expected, tolerance)
    forwards = {variant: forward(bench) for variant, forward in FORWARDS.items()}
    unedited = {variant: forward() for variant, forward in forwards.items()}
    if abs(unedited["bare forward"] - expected) <= tolerance:
        print(f"the swap moves the loss by no more than {tolerance:.0e}: that the losses are equal proves little here")
    return variants | forwards, losses | unedited


def _measure(settings: Settings, bench: steps.StepBench) -> list[Measurement]:
    device = bench.target.device
    variants, losses = first_losses(settings, bench)
    times: dict[str, list[float]] = {variant: [] for variant in variants}
    for turn in range(settings.repeats + 1):  # the first, which warms up, does not count
        for variant, step in variants.items():
            spent = cost.seconds(step, device)
            if turn:
                times[variant].append(1e3 * spent)
    floor = 1e3 * cost.floor_of(bench) / cost.matmul_rate(device, bench.model.dtype)
    return [_row(settings, bench, variant, times, losses[variant], step, floor) for variant, step in variants.items()]


def _row(
    settings: Settings,
    bench: steps.StepBench,
    variant: str,
    times: dict[str, list[float]],
    loss: float,
    step: Callable[[], float],
    floor: float,
) -> Measurement:
    median, forward = statistics.median(times[variant]), variant in FORWARDS
    device = bench.target.device
    return Measurement(
        bench="llm-step",
        variant=variant,
        method=None if forward else "das",
        backend=_backend(variant),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        dtype=str(bench.model.dtype).removeprefix("torch."),
        batch=settings.batch,
        length=settings.length,
        width=len(bench.frame),
        rank=settings.rank,
        layer=bench.layer,
        models=1,
        ms_median=median,
        ms_min=min(times[variant]),
        ms_max=max(times[variant]),
        tokens_per_s=settings.batch * settings.length / median * 1e3,
        peak_mb=peak_mb(step, str(device)),
        floor_share=None if forward else floor / median,
        ratio=median / statistics.median(times["bare forward" if forward else "ours"]),
        loss=loss,
    )


def _backend(variant: str) -> str:
    """The library that runs a variant, with its version."""
    package = next((peer.package for peer in PEERS.values() if peer.variant == variant), "transformers")
    return f"{package} {metadata.version(package)}"
