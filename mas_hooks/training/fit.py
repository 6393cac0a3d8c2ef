"""The one training loop: lower the plan's losses over the maps, keep the best validation checkpoint."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.plan import Plan
from mas_hooks.core import checkpoints, files
from mas_hooks.core.errors import SettingError
from mas_hooks.core.progress import progress_bar
from mas_hooks.core.records import Record
from mas_hooks.data.counterfactual_latents import NaturalCells
from mas_hooks.data.pairs import Directed
from mas_hooks.engine.cache import freeze_models
from mas_hooks.hooks.wrap import warn_in_train_mode
from mas_hooks.training.checkpoint import FitState
from mas_hooks.training.fingerprint import fit_fingerprint
from mas_hooks.training.loop import FitLoop, check_frozen_sites
from mas_hooks.training.settings import FitSettings


@dataclass(frozen=True)
class Fit:
    """What a fit did.

    Args:
        curve: validation rows (split="valid"), one per direction and validation, step 0 first.
        steps: optimiser steps that were made.
        best_step: the step of the checkpoint that the alignment now holds.
        best_iia: its worst validation IIA (minus the loss where that chooses, minus the latent loss where no behaviour
            does).
        stopped: why it ended: `plateau`, `epochs`, `steps` or `stop_at`.
        path: `tail` or `reference`, as the patched forwards were run.
        seconds: of all sessions of an interrupted fit, data not counted.
        latents_dropped: training pairs without a counterfactual latent.

    Example:
        >>> from mas_hooks.training import Fit
        >>> done = Fit(curve=(), steps=9, best_step=5, best_iia=0.8, stopped="plateau", path="tail", seconds=1.5)
        >>> done.stopped, done.best_step
        ('plateau', 5)
    """

    curve: tuple[Record, ...]
    steps: int
    best_step: int
    best_iia: float
    stopped: str
    path: str
    seconds: float
    latents_dropped: int = 0


def fit(
    alignment: Alignment,
    plan: Plan,
    train: Directed,
    valid: Directed,
    settings: FitSettings | None = None,
    *,
    latents: Mapping[int, NaturalCells] | None = None,
    folder: Path | str | None = None,
    frozen: Iterable[int] = (),
    progress: bool = True,
) -> Fit:
    """Train the maps of `alignment` by `plan`; afterwards they hold the best validation checkpoint.

    The models stay frozen and as they were; the alignment takes over the plan. All errors but DivergedError are raised
    before training starts.

    Args:
        alignment: the maps or transports to train.
        plan: the method, of the maps or the transport that the alignment has.
        train: training pairs: one set for every direction, or sets by (source, target).
        valid: validation pairs, likewise.
        settings: batches, optimiser and when to stop; None for the paper's.
        latents: for methods with a latent loss, the natural cells of each inaccessible model by its number, from
            `latents.natural_cells(task)`; a recording brings its own.
        folder: keeps the state at every validation. A fit of the same settings, pairs and models that was interrupted
            (or ended) in this folder goes on from there and ends with the same numbers.
        frozen: numbers of the sites whose maps stay as they are, to align further models to them
            (`Alignment.extend`). Directions between two of them are neither trained nor part of the curve.
        progress: whether to show a bar.

    Returns:
        The validation curve, and why and where training ended.

    Raises:
        SettingError: the plan is of other maps than the alignment's, some setting does not fit, or nothing can learn.
        UnknownNameError: a trained direction has no pairs.
        UnsupportedError: a direction cannot be trained, such as one into a recording.
        CheckpointError: the folder holds another fit.
        DivergedError: the loss is no longer a number.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> model = mh.wrap(torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 5)))
        >>> ids, where = torch.tensor([[1, 2], [3, 4]]), mh.Where.one_per_row([1, 0])
        >>> pairs = mh.Pairs.from_tensors(ids, where, ids, where, labels=ids, label_mask=ids > 0)
        >>> alignment = mh.Alignment(model.at("0"), rank=2)
        >>> settings = mh.FitSettings(batch_size=2, steps=3)
        >>> done = mh.fit(alignment, mh.methods.das(), pairs, pairs, settings, progress=False)
        >>> done.steps, done.stopped, [row.step for row in done.curve]
        (3, 'steps', [0, 1, 2, 3])
    """
    settings = settings or FitSettings()
    for name, value, kind in (("plan", plan, Plan), ("settings", settings, FitSettings)):
        if not isinstance(value, kind):
            raise SettingError(name, value, f"a {kind.__name__}, such as {_EXAMPLES[kind]}")
    if plan.maps not in (None, alignment.plan.maps):
        raise SettingError("plan.maps", plan.maps, "None, or the map specification of the alignment")
    if plan.transport != alignment.plan.transport:
        raise SettingError("plan.transport", plan.transport, "that of the alignment: make it by Alignment.from_plan")
    fixed = check_frozen_sites(alignment, frozen)
    models = [model for model in alignment.models if model is not None]
    for model in models:
        warn_in_train_mode(model)
    place = None if folder is None else files.ensure_writable(folder) / "fit"
    still = [*(model.module for model in models), *(alignment.site_maps[index] for index in fixed)]
    with freeze_models(still):
        loop = FitLoop(alignment, plan, (train, valid), settings, latents or {}, fixed)
        fingerprint = {} if place is None else fit_fingerprint(loop, latents or {})
        if place is not None and checkpoints.checkpoint_exists(place):
            loop.state = FitState.load(place, fingerprint, alignment, loop.optimizer)
        _train(loop, place, fingerprint, progress=progress)
    state = loop.state
    alignment.load_state_dict(state.best)
    alignment.plan = plan.model_copy(update={"maps": alignment.plan.maps})
    return Fit(
        tuple(state.curve),
        state.step,
        state.best_step,
        state.best_iia,
        str(state.stopped),
        loop.train.path,
        state.seconds,
        loop.latent.dropped,
    )


_EXAMPLES = {Plan: "mas_hooks.methods.mas()", FitSettings: "mas_hooks.FitSettings(epochs=10)"}


def _train(loop: FitLoop, place: Path | None, fingerprint: dict[str, Any], *, progress: bool) -> None:
    """Step and validate until the state says stop."""
    state, every, total = loop.state, loop.settings.validate_every or loop.epoch, loop.total
    judge = "IIA" if loop.settings.select_by == "iia" else "−loss"
    began, before = time.perf_counter(), state.seconds
    label = f"{loop.plan.method} ({loop.alignment.init} start)"
    with progress_bar(total, label, initial=state.step, shown=progress) as bar:
        while state.stopped is None:
            validated = state.curve and state.curve[-1].step == state.step
            if not validated and (state.step % every == 0 or state.step == total):
                loop.validate()
                state.seconds = before + time.perf_counter() - began
                if place is not None:
                    state.save(place, fingerprint, loop.alignment, loop.optimizer)
                bar.set_postfix_str(f"worst {judge} {state.mark:.3f}, best {state.best_iia:.3f}")
            if state.stopped is None:
                loop.step()
                bar.update()
