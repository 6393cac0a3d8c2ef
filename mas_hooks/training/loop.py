"""A fit in progress: one optimiser step, one validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.directions import PatchedDirections, direction_record
from mas_hooks.alignment.plan import Direction, Plan
from mas_hooks.core.errors import DivergedError, SettingError, UnsupportedError
from mas_hooks.core.records import Record
from mas_hooks.data.counterfactual_latents import NaturalCells
from mas_hooks.data.pairs import Directed
from mas_hooks.engine.cache import ActivationCache
from mas_hooks.engine.scores import Score, score_trials
from mas_hooks.training.batches import Batches
from mas_hooks.training.checkpoint import FitState
from mas_hooks.training.initialise import initialise_from_data
from mas_hooks.training.latent_targets import LatentTargets
from mas_hooks.training.losses import average_losses, behaviour_losses, pair_losses, total_loss
from mas_hooks.training.settings import FitSettings


class FitLoop:
    """A fit in progress.

    Args:
        alignment: the maps or transports to train.
        plan: the method.
        sets: training and validation pairs.
        settings: batches, optimiser and when to stop.
        latents: the natural cells of each inaccessible model, by its number.
        frozen: sites whose maps stay as they are; a direction between two of them is left out.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> from mas_hooks.training import FitLoop
        >>> model = mh.wrap(torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 5)))
        >>> ids, where = torch.tensor([[1, 2], [3, 4]]), mh.Where.one_per_row([1, 0])
        >>> pairs = mh.Pairs.from_tensors(ids, where, ids, where, labels=ids, label_mask=ids > 0)
        >>> alignment = mh.Alignment(model.at("0"), rank=2)
        >>> loop = FitLoop(alignment, alignment.plan, (pairs, pairs), mh.FitSettings(steps=2), latents={})
        >>> loop.validate()
        >>> loop.step()
        >>> loop.state.step, len(loop.state.curve)
        (1, 1)
    """

    def __init__(
        self,
        alignment: Alignment,
        plan: Plan,
        sets: tuple[Directed, Directed],
        settings: FitSettings,
        latents: Mapping[int, NaturalCells],
        frozen: frozenset[int] = frozenset(),
    ):
        parameters = _learned_parameters(alignment, frozen)
        _check_portions(plan, settings)
        cache = ActivationCache(alignment.sites, alignment.models)
        count = len(alignment.sites)
        self.alignment, self.plan, self.settings, self.frozen = alignment, plan, settings, frozen
        self.train = PatchedDirections(alignment, sets[0], self._with_learning_map(plan.directions(count)), cache)
        self.valid = PatchedDirections(
            alignment, sets[1], self._with_learning_map(plan.selecting_directions(count)), cache
        )
        latent_directions = self._with_learning_map(plan.latent_directions(count))
        self.latent, self.latent_valid = (
            LatentTargets(alignment, pairs, latent_directions, cache, latents, settings.seed) for pairs in sets
        )
        self.batches = {
            way: Batches(len(pairs), settings.batch_size, f"{settings.seed}/{way.source}/{way.target}")
            for way, pairs in (self.latent.pairs | self.train.pairs).items()
        }
        self.epoch = max(batches.per_epoch for batches in self.batches.values())
        initialise_from_data(alignment, cache, sets[0], frozen)
        self.floors = self.valid.scores(edited=False)
        self.total = settings.steps or settings.epochs * self.epoch
        self.optimizer = _make_optimizer(parameters, settings)
        self.state = FitState()

    def _with_learning_map(self, directions: Sequence[Direction]) -> list[Direction]:
        """The directions that a map which learns has a part in."""
        return [direction for direction in directions if not self.frozen.issuperset(direction)]

    def loss(self, step: int) -> Float[Tensor, ""]:
        """The loss on the batch of a step: of behaviour, of latents, or of both (eq. 9); maps evaluated once."""
        return self._loss(self._batches(step))

    def _batches(self, step: int) -> dict[Direction, Tensor]:
        return {way: batch.at(step) for way, batch in self.batches.items()}

    def _loss(self, batches: Mapping[Direction, Tensor]) -> Float[Tensor, ""]:
        operator, plan = self.alignment.swap_operator(), self.plan
        losses: dict[Direction, Tensor] = {}
        for into, labelled in self.train.run(operator, batches):
            sizes = [len(batches[direction]) for direction in into]
            losses |= dict(zip(into, behaviour_losses(labelled, sizes, plan.loss_average), strict=True))
        behaviour = [losses[direction] for direction in self.train.directions]
        latent = [*self.latent.losses(operator, batches, plan.latent_reduction)] if self.latent.directions else []
        nothing = torch.zeros(0)
        return total_loss(
            torch.stack(behaviour) if behaviour else nothing,
            torch.stack(latent) if latent else nothing,
            plan.latent_weight if latent else 0.0,
            plan.direction_average,
        )

    def _accumulate(self, batches: Mapping[Direction, Tensor], most: int) -> Float[Tensor, ""]:
        """The same loss, its gradient taken pass by pass; the maps are evaluated once a pass."""
        total = torch.zeros(())
        for target in dict.fromkeys(way.target for way in batches):
            into = {way: index.split(most) for way, index in batches.items() if way.target == target}
            for number in range(max(map(len, into.values()))):
                portion = {way: parts[number] for way, parts in into.items() if number < len(parts)}
                ((ways, labelled),) = self.train.run(self.alignment.swap_operator(), portion)
                sizes = [len(portion[way]) for way in ways]
                losses = behaviour_losses(labelled, sizes, self.plan.loss_average)
                shares = losses.new_tensor([len(portion[way]) / len(batches[way]) for way in ways])
                lost = (losses * shares).sum() / (len(batches) if self.plan.direction_average == "mean" else 1)
                lost.backward()
                total = total + lost.detach().cpu()
        return total

    def step(self) -> None:
        """One optimiser step."""
        self.optimizer.zero_grad(set_to_none=True)
        batches, most = self._batches(self.state.step), self.settings.micro_batch
        total = self._loss(batches) if most is None else self._accumulate(batches, most)
        if not torch.isfinite(total):
            raise DivergedError(f"the loss of {self.plan.method}", self.state.step)
        if most is None:
            total.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate(self.state.step, self.total)
            if self.settings.clip_norm is not None:
                nn.utils.clip_grad_norm_(group["params"], self.settings.clip_norm)
        self.optimizer.step()
        self.state.step += 1

    def validate(self) -> None:
        """Score the validation pairs, keep the maps if they are the best so far, and note whether that was a gain."""
        state, (scores, losses) = self.state, self._judge()
        state.curve += [self._record(direction, score, losses.get(direction)) for direction, score in scores.items()]
        merits = [-loss for loss in losses.values()] or [score.iia for score in scores.values()]
        worst = min(merits) if merits else self._latent_merit()
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
        elif state.step >= self.total:
            state.stopped = "steps" if self.settings.steps else "epochs"

    def _judge(self) -> tuple[dict[Direction, Score], dict[Direction, float]]:
        """The scores on the validation pairs, and their losses where these choose; one pass for both."""
        if self.settings.select_by == "iia":
            return self.valid.scores(), {}
        measured = self.valid.measure_batches(lambda labelled: (score_trials(labelled), pair_losses(labelled)))
        scores, losses = {}, {}
        for direction, batches in measured.items():
            scores[direction] = sum((score for score, _ in batches[1:]), start=batches[0][0])
            sums, counts = (torch.cat(parts) for parts in zip(*(pair for _, pair in batches), strict=True))
            losses[direction] = float(average_losses(sums, counts, self.plan.loss_average))
        return scores, losses

    def _latent_merit(self) -> float:
        """Minus the latent loss on the validation pairs: what chooses where no behaviour may."""
        if not self.latent.directions:
            return 0.0
        with torch.no_grad():
            operator, reduction = self.alignment.swap_operator(), self.plan.latent_reduction
            return -float(self.latent_valid.losses_of_all(operator, reduction).mean())

    def _record(self, direction: Direction, score: Score, loss: float | None) -> Record:
        """A line of the curve, which leaves the sites to the final rows."""
        return direction_record(
            self.alignment,
            direction,
            method=self.plan.method,
            source_site=None,
            target_site=None,
            split="valid",
            selected_on=self.plan.select_on,
            iia=score.iia,
            token_accuracy=score.token_accuracy,
            floor=self.floors[direction].iia,
            trials=score.trials,
            step=self.state.step,
            measure=None if loss is None else "loss",
            value=loss,
        )


def check_frozen_sites(alignment: Alignment, frozen: Iterable[int]) -> frozenset[int]:
    """Check the numbers of the sites whose maps are to stay as they are.

    Raises SettingError for a number that is no site's, or where no map is left to learn, and UnsupportedError for a
    stitch.
    """
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
    return frozenset(map(int, numbers))  # numbers of numpy or torch too, which a set would not hold equal to plain ones


def _learned_parameters(alignment: Alignment, frozen: frozenset[int]) -> list[nn.Parameter]:
    """The parameters that the optimiser moves. Raises SettingError where there are none."""
    still = {id(parameter) for index in frozen for parameter in alignment.site_maps[index].parameters()}
    parameters = [each for each in alignment.parameters() if each.requires_grad and id(each) not in still]
    if not parameters:
        kind = (alignment.plan.transport or alignment.spec).kind
        allowed = "'frame' or 'rotation'" if alignment.plan.transport is None else "'linear' or another"
        raise SettingError("the kind of map", kind, f"{allowed}: this one does not learn")
    return parameters


def _make_optimizer(parameters: Sequence[nn.Parameter], settings: FitSettings) -> torch.optim.Optimizer:
    """The optimiser; its rate is set at every step."""
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=settings.learning_rate)
    return torch.optim.SGD(parameters, lr=settings.learning_rate, momentum=settings.momentum, nesterov=True)


def _check_portions(plan: Plan, settings: FitSettings) -> None:
    """Only means over trials are sums over the passes of a batch."""
    if settings.micro_batch is not None and (plan.loss_average != "trial" or plan.latent_into != "none"):
        allowed = "None, for a loss averaged over tokens or of latents"
        raise SettingError("FitSettings.micro_batch", settings.micro_batch, allowed)
