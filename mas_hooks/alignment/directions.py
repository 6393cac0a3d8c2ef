"""The swaps of some directions, ready to run: activations cached, and one pass per target over all its sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mas_hooks.alignment.alignment import Alignment, runnable_site
from mas_hooks.alignment.interchange import AbstractSwapOperator, needs_sequential_swap
from mas_hooks.alignment.plan import Direction
from mas_hooks.data.pairs import Directed, Pairs, of_direction
from mas_hooks.engine.batch import AbstractRunner, LabelledLogits, PatchBatch
from mas_hooks.engine.cache import ActivationCache
from mas_hooks.engine.runner import ReferenceRunner, choose_runner
from mas_hooks.engine.scores import Score, score_trials

BATCH = 1024
LOGITS = 2**28
"""At most so many logits at once where a whole set of pairs is scored."""
Result = TypeVar("Result")


class PatchedDirections:
    """Everything that stays the same over a fit: pairs, activations and runners of the directions of an alignment."""

    def __init__(
        self,
        alignment: Alignment,
        pairs: Directed,
        directions: Sequence[Direction],
        cache: ActivationCache,
        path: str = "auto",
    ) -> None:
        self._path, self._live = path, set[Direction]()
        self.alignment, self.cache, self.directions = alignment, cache, tuple(directions)
        self.pairs: dict[Direction, Pairs] = {way: of_direction(pairs, *way) for way in directions}
        self._runners = {target: self._runner(target) for target in dict.fromkeys(way.target for way in directions)}

    def _runner(self, target: int) -> AbstractRunner:
        """One runner serves every direction into a target: the tail only where it is proven for all of them."""
        model, site = runnable_site(self.alignment, target)
        ways = self.into(target)
        moved = self.alignment.swapped_width(target)
        self._live |= {way for way in ways if needs_sequential_swap(model, site, self.pairs[way], moved)}
        one_by_one = bool(self._live & set(ways))
        sets = {id(self.pairs[way]): self.pairs[way] for way in ways}
        found = [choose_runner(model, site, pairs, self._path, one_by_one=one_by_one) for pairs in sets.values()]
        reference = [one for one in found if isinstance(one, ReferenceRunner)]
        return reference[0] if reference else found[0]

    def into(self, target: int) -> list[Direction]:
        """The directions that end in a model."""
        return [way for way in self.directions if way.target == target]

    @property
    def path(self) -> str:
        """`tail` if every target runs from its site on, else `reference`."""
        names = {one.name for one in self._runners.values()}
        return names.pop() if len(names) == 1 else "reference"

    def run(
        self, exchange: AbstractSwapOperator, batches: Mapping[Direction, Int[Tensor, " batch"]]
    ) -> list[tuple[list[Direction], LabelledLogits]]:
        """Swap and run: one entry per target, its directions in the order of the batch's rows."""
        results = []
        for target, one in self._runners.items():
            ways = [way for way in self.into(target) if way in batches]
            if ways:
                parts = [self._part(exchange, way, batches[way]) for way in ways]
                results.append((ways, one.run(parts)))
        return results

    def run_unedited(self, direction: Direction, index: Int[Tensor, " batch"]) -> LabelledLogits:
        """The same pairs with the target's own activations put back: the no-op floor."""
        pairs = self.pairs[direction]
        cells, _ = pairs.cells(index)
        own = self.cache.target(direction.target, pairs, cells)
        return self._runners[direction.target].run([PatchBatch(pairs, index, own)])

    def scores(self, *, edited: bool = True) -> dict[Direction, Score]:
        """The score of every direction over all its pairs; with edited=False the no-op floor."""
        return {way: sum(found[1:], start=found[0]) for way, found in self.each(score_trials, edited=edited).items()}

    def each(
        self, measure: Callable[[LabelledLogits], Result], *, edited: bool = True
    ) -> dict[Direction, list[Result]]:
        """What a measure says of every direction: of all its pairs, in their order, so many at once."""
        found: dict[Direction, list[Result]] = {}
        with torch.no_grad():
            exchange = self.alignment.swap_operator()
            for way in self.directions:
                batches = torch.arange(len(self.pairs[way])).split(self._rows(way))
                found[way] = [
                    measure(self.run(exchange, {way: index})[0][1] if edited else self.run_unedited(way, index))
                    for index in batches
                ]
        return found

    def _rows(self, way: Direction) -> int:
        """How many pairs are scored at once: a language model's vocabulary makes large logits of few rows."""
        model, _ = runnable_site(self.alignment, way.target)
        told = getattr(model.module, "config", None) or getattr(model.bridge, "cfg", None)
        vocabulary = getattr(told, "vocab_size", None) or getattr(told, "d_vocab", 1)  # of TransformerLens' own models
        return max(1, min(BATCH, LOGITS // (vocabulary * self.pairs[way].labels.shape[1])))

    def _part(self, exchange: AbstractSwapOperator, way: Direction, index: Tensor) -> PatchBatch:
        pairs = self.pairs[way]
        if way not in self._live:
            return PatchBatch(pairs, index, swap_vectors(self.cache, pairs, exchange, way, index))
        cells, _ = pairs.cells(index)
        return PatchBatch(pairs, index, self.cache.source(way.source, pairs, cells), partial(exchange.swap, way))


def swap_vectors(
    cache: ActivationCache, pairs: Pairs, exchange: AbstractSwapOperator, way: Direction, index: Int[Tensor, " batch"]
) -> Float[Tensor, "n width"]:
    """What the target cells of some pairs hold after the swap."""
    cells, _ = pairs.cells(index)
    target = cache.target(way.target, pairs, cells) if exchange.reads_target else None
    return exchange.swap(way, target, cache.source(way.source, pairs, cells))
