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

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.directions import direction_record
from mas_hooks.alignment.plan import Direction
from mas_hooks.alignment.resolved_direction import ResolvedDirection
from mas_hooks.core.errors import EmptyError, UnknownNameError, UnsupportedError
from mas_hooks.core.records import Record
from mas_hooks.core.sites import Recording, Where
from mas_hooks.data.pairs import Directed, Pairs
from mas_hooks.data.tasks import AbstractTask
from mas_hooks.engine.batch import AbstractRunner, PatchBatch
from mas_hooks.engine.cache import ActivationCache
from mas_hooks.engine.runner import choose_runner
from mas_hooks.evaluation.null_space import (
    NullSpace,
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

    Zeros stand behind the last labelled position of a shorter row: they have no gradient, and no swap changes them.
    """

    runner: AbstractRunner
    pairs: Pairs
    index: Int[Tensor, " n"]
    put: Callable[[Tensor], Tensor]

    def __call__(self, h: Float[Tensor, "n width"]) -> Float[Tensor, "n positions vocabulary"]:
        labelled = self.runner.run([PatchBatch(self.pairs, self.index, self.put(h))])
        counts = labelled.row.bincount(minlength=labelled.pairs).tolist()
        return pad_sequence(list(labelled.logits.split(counts)), batch_first=True)


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
    """Draw fresh trials as they are, with a uniform allowed cell each: what follows it is labelled, nothing is swapped.

    Args:
        task: what the source model does.
        trials: how many.
        seed: of the draw.

    Returns:
        Pairs whose two sides are the same.

    Raises:
        EmptyError: no trials are asked for.

    Example:
        >>> import mas_hooks as mh
        >>> from mas_hooks.evaluation import natural_pairs
        >>> pairs = natural_pairs(mh.task("multi_object"), trials=5)
        >>> len(pairs), bool((pairs.source_inputs == pairs.target_inputs).all())
        (5, True)
    """
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
    """Measure the share of the null space of `source` in what its swap into `target` does, for every tolerance τ.

    Rows: `null_share@τ` (of the variance that reaches the target's behaviour), `null_response@τ` (of the nats that a
    swap of one part alone changes), each again with control="itself" (the floor) and, the first alone, "everything" (a
    reader that takes every unit alike); `null_dims@τ`. 95% intervals, bootstrapped over the reader's samples.

    Args:
        alignment: fitted.
        pairs: held-out, as for `evaluate`.
        natural: un-intervened cells of the source model, from `natural_pairs`; only their target side is read.
        source: the number of the site that gives.
        target: the number of the site that receives.
        tolerances: the values of τ, each between 0 and 1.
        seed: of the samples, the answers and the bootstrap.
        most: at most so many pairs of each set; the source's width is the least.

    Returns:
        The rows of every tolerance.

    Raises:
        UnsupportedError: a model cannot be run, or the pairs swap several cells.

    Example:
        >>> import torch, mas_hooks as mh
        >>> from mas_hooks.evaluation import null_space_shares
        >>> model = mh.wrap(torch.nn.Sequential(torch.nn.Embedding(9, 2), torch.nn.Linear(2, 9)))
        >>> ids, where = torch.arange(9)[:, None], mh.Where.one_per_row([0] * 9)
        >>> pairs = mh.Pairs.from_tensors(ids.flip(0), where, ids, where, labels=ids, label_mask=ids >= 0)
        >>> alignment = mh.Alignment(model.at("0"), rank=1)
        >>> rows = null_space_shares(alignment, pairs, pairs, source=0, target=0, tolerances=[0.1])
        >>> [row.measure for row in rows if row.control is None]
        ['null_dims@0.1', 'null_share@0.1', 'null_response@0.1']
    """
    direction, generator = Direction(source, target), torch.Generator().manual_seed(seed)
    if isinstance(source_site := alignment.site(source), Recording):
        raise UnsupportedError(f"the null space of recording {source_site.name!r}", "name a source that can be run")
    itself = _read_source(alignment, alignment.resolve(Direction(source, source), natural), most, generator)
    moved = _read_target(alignment, alignment.resolve(direction, pairs), most, generator)
    gradients = itself.gradients(generator).flatten(0, 1)
    pulled = [(control, reader, reader.gradients(generator)) for control, reader in ((None, moved), ("itself", itself))]
    base, rows = direction_record(alignment, direction, split="test", selected_on=None, seed=seed), list[Record]()
    for tolerance in tolerances:
        null, end = null_space(gradients, itself.h, tolerance), f"@{tolerance:g}"
        everything = null_share(torch.eye(source_site.width), null).share
        rows.append(replace(base, measure="null_dims" + end, value=null.dims))
        rows.append(replace(base, measure="null_share" + end, control="everything", value=everything))
        for control, reader, readout in pulled:
            rows += _measure_reader(replace(base, control=control), reader, readout, null, end, generator)
    return rows


def _measure_reader(
    row: Record,
    reader: _Reader,
    readout: Float[Tensor, "draws n width"],
    null: NullSpace,
    end: str,
    generator: torch.Generator,
) -> list[Record]:
    """The rows of a reader at the tolerance that `end` names: what its gradients (`readout`) read, and its response."""
    read = readout_variances(readout.flatten(0, 1), null).unflatten(0, readout.shape[:2]).sum(0)
    row = replace(row, trials=len(reader.h))
    share = _resample_shares(replace(row, measure="null_share" + end), read, generator)
    changed = part_responses(reader.tail, reader.h, reader.other(generator), null)
    return [share, _resample_shares(replace(row, measure="null_response" + end), changed, generator)]


def _resample_shares(row: Record, parts: Float[Tensor, "n 2"], generator: torch.Generator) -> Record:
    """The row with the share of the first column, and its interval: samples are drawn again. None: nothing is read."""
    n, parts = len(parts), parts.cpu()
    if not parts.sum() > 0:
        return row
    sums = parts[torch.randint(n, (RESAMPLES, n), generator=generator)].sum(1)
    low, high = (sums[:, 0] / sums.sum(1)).quantile(torch.tensor([0.025, 0.975]).to(sums)).tolist()
    return replace(row, value=Share(*parts.sum(0).tolist()).share, value_low=low, value_high=high)


def _read_source(alignment: Alignment, itself: ResolvedDirection, most: int, generator: torch.Generator) -> _Reader:
    """The source's own behaviour. itself: the source into the source, over its natural pairs."""
    (model, site), natural = itself.receiver(), itself.pairs
    index, cache = _sample_pairs(natural, most, generator), ActivationCache(alignment.sites, alignment.models)
    h = cache.target(itself.direction.target, natural)
    tail = _Tail(choose_runner(model, site, natural), natural, index, lambda vectors: vectors)
    return _Reader(tail, h[index.to(h.device)])


def _read_target(alignment: Alignment, resolved: ResolvedDirection, most: int, generator: torch.Generator) -> _Reader:
    """The target's behaviour after the swap, as a function of the source's vector."""
    (model, site), pairs, direction = resolved.receiver(), resolved.pairs, resolved.direction
    if direction not in alignment.directions():
        raise UnknownNameError("direction", str(direction), map(str, alignment.directions()), "the alignment")
    index, cache = _sample_pairs(pairs, most, generator), ActivationCache(alignment.sites, alignment.models)
    activations = cache.source(direction.source, pairs), cache.target(direction.target, pairs)
    given, held = (h[index.to(h.device)] for h in activations)
    with torch.no_grad():
        operator = alignment.swap_operator()
    put = partial(operator.swap, direction, held)
    return _Reader(_Tail(choose_runner(model, site, pairs), pairs, index, put), given)


def _sample_pairs(pairs: Pairs, most: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    if not pairs.single:
        raise UnsupportedError("the null share of pairs that swap several cells", "give pairs of one cell each")
    return torch.randperm(len(pairs), generator=generator)[:most]
