"""The one training loop: lower the plan's losses over the maps, keep the best validation checkpoint."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mas_hooks import checkpoints
from mas_hooks.alignment import Alignment
from mas_hooks.engine.batches import Batches
from mas_hooks.engine.cache import ActivationCache
from mas_hooks.engine.frozen import frozen
from mas_hooks.errors import DeviceError, DivergedError, SettingError
from mas_hooks.fit_state import FitState
from mas_hooks.hooks.wrap import warn_in_train_mode
from mas_hooks.metrics import Score
from mas_hooks.objectives import behaviour_losses
from mas_hooks.pairs import Directed
from mas_hooks.plan import Direction, Plan
from mas_hooks.progress import bar as progress_bar
from mas_hooks.records import Record
from mas_hooks.settings import Settings
from mas_hooks.start import begin
from mas_hooks.swaps import Swaps


class FitSettings(Settings):
    """How to train the maps (defaults: the paper's, Grant 2025, App. A.2)."""

    batch_size: int = Field(default=512, ge=1)
    """Pairs per direction and step."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Of Adam."""
    epochs: int = Field(default=1000, ge=1)
    """At most so many passes over the training pairs."""
    validate_every: int = Field(default=0, ge=0)
    """Steps between validations; 0 for once an epoch."""
    patience: int = Field(default=20, ge=1)
    """Stop after so many validations without a gain."""
    min_gain: float = Field(default=0.002, ge=0)
    """What counts as a gain in the worst direction's IIA."""
    stop_at: float | None = Field(default=None, gt=0, le=1)
    """Stop as soon as the worst direction's validation IIA is this high; None trains to the plateau."""
    seed: int = 0
    """Of the order of the batches."""


@dataclass(frozen=True)
class Fit:
    """What a fit did.

    curve: validation rows (split="valid"), one per direction and validation, step 0 first. best_step: the step of the
    checkpoint that the alignment now holds. stopped: `plateau`, `epochs` or `stop_at`. path: `tail` or `reference`,
    as the patched forwards were run. seconds: of all sessions of an interrupted fit, data not counted.
    """

    curve: tuple[Record, ...]
    steps: int
    best_step: int
    best_iia: float
    stopped: str
    path: str
    seconds: float


class _Loop:
    """A fit in progress."""

    def __init__(self, alignment: Alignment, plan: Plan, sets: tuple[Directed, Directed], settings: FitSettings):
        parameters = [parameter for parameter in alignment.parameters() if parameter.requires_grad]
        if not parameters:
            raise SettingError("the kind of map", alignment.spec.kind, "'frame' or 'rotation': this one does not learn")
        cache = ActivationCache(alignment.sites, alignment.models)
        ways = plan.directions(len(alignment.sites))
        self.alignment, self.plan, self.settings = alignment, plan, settings
        self.train, self.valid = (Swaps(alignment, pairs, ways, cache) for pairs in sets)
        self.batches = {
            way: Batches(len(pairs), settings.batch_size, f"{settings.seed}/{way.source}/{way.target}")
            for way, pairs in self.train.pairs.items()
        }
        self.epoch = max(batches.per_epoch for batches in self.batches.values())
        begin(alignment, cache, sets[0])
        self.floors = self.valid.scores(edited=False)
        self.optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate)
        self.state = FitState()

    def losses(self, step: int) -> Float[Tensor, " directions"]:
        """The behaviour loss of every trained direction on the batch of a step; maps evaluated once."""
        views = self.alignment.views()
        found: dict[Direction, Tensor] = {}
        for ways, labelled in self.train.run(views, {way: batch.at(step) for way, batch in self.batches.items()}):
            sizes = [self.batches[way].size for way in ways]
            found |= dict(zip(ways, behaviour_losses(labelled, sizes, self.plan.loss_average), strict=True))
        return torch.stack([found[way] for way in self.train.directions])

    def step(self) -> None:
        """One optimiser step."""
        losses = self.losses(self.state.step)
        total = losses.sum() if self.plan.direction_average == "sum" else losses.mean()
        if not torch.isfinite(total):
            raise DivergedError(f"the loss of {self.plan.method}", self.state.step)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        self.state.step += 1

    def validate(self) -> None:
        """Score the validation pairs, keep the maps if they are the best so far, and note whether that was a gain."""
        scores, state = self.valid.scores(), self.state
        state.curve += [self._row(way, found) for way, found in scores.items()]
        worst = min(found.iia for found in scores.values())
        if worst > state.best_iia:
            state.best_iia, state.best_step = worst, state.step
            state.best = {name: tensor.detach().clone() for name, tensor in self.alignment.state_dict().items()}
        gained = worst > state.mark and worst >= state.mark + self.settings.min_gain
        state.waited = 0 if gained else state.waited + 1
        state.mark = worst if gained else state.mark
        if self.settings.stop_at is not None and worst >= self.settings.stop_at:
            state.stopped = "stop_at"
        elif state.waited >= self.settings.patience:
            state.stopped = "plateau"
        elif state.step >= self.settings.epochs * self.epoch:
            state.stopped = "epochs"

    def _row(self, way: Direction, found: Score) -> Record:
        names = self.alignment.names
        return Record(
            comparison=" × ".join(names),
            method=self.plan.method,
            source_model=names[way.source],
            target_model=names[way.target],
            source=way.source,
            target=way.target,
            k=self.alignment.spec.total,
            init=self.alignment.spec.init,
            split="valid",
            iia=found.iia,
            token_accuracy=found.token_accuracy,
            floor=self.floors[way].iia,
            trials=found.trials,
            step=self.state.step,
        )


def fit(
    alignment: Alignment,
    plan: Plan,
    train: Directed,
    valid: Directed,
    settings: FitSettings | None = None,
    *,
    device: str = "auto",
    folder: Path | str | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Fit:
    """Train the maps of `alignment` by `plan`; afterwards they hold the best validation checkpoint.

    The models stay frozen and as they were; the alignment takes over the plan. device: `auto` = where the models are.
    folder: keeps the state at every validation, so that an interrupted fit goes on with resume=True and ends with the
    same numbers. progress: a bar.
    Raises before training starts where settings, pairs, sites or folder do not fit.
    """
    settings = settings or FitSettings()
    for name, value, kind in (("plan", plan, Plan), ("settings", settings, FitSettings)):
        if not isinstance(value, kind):
            raise SettingError(name, value, f"a {kind.__name__}, such as {_EXAMPLES[kind]}")
    if plan.maps is not None and plan.maps != alignment.spec:
        raise SettingError("plan.maps", plan.maps, "None, or the map specification of the alignment")
    models = [model for model in alignment.models if model is not None]
    _check_device(device, alignment)
    for model in models:
        warn_in_train_mode(model)
    place = None if folder is None else checkpoints.writable(folder) / "fit"
    with frozen([model.module for model in models]):
        loop = _Loop(alignment, plan, (train, valid), settings)
        told = _told(loop)
        if place is not None and resume and checkpoints.exists(place):
            loop.state = FitState.load(place, told, alignment, loop.optimizer)
        _train(loop, place, told, progress=progress)
    state = loop.state
    alignment.load_state_dict(state.best)
    alignment.plan = plan.model_copy(update={"maps": alignment.spec})
    return Fit(
        tuple(state.curve),
        state.step,
        state.best_step,
        state.best_iia,
        str(state.stopped),
        loop.train.path,
        state.seconds,
    )


_EXAMPLES = {Plan: "mas_hooks.methods.mas()", FitSettings: "mas_hooks.FitSettings(epochs=10)"}


def _told(loop: _Loop) -> dict[str, Any]:
    """What must be the same when an interrupted fit goes on."""
    alignment = loop.alignment
    return {
        "plan": loop.plan.model_dump(mode="json"),
        "maps": alignment.spec.model_dump(mode="json"),
        "fit": loop.settings.model_dump(mode="json"),
        "seed": alignment.seed,
        "sites": [[str(site), site.width] for site in alignment.sites],
        "pairs": [own.fingerprint for swaps in (loop.train, loop.valid) for own in swaps.pairs.values()],
    }


def _check_device(device: str, alignment: Alignment) -> None:
    where = next(alignment.buffers()).device
    if device not in ("auto", where.type, str(where)):
        raise DeviceError(f"device is {device!r}, but the models are on {where}; move them there with .to() first.")


def _train(loop: _Loop, place: Path | None, told: dict, *, progress: bool) -> None:
    """Step and validate until the state says stop."""
    state, every, total = loop.state, loop.settings.validate_every or loop.epoch, loop.settings.epochs * loop.epoch
    began, before = time.perf_counter(), state.seconds
    label = f"{loop.plan.method} ({loop.alignment.spec.init} start)"
    with progress_bar(total, label, initial=state.step, shown=progress) as bar:
        while state.stopped is None:
            validated = state.curve and state.curve[-1].step == state.step
            if not validated and (state.step % every == 0 or state.step == total):
                loop.validate()
                state.seconds = before + time.perf_counter() - began
                if place is not None:
                    state.save(place, told, loop.alignment, loop.optimizer)
                bar.set_postfix_str(f"worst IIA {state.mark:.3f}, best {state.best_iia:.3f}")
            if state.stopped is None:
                loop.step()
                bar.update()
