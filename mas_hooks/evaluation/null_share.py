"""How much of what a fitted alignment moves into its target comes from directions that its source ignores.

Grant 2025, §3.3, on real models: the null share of `null_space.py`, all of it from forwards.

The source's behaviour is what it says after its *own* vector in its own trial, teacher-forced: `natural`, from
`natural_pairs(task)`. (Counterfactual pairs will not do: their continuation is right for another vector.) What is moved
is what the target says after the swap, as a function of the source's vector, on held-out pairs. Its gradients are those
of the target pulled back through the map, so their mean outer product is that of `received`, F_t^½ W, and maps that are
not linear need no matrix. The floor is the source as its own target: its natural behaviour, gradients drawn again.

How to read it. Compare methods of one k, beside their IIA. MAS need not be at the floor: a swap within a model costs
nothing where a direction that it ignores is read and written back. The null space is that of all trials: what is used
in one phase counts as used. Gradients are heavy-tailed, so intervals of values near 0 are too narrow.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mas_hooks.alignment.alignment import Alignment, runnable_site
from mas_hooks.alignment.plan import Direction
from mas_hooks.core.errors import EmptyError, UnknownNameError, UnsupportedError
from mas_hooks.core.records import Record
from mas_hooks.core.sites import Recording, Where
from mas_hooks.data.pairs import Directed, Pairs, of_direction
from mas_hooks.data.tasks import AbstractTask
from mas_hooks.engine.batch import AbstractRunner, PatchBatch
from mas_hooks.engine.cache import ActivationCache
from mas_hooks.engine.runner import choose_runner
from mas_hooks.evaluation.null_space import (
    Share,
    behaviour_gradients,
    null_share,
    null_space,
    part_responses,
    points_between,
    readout_variances,
)

DRAWS = 4
"""Points between samples, and answers drawn there, per sample."""
RESAMPLES = 1_000


@dataclass(frozen=True, eq=False)
class _Tail:
    """What a model says after a vector at the cell of some pairs: (n, positions, vocabulary).

    Zeros stand behind the last wanted position of a shorter row: they have no gradient, and no swap changes them.
    """

    runner: AbstractRunner
    pairs: Pairs
    index: Int[Tensor, " n"]
    put: Callable[[Tensor], Tensor]

    def __call__(self, h: Float[Tensor, "n width"]) -> Float[Tensor, "n positions vocabulary"]:
        found = self.runner.run([PatchBatch(self.pairs, self.index, self.put(h))])
        counts = found.row.bincount(minlength=found.pairs).tolist()
        return pad_sequence(list(found.logits.split(counts)), batch_first=True)


@dataclass(frozen=True, eq=False)
class _Reader:
    """A behaviour as a function of the source's vector, and the vectors that it is natural for."""

    tail: _Tail
    h: Float[Tensor, "n width"]

    def other(self, generator: torch.Generator) -> Float[Tensor, "n width"]:
        return self.h[torch.randperm(len(self.h), generator=generator)]

    def gradients(self, generator: torch.Generator) -> Float[Tensor, "draws n width"]:
        points = [points_between(self.h, self.other(generator), generator) for _ in range(DRAWS)]
        return torch.stack([behaviour_gradients(self.tail, point, generator) for point in points])


def natural_pairs(task: AbstractTask[Any], trials: int = 1_000, seed: int = 0) -> Pairs:
    """Fresh trials as they are, with a uniform allowed cell each: what follows it is wanted, and nothing is swapped."""
    if trials < 1:
        raise EmptyError(f"the set of natural trials of {task.name}", "ask for at least one trial")
    rng = random.Random(f"natural_pairs/{seed}")
    drawn: list[tuple[str, ...]] = []
    while len(drawn) < trials:
        tokens = task.sample(rng)
        drawn += [tokens] if task.swap_positions(tokens) else []
    cells = torch.tensor([rng.choice(task.swap_positions(tokens)) for tokens in drawn])
    whole = torch.from_numpy(task.vocabulary.pad(drawn))
    positions, lengths = torch.arange(whole.shape[1] - 1), torch.tensor([len(tokens) for tokens in drawn])
    after = (positions >= cells[:, None]) & (positions < lengths[:, None] - 1)
    inputs, where = whole[:, :-1].contiguous(), Where.one_per_row(cells)
    return Pairs.from_tensors(inputs, where, inputs, where, whole[:, 1:].contiguous(), after)


def null_space_shares(
    alignment: Alignment,
    pairs: Directed,
    natural: Pairs,
    *,
    source: int,
    target: int,
    tolerances: Sequence[float] = (0.1, 0.01, 0.001),
    seed: int = 0,
    most: int = 512,
) -> list[Record]:
    """The share of the null space of `source` in what its swap into `target` does, for every tolerance τ.

    pairs: held-out, as for `evaluate`. natural: un-intervened cells of the source model, from `natural_pairs`; only
    their target side is read. most: at most so many of each; the source's width is the least.
    Rows: `null_share@τ` (of the variance that reaches the target's behaviour), `null_response@τ` (of the nats that a
    swap of one part alone changes), each again with control="itself" (the source as its own target: the floor) and,
    the first alone, with control="everything" (a reader that takes every unit alike). `null_dims@τ`: how many dims
    behaviour ignores. Intervals: 95%, bootstrapped over the reader's samples, the null space held fixed.
    Raises UnsupportedError for a source that cannot be run and for pairs that swap several cells.
    """
    way, generator = Direction(source, target), torch.Generator().manual_seed(seed)
    own = _natural(alignment, natural, source, most, generator)
    moved = _moved_share(alignment, of_direction(pairs, source, target), way, most, generator)
    gradients = own.gradients(generator).flatten(0, 1)
    readers = [(None, moved, moved.gradients(generator)), ("itself", own, own.gradients(generator))]
    base, rows = _base(alignment, way, seed), list[Record]()
    for tolerance in tolerances:
        null, end = null_space(gradients, own.h, tolerance), f"@{tolerance:g}"
        everything = null_share(torch.eye(alignment.at(source).width), null).share
        rows.append(replace(base, measure="null_dims" + end, value=null.dims))
        rows.append(replace(base, measure="null_share" + end, control="everything", value=everything))
        for control, reader, seen in readers:
            marked = replace(base, control=control, trials=len(reader.h))
            parts = readout_variances(seen.flatten(0, 1), null).unflatten(0, seen.shape[:2]).sum(0)
            rows.append(_resample_shares(replace(marked, measure="null_share" + end), parts, generator))
            parts = part_responses(reader.tail, reader.h, reader.other(generator), null)
            rows.append(_resample_shares(replace(marked, measure="null_response" + end), parts, generator))
    return rows


def _resample_shares(row: Record, parts: Float[Tensor, "n 2"], generator: torch.Generator) -> Record:
    """The row with the share of the first column, and its interval: samples are drawn again. None: nothing is read."""
    n, parts = len(parts), parts.cpu()
    if not parts.sum() > 0:
        return row
    sums = parts[torch.randint(n, (RESAMPLES, n), generator=generator)].sum(1)
    low, high = (sums[:, 0] / sums.sum(1)).quantile(torch.tensor([0.025, 0.975]).to(sums)).tolist()
    return replace(row, value=Share(*parts.sum(0).tolist()).share, value_low=low, value_high=high)


def _base(alignment: Alignment, way: Direction, seed: int) -> Record:
    names, sites = alignment.names, alignment.sites
    return Record(
        comparison=" × ".join(names),
        method=alignment.plan.method,
        source_model=names[way.source],
        source_site=sites[way.source].name,
        target_model=names[way.target],
        target_site=sites[way.target].name,
        source=way.source,
        target=way.target,
        k=alignment.k,
        init=alignment.init,
        split="test",
        seed=seed,
    )


def _natural(alignment: Alignment, natural: Pairs, source: int, most: int, generator: torch.Generator) -> _Reader:
    """The source's own behaviour."""
    site = alignment.at(source)
    if isinstance(site, Recording):
        raise UnsupportedError(f"the null space of recording {site.name!r}", "name a source that can be run")
    model, site = runnable_site(alignment, source)
    index, cache = _some(natural, most, generator), ActivationCache(alignment.sites, alignment.models)
    h = cache.target(source, natural)
    return _Reader(_Tail(choose_runner(model, site, natural), natural, index, lambda own: own), h[index.to(h.device)])


def _moved_share(alignment: Alignment, pairs: Pairs, way: Direction, most: int, generator: torch.Generator) -> _Reader:
    """The target's behaviour after the swap, as a function of the source's vector."""
    model, site = runnable_site(alignment, way.target)
    if way not in alignment.directions():
        raise UnknownNameError("direction", str(way), map(str, alignment.directions()), "the alignment")
    index, cache = _some(pairs, most, generator), ActivationCache(alignment.sites, alignment.models)
    given, held = (h[index.to(h.device)] for h in (cache.source(way.source, pairs), cache.target(way.target, pairs)))
    with torch.no_grad():
        exchange = alignment.swap_operator()
    put = partial(exchange.swap, way, held)
    return _Reader(_Tail(choose_runner(model, site, pairs), pairs, index, put), given)


def _some(pairs: Pairs, most: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    if not pairs.single:
        raise UnsupportedError("the null share of pairs that swap several cells", "give pairs of one cell each")
    return torch.randperm(len(pairs), generator=generator)[:most]
