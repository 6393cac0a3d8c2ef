"""One patched forward of one target model: by the reference path (whole forward, hook) or from the site on (tail)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mas_hooks import inputs as model_inputs
from mas_hooks.hooks.handle import HookedModel
from mas_hooks.hooks.collect import collect
from mas_hooks.hooks.tail import Packed, has_tail, run_tail
from mas_hooks.hooks.taps import Edit
from mas_hooks.inputs import Inputs
from mas_hooks.pairs import Pairs
from mas_hooks.sites import Site, Where

PROOF_PAIRS, PROOF_TOLERANCE = 16, 1e-4


@dataclass(frozen=True, eq=False)
class Labelled:
    """Logits at the labelled positions of a batch of pairs. row (m,): which pair of the batch each belongs to."""

    logits: Float[Tensor, "m vocabulary"]
    labels: Int[Tensor, " m"]
    row: Int[Tensor, " m"]
    deterministic: Bool[Tensor, " m"]
    scored: Bool[Tensor, " m"]
    pairs: int


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of one set of pairs with the vectors to put at their target cells, in the order of `Pairs.cells`."""

    pairs: Pairs
    index: Int[Tensor, " batch"]
    vectors: Float[Tensor, "n width"]


class AbstractRunner(ABC):
    """Runs one target model over patched pairs."""

    name: str

    @abstractmethod
    def run(self, parts: Sequence[Part]) -> Labelled:
        """One pass over all parts, which count as one batch."""


def _labelled(logits: Tensor, pairs: Pairs, rows: Tensor, columns: Tensor, row: Tensor, count: int) -> Labelled:
    """Logits with what the pairs say of the same cells. rows, columns: in the pairs; row: in the batch."""
    cells = (rows.to(pairs.labels.device), columns.to(pairs.labels.device))
    det, scored = pairs.deterministic_mask[cells], pairs.label_mask[cells]
    device = logits.device
    return Labelled(logits, pairs.labels[cells].to(device), row, det.to(device), scored.to(device), count)


def join(parts: Sequence[Labelled]) -> Labelled:
    """Several batches as one."""
    if len(parts) == 1:
        return parts[0]
    shifts = torch.tensor([0, *(part.pairs for part in parts)]).cumsum(0).tolist()
    return Labelled(
        torch.cat([part.logits for part in parts]),
        torch.cat([part.labels for part in parts]),
        torch.cat([part.row + shift for part, shift in zip(parts, shifts[:-1], strict=True)]),
        torch.cat([part.deterministic for part in parts]),
        torch.cat([part.scored for part in parts]),
        shifts[-1],
    )


def wanted(pairs: Pairs) -> Bool[Tensor, "n position"]:
    """Every position at which logits are needed: scored by the loss, or judged."""
    return pairs.label_mask | pairs.deterministic_mask


@dataclass(frozen=True, eq=False)
class ReferenceRunner(AbstractRunner):
    """A whole forward with a hook: right for every model."""

    model: HookedModel
    site: Site
    name = "reference"

    def run(self, parts: Sequence[Part]) -> Labelled:
        inputs = [model_inputs.rows(part.pairs.target_inputs, _index(part)) for part in parts]
        if model_inputs.alike(inputs):
            logits = self._logits(model_inputs.cat(inputs), parts).split([len(part.index) for part in parts])
        else:
            logits = [self._logits(own, [part]) for own, part in zip(inputs, parts, strict=True)]
        return join([self._found(own, part) for own, part in zip(logits, parts, strict=True)])

    def _logits(self, inputs: Inputs, parts: Sequence[Part]) -> Float[Tensor, "batch position vocabulary"]:
        """One whole forward over the rows of all parts, each vector put at its cell."""
        begin, rows, columns = 0, [], []
        for part in parts:
            cells, batch_rows = part.pairs.cells(_index(part))
            rows.append(batch_rows + begin)
            columns.append(part.pairs.target_where.columns.to(cells.device)[cells])
            begin += len(part.index)
        where, vectors = Where(torch.cat(rows), torch.cat(columns)), torch.cat([part.vectors for part in parts])
        return self.model.run_with_hooks(inputs, [Edit(self.site, lambda _h, given: given, where, vectors)])

    def _found(self, logits: Tensor, part: Part) -> Labelled:
        """The wanted cells of one part."""
        index, device = _index(part), logits.device
        row, columns = wanted(part.pairs)[index].nonzero(as_tuple=True)
        found = logits[row.to(device), columns.to(device)]
        return _labelled(found, part.pairs, index[row], columns, row.to(device), len(index))


def _index(part: Part) -> Int[Tensor, " batch"]:
    """The rows of a part, where its pairs lie."""
    return part.index.to(part.pairs.labels.device)


@dataclass(frozen=True, eq=False)
class TailRunner(AbstractRunner):
    """Only the continuation, from the patched recurrent state on."""

    model: HookedModel
    site: Site
    name = "tail"

    def run(self, parts: Sequence[Part]) -> Labelled:
        device = self.model.device
        begins = torch.tensor([0, *(len(part.index) for part in parts)]).cumsum(0)
        cells = [self._cells(part, int(begin)) for part, begin in zip(parts, begins, strict=False)]
        row, steps = (torch.cat([cell[key] for cell in cells]).to(device) for key in (0, 1))
        lengths = torch.zeros(int(begins[-1]), dtype=torch.int64, device=device)
        lengths.scatter_reduce_(0, row, steps, "amax")
        packed = Packed.of(lengths)
        inputs = self._packed_inputs(parts, begins.to(device), packed)
        states = torch.cat([part.vectors for part in parts])
        logits = run_tail(self.model, self.site, states, packed, inputs, (row, steps))
        pieces = logits.split([len(cell[0]) for cell in cells])
        return join(
            [
                _labelled(piece, part.pairs, rows, columns, (row - int(begin)).to(device), len(part.index))
                for piece, part, begin, (row, _, rows, columns) in zip(pieces, parts, begins, cells, strict=False)
            ]
        )

    def _cells(self, part: Part, begin: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(row of the batch, steps after the swap, row of the pairs, column) of every wanted position."""
        index = _index(part)
        row, columns = wanted(part.pairs)[index].nonzero(as_tuple=True)
        rows = index[row]
        return row + begin, columns - part.pairs.target_where.columns.to(rows.device)[rows], rows, columns

    def _packed_inputs(self, parts: Sequence[Part], begins: Tensor, packed: Packed) -> Tensor:
        """The model's inputs after each swap, in packed order."""
        device = packed.rows.device
        pieces, order = [], []
        for part, begin in zip(parts, begins, strict=False):
            inside = ((packed.rows >= begin) & (packed.rows < begin + len(part.index))).nonzero()[:, 0]
            rows = part.index.to(device)[packed.rows[inside] - begin]
            columns = part.pairs.target_where.columns.to(device)[rows] + packed.steps[inside] + 1
            pieces.append(model_inputs.leading(part.pairs.target_inputs).to(device)[rows, columns])
            order.append(inside)
        return torch.cat(pieces)[torch.cat(order).argsort()]


def _steps(pairs: Pairs) -> Int[Tensor, "n position"]:
    """How far each position lies behind the swap of its row."""
    columns = pairs.target_where.columns.to(pairs.labels.device)
    return torch.arange(pairs.labels.shape[1], device=columns.device) - columns[:, None]


def _proven(model: HookedModel, site: Site, pairs: Pairs, most: int) -> bool:
    """Whether the tail gives the logits of a whole, unedited forward on the longest pairs, from their own states."""
    index = (_steps(pairs) * wanted(pairs)).amax(1).argsort(descending=True)[:most]
    inputs = model_inputs.rows(pairs.target_inputs, index)
    where = Where.one_per_row(pairs.target_where.columns.to(index.device)[index])
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
        whole = model.forward(inputs)
        part = Part(pairs, index, collect(model, site, inputs, where))
        try:
            found = TailRunner(model, site).run([part]).logits
        except (RuntimeError, ValueError, IndexError, TypeError):  # a forward that needs the whole sequence
            return False
    row, columns = wanted(pairs)[index].nonzero(as_tuple=True)
    expected = whole[row.to(whole.device), columns.to(whole.device)]
    if found.shape != expected.shape:
        return False
    return bool((found - expected).abs().max() <= PROOF_TOLERANCE * expected.abs().max().clamp(min=1.0))


def runner(model: HookedModel, site: Site, pairs: Pairs, path: str = "auto") -> AbstractRunner:
    """How to run these pairs: from the site on where that is proven to give the same logits, else the whole forward.

    path: `auto`, or `reference` to ask for the whole forward.
    """
    suited = path == "auto" and has_tail(model, site) and pairs.single and isinstance(pairs.target_inputs, Tensor)
    if suited:
        suited = bool((_steps(pairs)[wanted(pairs)] >= 0).all())
        # One pair before many: many packed into one sequence could run past a table of positions, fatal on a GPU.
        suited = suited and all(_proven(model, site, pairs, n) for n in (1, PROOF_PAIRS))
    return TailRunner(model, site) if suited else ReferenceRunner(model, site)
