"""How a target model runs patched pairs: whole forwards with a hook (the reference), or from the site on (a tail)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from mas_hooks.core import inputs as model_inputs
from mas_hooks.core.errors import MasHooksError, SettingError
from mas_hooks.core.inputs import Inputs
from mas_hooks.core.sites import Site, Where
from mas_hooks.data.pairs import Pairs
from mas_hooks.engine.batch import (
    AbstractRunner,
    LabelledLogits,
    PatchBatch,
    batch_rows,
    join_labelled,
    label_logits,
    labelled_positions,
)
from mas_hooks.engine.tails.decoder import BlockTailRunner, find_tail_start
from mas_hooks.engine.tails.generic import StreamTailRunner, find_stream_start, list_narrow_places
from mas_hooks.engine.tails.recurrent import StateTailRunner, suits_state_tail
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.outputs import agree_up_to_rounding
from mas_hooks.hooks.read import read_site
from mas_hooks.hooks.taps import Edit, put_vectors

PATHS = ("auto", "tail", "reference")
"""The ways to run pairs that a caller may choose from (see `choose_runner`)."""

STATE_PROOF, BLOCK_PROOF, STREAM_PROOF = 16, 4, 16
"""On how many pairs a tail of each kind has to give the logits of a whole forward."""

ONE_PASS = 2**40
"""A price of a pass, in tokens, at which all rows run in one."""

FAILURES = (MasHooksError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError)
"""What a model may raise when it is run from a block on and needs more than that."""


@dataclass(frozen=True, eq=False)
class ReferenceRunner(AbstractRunner):
    """Runs whole forwards with a hook: right for every model."""

    model: HookedModel
    site: Site
    name = "reference"

    def run(self, batches: Sequence[PatchBatch]) -> LabelledLogits:
        inputs = [model_inputs.select_rows(batch.pairs.run_inputs, batch_rows(batch)) for batch in batches]
        if model_inputs.have_same_shapes(inputs):
            sizes = [len(batch.index) for batch in batches]
            logits = self._run_forward(model_inputs.join_inputs(inputs), batches).split(sizes)
        else:
            logits = [self._run_forward(rows, [batch]) for rows, batch in zip(inputs, batches, strict=True)]
        return join_labelled([self._label_rows(values, batch) for values, batch in zip(logits, batches, strict=True)])

    def _run_forward(self, inputs: Inputs, batches: Sequence[PatchBatch]) -> Float[Tensor, "batch position vocabulary"]:
        """One whole forward over the rows of all batches, each vector put at its cell."""
        begin, cells = 0, []
        for batch in batches:
            which, rows = batch.pairs.cells(batch_rows(batch))
            cells.append(Where(rows + begin, batch.pairs.target_where.columns.to(rows.device)[which]))
            begin += len(batch.index)
        if any(batch.swap for batch in batches):
            edits = [
                Edit(self.site, batch.swap or put_vectors, where, batch.vectors)
                for where, batch in zip(cells, batches, strict=True)
            ]
        else:
            vectors = torch.cat([batch.vectors for batch in batches])
            edits = [Edit(self.site, put_vectors, Where.cat(cells), vectors)]
        return self.model.run_with_hooks(inputs, edits)

    def _label_rows(self, logits: Tensor, batch: PatchBatch) -> LabelledLogits:
        """The logits at the labelled cells of one batch."""
        index, device = batch_rows(batch), logits.device
        row, columns = labelled_positions(batch.pairs)[index].nonzero(as_tuple=True)
        values = logits[row.to(device), columns.to(device)]
        return label_logits(values, batch.pairs, index[row], columns, row.to(device), len(index))


def choose_runner(
    model: HookedModel, site: Site, pairs: Pairs, path: str = "auto", *, one_by_one: bool = False
) -> AbstractRunner:
    """Choose how to run some pairs: from the site on where that gives the logits of a whole forward, else whole.

    Args:
        model: The target model.
        site: Its patched site.
        pairs: The pairs; a tail is proven on some of them.
        path: `auto` takes the fastest tail; `tail` starts at the site's block, but runs its rows from their first
            column on; `reference` runs whole forwards.
        one_by_one: Whether each swap follows from the swaps before it in the same run, which only a whole forward
            can do.

    Returns:
        The runner; its `name` says whether it is a `tail` or the `reference`.

    Raises:
        SettingError: `path` is none of these.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> from torch import nn
        >>> from mas_hooks.engine import choose_runner
        >>> model = mh.wrap(nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5)))
        >>> ids, cells = torch.tensor([[0, 1, 2], [3, 4, 0]]), mh.Where([0, 1], [1, 2])
        >>> pairs = mh.Pairs.from_tensors(ids, cells, ids, cells, ids, torch.ones(2, 3))
        >>> choose_runner(model, model.at("embed"), pairs).name
        'reference'
    """
    if path not in PATHS:
        raise SettingError("path", path, " or ".join(map(repr, PATHS)))
    for option in [] if one_by_one else _list_options(model, site, pairs, path):
        if all(_is_proven(tail, model, site, pairs, most) for tail, most in option.proofs):
            return option.tail
    return ReferenceRunner(model, site)


@dataclass(frozen=True, eq=False)
class _Option:
    """A tail that could run some pairs. proofs: runners that must give a whole forward's logits, each on so many."""

    tail: AbstractRunner
    proofs: Sequence[tuple[AbstractRunner, int]]


def _list_options(model: HookedModel, site: Site, pairs: Pairs, path: str) -> list[_Option]:
    """The tails that could run these pairs, the cheapest first."""
    if path == "reference":
        return []
    if suits_state_tail(model, site, pairs):
        # One pair before many: many packed into one sequence could run past a table of positions, fatal on a GPU.
        tail = StateTailRunner(model, site)
        return [_Option(tail, [(tail, 1), (tail, STATE_PROOF)])]
    start = find_tail_start(model, site)
    if start is None:
        return _list_stream_options(model, site, pairs)
    tail = BlockTailRunner(model, site, start, path == "auto")
    return [_Option(tail, [(tail, BLOCK_PROOF)])]


def _list_stream_options(model: HookedModel, site: Site, pairs: Pairs) -> list[_Option]:
    """The tails of a model with a `layer_path`, the one that runs the fewest positions first."""
    inputs = pairs.target_inputs
    start = find_stream_start(model, site, inputs[:1]) if isinstance(inputs, Tensor) else None
    if start is None:
        return []
    tails = [StreamTailRunner(model, site, start, narrow) for narrow in (*list_narrow_places(model, start), None)]
    # Proven with a pass for each length, so that columns are left out wherever they may be, and with all rows in one.
    return [_Option(tail, [(replace(tail, cost=cost), STREAM_PROOF) for cost in (0, ONE_PASS)]) for tail in tails]


def _sample_pairs(pairs: Pairs, most: int) -> Tensor:
    """Choose real pairs to prove a tail on: those with the latest label, and as many that are spread over all of them.

    Where `most` is above 1, the pair whose last label is the earliest comes too: most of it can be left out.
    """
    last = (torch.arange(pairs.labels.shape[1], device=pairs.labels.device) * labelled_positions(pairs)).amax(1)
    longest = last.argsort(descending=True, stable=True)[: (most + 1) // 2]
    spread = torch.linspace(0, len(pairs) - 1, most // 2, device=last.device).long()
    return torch.cat([longest, spread, last.argmin()[None]] if most > 1 else [longest]).unique()


def _exchange_vectors(vectors: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
    """Put each vector in the place of the next; where that changes nothing, move its units on by one."""
    moved = vectors.roll(1, 0)
    return torch.where((moved == vectors).all(1, keepdim=True), vectors.roll(1, 1), moved)


def _is_proven(tail: AbstractRunner, model: HookedModel, site: Site, pairs: Pairs, most: int) -> bool:
    """Whether a tail gives the logits of a whole forward on some real pairs, swapped among themselves."""
    index = _sample_pairs(pairs, most)
    inputs = model_inputs.select_rows(pairs.run_inputs, index)
    cells, rows = pairs.cells(index)
    where = Where(rows, pairs.target_where.columns.to(rows.device)[cells])
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
        batch = PatchBatch(pairs, index, _exchange_vectors(read_site(model, site, inputs, where)))
        expected = ReferenceRunner(model, site).run([batch]).logits
        try:
            logits = tail.run([batch]).logits
        except FAILURES:  # a forward that needs the whole sequence, or what a skipped block would have given
            return False
    return logits.shape == expected.shape and agree_up_to_rounding(logits, expected)
