"""One patched forward of one target model: by the reference path (whole forward, hook) or from the site on (tail)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    join_batches,
    label_logits,
    labelled_positions,
)
from mas_hooks.engine.tails import recurrent
from mas_hooks.engine.tails.decoder import BlockTailRunner, find_tail_start
from mas_hooks.engine.tails.generic import StreamTailRunner, find_stream_start, narrow_places
from mas_hooks.engine.tails.recurrent import StateTailRunner
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.read import read_site
from mas_hooks.hooks.taps import Edit

PATHS = ("auto", "resume", "reference")
STATE_PROOF, BLOCK_PROOF, STREAM_PROOF = 16, 4, 16
ONE_PASS = 2**40
FAILURES = (MasHooksError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError)
TOLERANCE, LOW_PRECISION_TOLERANCE = 1e-4, 3e-2


@dataclass(frozen=True, eq=False)
class ReferenceRunner(AbstractRunner):
    """A whole forward with a hook: right for every model."""

    model: HookedModel
    site: Site
    name = "reference"

    def run(self, parts: Sequence[PatchBatch]) -> LabelledLogits:
        inputs = [model_inputs.select_rows(part.pairs.run_inputs, batch_rows(part)) for part in parts]
        if model_inputs.have_same_shapes(inputs):
            logits = self._logits(model_inputs.join_inputs(inputs), parts).split([len(part.index) for part in parts])
        else:
            logits = [self._logits(own, [part]) for own, part in zip(inputs, parts, strict=True)]
        return join_batches([self._logits_of(own, part) for own, part in zip(logits, parts, strict=True)])

    def _logits(self, inputs: Inputs, parts: Sequence[PatchBatch]) -> Float[Tensor, "batch position vocabulary"]:
        """One whole forward over the rows of all parts, each vector put at its cell."""
        begin, cells = 0, []
        for part in parts:
            which, rows = part.pairs.cells(batch_rows(part))
            cells.append(Where(rows + begin, part.pairs.target_where.columns.to(rows.device)[which]))
            begin += len(part.index)
        if any(part.swap for part in parts):
            edits = [self._edit(where, part.vectors, part.swap) for where, part in zip(cells, parts, strict=True)]
        else:
            edits = [self._edit(Where.cat(cells), torch.cat([part.vectors for part in parts]))]
        return self.model.run_with_hooks(inputs, edits)

    def _edit(self, where: Where, vectors: Tensor, swap: Callable[[Tensor, Tensor], Tensor] | None = None) -> Edit:
        return Edit(self.site, swap or (lambda _h, given: given), where, vectors)

    def _logits_of(self, logits: Tensor, part: PatchBatch) -> LabelledLogits:
        """The wanted cells of one part."""
        index, device = batch_rows(part), logits.device
        row, columns = labelled_positions(part.pairs)[index].nonzero(as_tuple=True)
        found = logits[row.to(device), columns.to(device)]
        return label_logits(found, part.pairs, index[row], columns, row.to(device), len(index))


@dataclass(frozen=True, eq=False)
class _Option:
    """A tail that could run some pairs. proofs: what has to give the logits of a whole forward, each on so many."""

    tail: AbstractRunner
    proofs: Sequence[tuple[AbstractRunner, int]]


def _options(model: HookedModel, site: Site, pairs: Pairs, path: str) -> list[_Option]:
    """The tails that could run these pairs, the cheapest first."""
    if path == "reference":
        return []
    if recurrent.suits_state_tail(model, site, pairs):
        # One pair before many: many packed into one sequence could run past a table of positions, fatal on a GPU.
        tail = StateTailRunner(model, site)
        return [_Option(tail, [(tail, 1), (tail, STATE_PROOF)])]
    start = find_tail_start(model, site)
    if start is None:
        return _stream_options(model, site, pairs)
    tail = BlockTailRunner(model, site, start, path == "auto")
    return [_Option(tail, [(tail, BLOCK_PROOF)])]


def _stream_options(model: HookedModel, site: Site, pairs: Pairs) -> list[_Option]:
    """Those of a model with a `layer_path`, the one that runs the fewest positions first."""
    inputs = pairs.target_inputs
    start = find_stream_start(model, site, inputs[:1]) if isinstance(inputs, Tensor) else None
    if start is None:
        return []
    tails = [StreamTailRunner(model, site, start, narrow) for narrow in (*narrow_places(model, start), None)]
    # Proven with a pass for each length, so that columns are left out wherever they may be, and with all rows in one.
    return [_Option(tail, [(replace(tail, cost=cost), STREAM_PROOF) for cost in (0, ONE_PASS)]) for tail in tails]


def _sample(pairs: Pairs, most: int) -> Tensor:
    """Real pairs to prove a tail on: those with the latest label, and as many that are spread over all of them.

    Of more than one, one is that with the earliest last label: of it the most can be left out.
    """
    last = (torch.arange(pairs.labels.shape[1], device=pairs.labels.device) * labelled_positions(pairs)).amax(1)
    longest = last.argsort(descending=True, stable=True)[: (most + 1) // 2]
    spread = torch.linspace(0, len(pairs) - 1, most // 2, device=last.device).long()
    return torch.cat([longest, spread, last.argmin()[None]] if most > 1 else [longest]).unique()


def _swapped_vectors(vectors: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
    """Each vector in the place of the next; one that would not change so has its units moved on by one."""
    moved = vectors.roll(1, 0)
    return torch.where((moved == vectors).all(1, keepdim=True), vectors.roll(1, 1), moved)


def _is_proven(tail: AbstractRunner, model: HookedModel, site: Site, pairs: Pairs, most: int) -> bool:
    """Whether a tail gives the logits of a whole forward on some real pairs, swapped among themselves."""
    index = _sample(pairs, most)
    inputs = model_inputs.select_rows(pairs.run_inputs, index)
    cells, rows = pairs.cells(index)
    where = Where(rows, pairs.target_where.columns.to(rows.device)[cells])
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
        part = PatchBatch(pairs, index, _swapped_vectors(read_site(model, site, inputs, where)))
        expected = ReferenceRunner(model, site).run([part]).logits
        try:
            found = tail.run([part]).logits
        except FAILURES:  # a forward that needs the whole sequence, or what a skipped block would have given
            return False
    if found.shape != expected.shape:
        return False
    tolerance = TOLERANCE if expected.dtype in (torch.float32, torch.float64) else LOW_PRECISION_TOLERANCE
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1.0))


def choose_runner(
    model: HookedModel, site: Site, pairs: Pairs, path: str = "auto", *, one_by_one: bool = False
) -> AbstractRunner:
    """How to run these pairs: from the site on where that is proven to give the same logits, else the whole forward.

    path: `auto`; `resume` to start at the site's block but not behind the unchanged prefix; `reference` to ask for the
    whole forward. one_by_one: swaps are made as the run comes by them, which a whole forward alone can do.
    """
    if path not in PATHS:
        raise SettingError("path", path, " or ".join(map(repr, PATHS)))
    for option in [] if one_by_one else _options(model, site, pairs, path):
        if all(_is_proven(tail, model, site, pairs, most) for tail, most in option.proofs):
            return option.tail
    return ReferenceRunner(model, site)
