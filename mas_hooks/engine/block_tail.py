"""Patched forwards of a decoder from the site's block, and from the first edited position, on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mas_hooks import inputs as model_inputs
from mas_hooks.engine.kept import Kept, prompt_of
from mas_hooks.engine.labelled import AbstractRunner, Labelled, Part, join, labelled, rows_of, wanted
from mas_hooks.hooks.block_tail import Base, Prompt, Start, run_from
from mas_hooks.hooks.handle import HookedModel
from mas_hooks.hooks.taps import Edit
from mas_hooks.inputs import Inputs
from mas_hooks.sites import Site, Where

PASS_COST = {"cpu": 64, "cuda": 4096}
"""What one more pass costs, in tokens: rows are split by position only where that saves more."""


def spans(begins: Int[Tensor, " row"], end: int, cost: int) -> list[Int[Tensor, " group"]]:
    """Split rows into passes, each from its own first column to `end`, so that the fewest positions are run.

    begins: the first column that each row needs. cost: of a pass, in positions. Exact, by dynamic programming over the
    distinct columns.
    """
    columns, counts = begins.unique(return_counts=True)
    below = [0, *counts.cumsum(0).tolist()]
    best, cut = [0.0], [0]
    for upto in range(1, len(columns) + 1):
        price = [
            best[start] + cost + (below[upto] - below[start]) * (end - int(columns[start])) for start in range(upto)
        ]
        best.append(min(price))
        cut.append(price.index(best[-1]))
    groups, upto = [], len(columns)
    while upto:
        start = cut[upto]
        inside = (begins >= columns[start]) & (begins <= columns[upto - 1])
        groups.append(inside.nonzero()[:, 0])
        upto = start
    return groups


@dataclass(frozen=True, eq=False)
class _Batch:
    """The rows of several parts as one batch, on the CPU.

    part, pair (row,): whose row it is, and which of its pairs. edits, cells: row of the batch and column. part_of_cell
    tells the wanted cells apart again.
    """

    part: Int[Tensor, " row"]
    pair: Int[Tensor, " row"]
    edits: Where
    vectors: Float[Tensor, "n width"]
    cells: Where

    @classmethod
    def of(cls, parts: Sequence[Part]) -> _Batch:
        part, pair, edits, cells, begin = [], [], [], [], 0
        for number, own in enumerate(parts):
            index = own.index.cpu()
            found, rows = (each.cpu() for each in own.pairs.cells(rows_of(own)))
            edits.append(torch.stack([rows + begin, own.pairs.target_where.columns.cpu()[found]]))
            cells.append(wanted(own.pairs).cpu()[index].nonzero().T + torch.tensor([[begin], [0]]))
            part.append(torch.full_like(index, number))
            pair.append(index)
            begin += len(index)
        vectors = torch.cat([own.vectors for own in parts])
        return cls(torch.cat(part), torch.cat(pair), Where(*torch.cat(edits, 1)), vectors, Where(*torch.cat(cells, 1)))

    def begins(self) -> Int[Tensor, " row"]:
        """The first column of each row that is edited or wanted."""
        first = torch.full((len(self.part),), 2**31)
        for where in (self.edits, self.cells):
            first.scatter_reduce_(0, where.rows, where.columns, "amin")
        return first


class _Placed(torch.autograd.Function):
    """Row i of the given goes to row place[i], a permutation: its gradient is a look-up too, not a sum into zeros."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(place)
        return given.index_select(0, place.argsort())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0].index_select(0, ctx.saved_tensors[0]), None


def _inside(where: Where, rows: Tensor, total: int) -> tuple[Int[Tensor, " m"], Where]:
    """Which cells lie in some rows, and where among them."""
    place = torch.full((total,), -1)
    place[rows] = torch.arange(len(rows))
    found = (place[where.rows] >= 0).nonzero()[:, 0]
    return found, Where(place[where.rows[found]], where.columns[found])


@dataclass(frozen=True, eq=False)
class BlockTailRunner(AbstractRunner):
    """Only what the edit can change: blocks from the site on, positions from the edit on, logits where wanted.

    reuse: keep the keys and values of unchanged prefixes and start behind them.
    """

    model: HookedModel
    site: Site
    start: Start
    reuse: bool = True
    kept: dict[int, tuple[Inputs, Kept]] = field(default_factory=dict)
    name = "tail"

    def run(self, parts: Sequence[Part]) -> Labelled:
        lengths = [model_inputs.leading(part.pairs.run_inputs).shape[1] for part in parts]
        if len(set(lengths)) > 1:
            return join([self.run([part]) for part in parts])
        batch = _Batch.of(parts)
        kept = [self._kept(part.pairs.run_inputs) for part in parts]
        begins = batch.begins() if all(own.prefixes for own in kept) else torch.zeros_like(batch.part)
        cost = PASS_COST.get(self.model.device.type, PASS_COST["cpu"])
        pieces, order = [], []
        for rows in spans(begins, lengths[0], cost):
            wanted_here, cells = _inside(batch.cells, rows, len(begins))
            pieces.append(self._pass(batch, kept, rows, int(begins[rows].min()), cells))
            order.append(wanted_here)
        place = torch.cat(order).to(pieces[0].device)
        return self._told(parts, pieces[0] if len(pieces) == 1 else _Placed.apply(torch.cat(pieces), place))

    def _pass(self, batch: _Batch, kept: Sequence[Kept], rows: Tensor, begin: int, cells: Where) -> Tensor:
        """Logits at some cells, from one forward over some rows of the batch."""
        found, where = _inside(batch.edits, rows, len(batch.part))
        vectors = batch.vectors[found.to(batch.vectors.device)]
        owners = [(own, batch.pair[rows[batch.part[rows] == number]]) for number, own in enumerate(kept)]
        owners = [(own, index) for own, index in owners if len(index)]  # rows are in the order of the parts
        end = int(cells.columns.max()) + 1
        base = Base.cat([own.base(index) for own, index in owners]).until(end)
        prompt = Prompt.cat([own.prompt.rows(index) for own, index in owners]).until(end)
        edit = Edit(self.site, lambda _h, given: given, where, vectors)
        return run_from(self.model, self.start, base, prompt, edit, cells, begin)

    def _kept(self, inputs: Inputs) -> Kept:
        """What is kept of these target inputs; directions that share them share it."""
        if id(inputs) not in self.kept:
            made = Kept(self.model, self.start, prompt_of(self.model, inputs), self.reuse)
            self.kept[id(inputs)] = (inputs, made)  # the inputs are kept beside, so that their id stays theirs
        return self.kept[id(inputs)][1]

    def _told(self, parts: Sequence[Part], logits: Tensor) -> Labelled:
        """Logits with what the pairs say of their cells."""
        told, begin = [], 0
        for part in parts:
            index = rows_of(part)
            row, columns = wanted(part.pairs)[index].nonzero(as_tuple=True)
            own = logits[begin : begin + len(row)]
            told.append(labelled(own, part.pairs, index[row], columns, row.to(logits.device), len(index)))
            begin += len(row)
        return join(told)
