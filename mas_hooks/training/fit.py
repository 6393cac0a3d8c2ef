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
from mas_hooks.engine.cache import freeze_models as without_gradient
from mas_hooks.hooks.wrap import warn_in_train_mode
from mas_hooks.training.checkpoint import FitState
from mas_hooks.training.fingerprint import fit_fingerprint
from mas_hooks.training.loop import FitLoop, frozen_sites
from mas_hooks.training.settings import FitSettings


@dataclass(frozen=True)
class Fit:
    """What a fit did.

    curve: validation rows (split="valid"), one per direction and validation, step 0 first. best_step: the step of the
    checkpoint that the alignment now holds; best_iia: its worst validation IIA (minus the loss where that chooses,
    minus the latent loss where no behaviour does). stopped: `plateau`, `epochs`, `steps` or `stop_at`. path: `tail` or
    `reference`, as the patched forwards were run. seconds: of all sessions of an interrupted fit, data not counted.
    latents_dropped: training pairs without a counterfactual latent.
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

    The models stay frozen and as they were; the alignment takes over the plan. latents: for methods with a latent
    loss, the natural cells of each inaccessible model, from `natural_cells(task)`; a recording brings its own.
    folder: keeps the state at every validation. A fit of the same settings, pairs and models that was interrupted (or
    ended) in this folder goes on from there and ends with the same numbers; another fit's folder is refused.
    frozen: numbers of the sites whose maps stay as they are, to align further models to them (`Alignment.extend`);
    directions between two of them are neither trained nor part of the curve. progress: a bar.
    Raises before training starts where settings, pairs, sites or folder do not fit.
    """
    settings = settings or FitSettings()
    for name, value, kind in (("plan", plan, Plan), ("settings", settings, FitSettings)):
        if not isinstance(value, kind):
            raise SettingError(name, value, f"a {kind.__name__}, such as {_EXAMPLES[kind]}")
    if plan.maps not in (None, alignment.plan.maps):
        raise SettingError("plan.maps", plan.maps, "None, or the map specification of the alignment")
    if plan.transport != alignment.plan.transport:
        raise SettingError("plan.transport", plan.transport, "that of the alignment: make it by Alignment.from_plan")
    kept = frozen_sites(alignment, frozen)
    models = [model for model in alignment.models if model is not None]
    for model in models:
        warn_in_train_mode(model)
    place = None if folder is None else files.ensure_writable(folder) / "fit"
    still = [*(model.module for model in models), *(alignment.site_maps[index] for index in kept)]
    with without_gradient(still):
        loop = FitLoop(alignment, plan, (train, valid), settings, latents or {}, kept)
        same = {} if place is None else fit_fingerprint(loop, latents or {})
        if place is not None and checkpoints.checkpoint_exists(place):
            loop.state = FitState.load(place, same, alignment, loop.optimizer)
        _train(loop, place, same, progress=progress)
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


def _train(loop: FitLoop, place: Path | None, same: dict[str, Any], *, progress: bool) -> None:
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
                    state.save(place, same, loop.alignment, loop.optimizer)
                bar.set_postfix_str(f"worst {judge} {state.mark:.3f}, best {state.best_iia:.3f}")
            if state.stopped is None:
                loop.step()
                bar.update()
