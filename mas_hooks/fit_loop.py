"""A fit in progress: its settings, one optimiser step, one validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from mas_hooks.alignment import Alignment
from mas_hooks.engine.batches import Batches
from mas_hooks.engine.cache import ActivationCache
from mas_hooks.errors import DivergedError, SettingError, UnsupportedError
from mas_hooks.fit_state import FitState
from mas_hooks.latent_targets import LatentTargets
from mas_hooks.latents import NaturalCells
from mas_hooks.metrics import Score
from mas_hooks.objectives import behaviour_losses, total_loss
from mas_hooks.pairs import Directed
from mas_hooks.plan import Direction, Plan
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


class Loop:
    """A fit in progress. frozen: sites whose maps stay as they are; a direction between two of them is left out."""

    def __init__(
        self,
        alignment: Alignment,
        plan: Plan,
        sets: tuple[Directed, Directed],
        settings: FitSettings,
        latents: Mapping[int, NaturalCells],
        frozen: frozenset[int] = frozenset(),
    ):
        parameters = _learned(alignment, frozen)
        cache = ActivationCache(alignment.sites, alignment.models)
        count = len(alignment.sites)
        self.alignment, self.plan, self.settings, self.frozen = alignment, plan, settings, frozen
        self.train = Swaps(alignment, sets[0], self._moving(plan.directions(count)), cache)
        self.valid = Swaps(alignment, sets[1], self._moving(plan.selecting(count)), cache)
        ways = self._moving(plan.latent_directions(count))
        self.latent, self.latent_valid = (
            LatentTargets(alignment, pairs, ways, cache, latents, settings.seed) for pairs in sets
        )
        self.batches = {
            way: Batches(len(pairs), settings.batch_size, f"{settings.seed}/{way.source}/{way.target}")
            for way, pairs in (self.latent.pairs | self.train.pairs).items()
        }
        self.epoch = max(batches.per_epoch for batches in self.batches.values())
        begin(alignment, cache, sets[0], frozen)
        self.floors = self.valid.scores(edited=False)
        self.optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate)
        self.state = FitState()

    def _moving(self, ways: Sequence[Direction]) -> list[Direction]:
        """The directions that a map which learns has a part in."""
        return [way for way in ways if not self.frozen.issuperset(way)]

    def loss(self, step: int) -> Float[Tensor, ""]:
        """The loss on the batch of a step: of behaviour, of latents, or of both (eq. 9); maps evaluated once."""
        exchange, plan = self.alignment.exchange(), self.plan
        batches = {way: batch.at(step) for way, batch in self.batches.items()}
        found: dict[Direction, Tensor] = {}
        for ways, labelled in self.train.run(exchange, batches):
            sizes = [self.batches[way].size for way in ways]
            found |= dict(zip(ways, behaviour_losses(labelled, sizes, plan.loss_average), strict=True))
        behaviour = [found[way] for way in self.train.directions]
        latent = [*self.latent.losses(exchange, batches, plan.latent_reduction)] if self.latent.ways else []
        nothing = torch.zeros(0)
        return total_loss(
            torch.stack(behaviour) if behaviour else nothing,
            torch.stack(latent) if latent else nothing,
            plan.latent_weight if latent else 0.0,
            plan.direction_average,
        )

    def step(self) -> None:
        """One optimiser step."""
        total = self.loss(self.state.step)
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
        worst = min(found.iia for found in scores.values()) if scores else self._latent_merit()
        if worst > state.best_iia:
            state.best_iia, state.best_step = worst, state.step
            state.best = {name: tensor.detach().clone() for name, tensor in self.alignment.state_dict().items()}
        gained = worst > state.mark and worst >= state.mark + self.settings.min_gain
        state.waited = 0 if gained else state.waited + 1
        state.mark = worst if gained else state.mark
        if scores and self.settings.stop_at is not None and worst >= self.settings.stop_at:
            state.stopped = "stop_at"
        elif state.waited >= self.settings.patience:
            state.stopped = "plateau"
        elif state.step >= self.settings.epochs * self.epoch:
            state.stopped = "epochs"

    def _latent_merit(self) -> float:
        """Minus the latent loss on the validation pairs: what chooses where no behaviour may."""
        if not self.latent.ways:
            return 0.0
        with torch.no_grad():
            return -float(self.latent_valid.whole(self.alignment.exchange(), self.plan.latent_reduction).mean())

    def _row(self, way: Direction, found: Score) -> Record:
        names = self.alignment.names
        return Record(
            comparison=" × ".join(names),
            method=self.plan.method,
            source_model=names[way.source],
            target_model=names[way.target],
            source=way.source,
            target=way.target,
            k=self.alignment.k,
            init=self.alignment.init,
            split="valid",
            selected_on=self.plan.select_on,
            iia=found.iia,
            token_accuracy=found.token_accuracy,
            floor=self.floors[way].iia,
            trials=found.trials,
            step=self.state.step,
        )


def frozen_sites(alignment: Alignment, frozen: Iterable[int]) -> frozenset[int]:
    """The numbers of sites whose maps are to stay as they are, checked."""
    count = len(alignment.sites)
    numbers = list(frozen) if isinstance(frozen, Iterable) else [frozen]
    unknown = [number for number in numbers if number not in range(count)]
    if unknown:
        raise SettingError("a number in frozen", unknown[0], f"that of a site, 0 to {count - 1}")
    if numbers and alignment.plan.transport is not None:
        remedy = "fit all of it, or align by a method with one map per site, such as methods.mas()"
        raise UnsupportedError(f"freezing sites of {alignment.plan.method}", remedy)
    if len(set(numbers)) == count:
        raise SettingError("frozen", sorted(numbers), f"fewer than all {count} sites: some map has to learn")
    return frozenset(map(int, numbers))  # numbers of numpy or torch too, which a set would tell from plain ones


def _learned(alignment: Alignment, frozen: frozenset[int]) -> list[nn.Parameter]:
    """The parameters that the optimiser moves. Raises SettingError where there are none."""
    kept = {id(parameter) for index in frozen for parameter in alignment.own_maps[index].parameters()}
    found = [one for one in alignment.parameters() if one.requires_grad and id(one) not in kept]
    if not found:
        kind = (alignment.plan.transport or alignment.spec).kind
        allowed = "'frame' or 'rotation'" if alignment.plan.transport is None else "'linear' or another"
        raise SettingError("the kind of map", kind, f"{allowed}: this one does not learn")
    return found
