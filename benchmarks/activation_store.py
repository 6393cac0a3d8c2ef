"""Tokens a second and peak memory of collecting every layer of a GPT-2 over growing data sets, to memory and disk."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mas_hooks.core.settings import Settings as Base
from mas_hooks.engine import collect
from mas_hooks.hooks import HookedModel, wrap
from mas_hooks.studies.measurements import Measurement

VARIANTS = ("forward alone", "memory", "folder")
VOCABULARY = 1_000


class Settings(Base):
    """What is measured: a random-weight GPT-2 that reads random ids."""

    batches: tuple[int, ...] = (8, 32, 128)
    """Batches in each data set, from small to large."""
    batch: int = 32
    """Sequences a batch."""
    length: int = 32
    """Tokens a sequence, each one a row of every site."""
    width: int = 128
    """Units of a site."""
    layers: int = 4
    """Blocks; the site after each is collected, all in one pass."""
    dtype: str = "float32"
    """As stored."""
    shard_mb: float = 8.0
    """Megabytes of a shard."""
    folder: str | None = None
    """Where the folder variant writes; default a temporary folder."""
    threads: int = 1
    """Torch threads."""
    seed: int = 0


def main(settings: Settings) -> list[Measurement]:
    """Time each variant in a fresh process, whose memory no other variant has touched; data sets from small to large.

    peak_mb is how much resident memory grows above what the process holds after a first small run.
    """
    return [row for variant in VARIANTS for row in _run_process(settings, variant)]


def _run_process(settings: Settings, variant: str) -> list[Measurement]:
    command = [sys.executable, __file__, settings.model_dump_json(), variant]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    sites = settings.layers * settings.width * torch.empty(0, dtype=getattr(torch, settings.dtype)).itemsize
    rows = []
    for batches, measured in zip(settings.batches, json.loads(done.stdout.splitlines()[-1]), strict=True):
        tokens = batches * settings.batch * settings.length
        kept = "" if variant == VARIANTS[0] else f" ({tokens * sites / 2**20:,.0f} MB)"
        rows.append(
            Measurement(
                bench="activation-store",
                variant=f"{variant}, {tokens:,} tokens{kept}",
                device="cpu",
                dtype=settings.dtype,
                batch=settings.batch,
                length=settings.length,
                width=settings.width,
                models=1,
                tokens_per_s=tokens / measured["seconds"],
                peak_mb=measured["peak_mb"],
            )
        )
    return rows


def _model(settings: Settings) -> HookedModel:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(settings.seed)
    size: dict[str, Any] = {"n_embd": settings.width, "n_layer": settings.layers, "n_positions": settings.length}
    config = GPT2Config(vocab_size=VOCABULARY, n_head=4, bos_token_id=None, eos_token_id=None, **size)
    return wrap(GPT2LMHeadModel(config).eval(), name="gpt2")


def _data(settings: Settings, batches: int) -> Iterator[tuple[Tensor, None]]:
    """A data set that is never in memory as a whole."""
    generator = torch.Generator().manual_seed(settings.seed)
    for _ in range(batches):
        yield torch.randint(VOCABULARY, (settings.batch, settings.length), generator=generator), None


def _run(model: HookedModel, settings: Settings, variant: str, batches: int, parent: Path) -> None:
    data = _data(settings, batches)
    if variant == "forward alone":
        with torch.no_grad():
            for ids, _ in data:
                model.forward(ids)
        return
    sites = [model.at(f"blocks.{layer}.hook_resid_post") for layer in range(settings.layers)]
    folder = None if variant == "memory" else parent / str(batches)
    collect(sites, data, folder=folder, dtype=settings.dtype, shard_mb=settings.shard_mb, progress=False)


def _resident_mb(kind: str) -> float | None:
    """VmRSS or VmHWM, the resident memory now or at its peak; None where the system does not report it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) / 1024


def _time_collections(settings: Settings, variant: str) -> list[dict[str, float | None]]:
    """Collect one small data set to warm up, then time each data set; this runs in the fresh process."""
    torch.set_num_threads(settings.threads)
    model, clear, measured = _model(settings), Path("/proc/self/clear_refs"), []
    with tempfile.TemporaryDirectory(dir=settings.folder) as parent:
        _run(model, settings, variant, 2, Path(parent))
        before = _resident_mb("VmRSS")
        for batches in settings.batches:
            if clear.exists():
                clear.write_text("5")
            began = time.perf_counter()
            _run(model, settings, variant, batches, Path(parent))
            seconds, peak = time.perf_counter() - began, _resident_mb("VmHWM")
            measured.append({"seconds": seconds, "peak_mb": peak - before if peak and before else None})
    return measured


if __name__ == "__main__":
    print(json.dumps(_time_collections(Settings.model_validate_json(sys.argv[1]), sys.argv[2])))
