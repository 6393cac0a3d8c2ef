"""Seconds from trained toys and a fresh process to worst-direction validation IIA 0.95, data included."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from mas_hooks.core.settings import Settings as Base
from mas_hooks.models.toys import ToySettings, TrainSettings, load_toy
from mas_hooks.studies.measurements import Measurement


class Settings(Base):
    """What is measured: MAS on two Multi-Object GRUs, variable Full."""

    goal: float = 0.95
    """Worst-direction validation IIA at which the clock stops."""
    rank: int = 16
    """Aligned dims."""
    width: int = 48
    """Units of the two GRUs."""
    starts: tuple[str, ...] = ("procrustes", "random")
    """Where the maps begin."""
    batch: int = 128
    """Pairs a direction and step."""
    sizes: tuple[int, int, int] = (10_000, 1_000, 1_000)
    """Training, validation and test pairs, all drawn inside the clock."""
    repeats: int = 5
    """Fresh processes of each start; they take turns."""
    seed: int = 0


def main(settings: Settings) -> list[Measurement]:
    """Train the toys first if the cache lacks them (not timed), then time fresh processes."""
    for seed in range(2):
        load_toy(_toy(settings, seed))
    runs: dict[str, list[dict[str, float]]] = {start: [] for start in settings.starts}
    for _ in range(settings.repeats):
        for start in settings.starts:
            runs[start].append(_time_process(settings, start))
    ours = statistics.median(run["seconds"] for run in runs[settings.starts[0]])
    return [_row(settings, start, runs, ours) for start, runs in runs.items()]


def _toy(settings: Settings, seed: int) -> ToySettings:
    return ToySettings(width=settings.width, training=TrainSettings(seed=seed))


def _time_process(settings: Settings, start: str) -> dict[str, float]:
    """Time a fresh process: the clock starts before the process and stops when it reports the goal."""
    began = time.perf_counter()
    command = [sys.executable, __file__, settings.model_dump_json(), start]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, **json.loads(done.stdout)}


def _row(settings: Settings, start: str, runs: list[dict[str, float]], ours: float) -> Measurement:
    spent = [1e3 * run["seconds"] for run in runs]
    median = statistics.median(spent)
    return Measurement(
        bench="time-to-iia",
        variant=f"{start} start, IIA {runs[0]['iia']:.3f} after {runs[0]['steps']:.0f} steps",
        method="mas",
        device="cpu",
        dtype="float32",
        batch=settings.batch,
        width=settings.width,
        rank=settings.rank,
        models=2,
        ms_median=median,
        ms_min=min(spent),
        ms_max=max(spent),
        ratio=median / 1e3 / ours,
    )


def _child(settings: Settings, start: str) -> None:
    """What runs inside the clock: load, draw pairs, cache activations, fit until the goal."""
    import mas_hooks as mh

    toys = [load_toy(_toy(settings, seed)) for seed in range(2)]
    models = [mh.wrap(toy.model, name=f"gru-{index}") for index, toy in enumerate(toys)]
    train, valid, _ = mh.task_pairs([toy.task for toy in toys], ["full"] * 2, settings.sizes, settings.seed)
    alignment = mh.Alignment([model.at("state") for model in models], rank=settings.rank, init=start, centre=True)
    schedule = mh.FitSettings(
        batch_size=settings.batch, validate_every=10, patience=1_000, stop_at=settings.goal, seed=settings.seed
    )
    fit = mh.fit(alignment, mh.methods.mas(), train, valid, schedule, progress=False)
    print(json.dumps({"steps": fit.steps, "iia": fit.best_iia}))


if __name__ == "__main__":
    _child(Settings(**json.loads(sys.argv[1])), sys.argv[2])
