"""The patched runs of some directions: activations cached, one pass per target over all its sources, and records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.interchange import AbstractSwapOperator
from mas_hooks.alignment.plan import Direction
from mas_hooks.alignment.resolved_direction import ResolvedDirection
from mas_hooks.core.records import Record
from mas_hooks.data.pairs import Directed, Pairs
from mas_hooks.engine.batch import AbstractRunner, LabelledLogits, PatchBatch
from mas_hooks.engine.cache import ActivationCache
from mas_hooks.engine.runner import ReferenceRunner, choose_runner
from mas_hooks.engine.scores import Score, score_trials

BATCH = 1024
LOGITS = 2**28
"""At most so many logits at once where a whole set of pairs is scored."""
Result = TypeVar("Result")


class PatchedDirections:
    """Everything that stays the same over a fit: pairs, activations and runners of the directions of an alignment.

    Args:
        alignment: what swaps.
        pairs: one set for every direction, or sets by (source, target).
        directions: those that are run; the target of each can be run.
        cache: activations of the alignment's sites, which several of these objects may share.
        path: `auto` runs only what a swap can change, where that is proven equal; `reference` the whole forward.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> from mas_hooks.alignment import Direction, PatchedDirections
        >>> from mas_hooks.engine.cache import ActivationCache
        >>> model = mh.wrap(torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 5)))
        >>> ids, where = torch.tensor([[1, 2], [3, 4]]), mh.Where.one_per_row([1, 0])
        >>> pairs = mh.Pairs.from_tensors(ids, where, ids, where, labels=ids, label_mask=ids > 0)
        >>> alignment = mh.Alignment(model.at("0"), rank=2)
        >>> cache = ActivationCache(alignment.sites, alignment.models)
        >>> patched = PatchedDirections(alignment, pairs, [Direction(0, 0)], cache)
        >>> patched.scores()[Direction(0, 0)].trials
        2
    """

    def __init__(
        self,
        alignment: Alignment,
        pairs: Directed,
        directions: Sequence[Direction],
        cache: ActivationCache,
        path: str = "auto",
    ) -> None:
        self.alignment, self.cache, self.directions = alignment, cache, tuple(directions)
        self._resolved = {direction: alignment.resolve(direction, pairs) for direction in directions}
        self.pairs: dict[Direction, Pairs] = {way: resolved.pairs for way, resolved in self._resolved.items()}
        targets = dict.fromkeys(direction.target for direction in directions)
        self._runners = {target: _choose_runner(self._into(target), path) for target in targets}
        self._sequential = {direction for direction in directions if self._resolved[direction].sequential}

    def _into(self, target: int) -> list[ResolvedDirection]:
        """The directions that end in a model."""
        return [self._resolved[direction] for direction in self.directions if direction.target == target]

    @property
    def path(self) -> str:
        """`tail` if every target runs from its site on, else `reference`."""
        names = {runner.name for runner in self._runners.values()}
        return names.pop() if len(names) == 1 else "reference"

    def run(
        self, operator: AbstractSwapOperator, batches: Mapping[Direction, Int[Tensor, " batch"]]
    ) -> list[tuple[list[Direction], LabelledLogits]]:
        """Swap and run: one entry per target, its directions in the order of the batch's rows."""
        results = []
        for target, runner in self._runners.items():
            into = [resolved.direction for resolved in self._into(target) if resolved.direction in batches]
            if into:
                results.append((into, runner.run([self._batch(operator, way, batches[way]) for way in into])))
        return results

    def run_unedited(self, direction: Direction, index: Int[Tensor, " batch"]) -> LabelledLogits:
        """Run the same pairs with the target's own activations put back: the no-op floor."""
        pairs = self.pairs[direction]
        cells, _ = pairs.cells(index)
        unchanged = self.cache.target(direction.target, pairs, cells)
        return self._runners[direction.target].run([PatchBatch(pairs, index, unchanged)])

    def scores(self, *, edited: bool = True) -> dict[Direction, Score]:
        """The score of every direction over all its pairs; with edited=False the no-op floor."""
        batches = self.measure_batches(score_trials, edited=edited)
        return {direction: sum(scores[1:], start=scores[0]) for direction, scores in batches.items()}

    def measure_batches(
        self, measure: Callable[[LabelledLogits], Result], *, edited: bool = True
    ) -> dict[Direction, list[Result]]:
        """What a measure says of every direction: of all its pairs, in their order, so many at once."""
        results: dict[Direction, list[Result]] = {}
        with torch.no_grad():
            operator = self.alignment.swap_operator()
            for direction in self.directions:
                batches = torch.arange(len(self.pairs[direction])).split(self._rows(direction))
                results[direction] = [
                    measure(
                        self.run(operator, {direction: index})[0][1] if edited else self.run_unedited(direction, index)
                    )
                    for index in batches
                ]
        return results

    def _rows(self, direction: Direction) -> int:
        """How many pairs are scored at once: a language model's vocabulary makes large logits of few rows."""
        model, _ = self._resolved[direction].receiver()
        config = getattr(model.module, "config", None) or getattr(model.bridge, "cfg", None)
        vocabulary = getattr(config, "vocab_size", None) or getattr(config, "d_vocab", 1)  # TransformerLens' own models
        return max(1, min(BATCH, LOGITS // (vocabulary * self.pairs[direction].labels.shape[1])))

    def _batch(self, operator: AbstractSwapOperator, direction: Direction, index: Tensor) -> PatchBatch:
        pairs = self.pairs[direction]
        if direction not in self._sequential:
            return PatchBatch(pairs, index, swap_vectors(self.cache, self._resolved[direction], operator, index))
        cells, _ = pairs.cells(index)
        given = self.cache.source(direction.source, pairs, cells)
        return PatchBatch(pairs, index, given, partial(operator.swap, direction))


def _choose_runner(into: Sequence[ResolvedDirection], path: str) -> AbstractRunner:
    """One runner serves every direction into a target: the tail only where it is proven for all of them."""
    model, site = into[0].receiver()
    one_by_one = any(resolved.sequential for resolved in into)
    sets = {id(resolved.pairs): resolved.pairs for resolved in into}
    runners = [choose_runner(model, site, pairs, path, one_by_one=one_by_one) for pairs in sets.values()]
    reference = [runner for runner in runners if isinstance(runner, ReferenceRunner)]
    return reference[0] if reference else runners[0]


def swap_vectors(
    cache: ActivationCache, resolved: ResolvedDirection, operator: AbstractSwapOperator, index: Int[Tensor, " batch"]
) -> Float[Tensor, "n width"]:
    """What the target cells of some pairs hold after the swap.

    Args:
        cache: activations of both sites.
        resolved: the direction with its pairs; its swaps do not wait for each other.
        operator: the evaluated maps or transports.
        index: the numbers of the pairs.

    Returns:
        One vector for each target cell of these pairs, in the order of `Pairs.cells`.
    """
    direction, pairs = resolved.direction, resolved.pairs
    cells, _ = pairs.cells(index)
    target = cache.target(direction.target, pairs, cells) if operator.reads_target else None
    return operator.swap(direction, target, cache.source(direction.source, pairs, cells))


def direction_record(alignment: Alignment, direction: Direction, **values: Any) -> Record:
    """Make the line of results of a direction, with everything filled in that the alignment knows.

    These are comparison, method, models, sites, numbers, k, init and what chose the checkpoint.

    Args:
        alignment: what swaps.
        direction: the numbers of the two sites.
        values: further keys of `Record`, and other values of those above; None leaves a key out.

    Returns:
        One record.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> from mas_hooks.alignment import Direction, direction_record
        >>> brains = [mh.recording(torch.zeros(6, 3), {}, name) for name in ("left", "right")]
        >>> alignment = mh.Alignment(brains, rank=2)
        >>> record = direction_record(alignment, Direction(0, 1), split="test", iia=0.5)
        >>> record.comparison, record.target_model, record.k, record.iia
        ('left × right', 'right', 2, 0.5)
    """
    names, sites = alignment.names, alignment.sites
    keys = {
        "comparison": " × ".join(names),
        "method": alignment.plan.method,
        "source_model": names[direction.source],
        "source_site": sites[direction.source].name,
        "target_model": names[direction.target],
        "target_site": sites[direction.target].name,
        "source": direction.source,
        "target": direction.target,
        "k": alignment.k,
        "init": alignment.init,
        "selected_on": alignment.plan.select_on,
    }
    return Record(**(keys | values))
