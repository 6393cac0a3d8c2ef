"""A batch of patched rows as passes: which rows run together, and what belongs to whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mas_hooks.core.sites import Where
from mas_hooks.engine.batch import (
    LabelledLogits,
    PatchBatch,
    batch_rows,
    join_batches,
    label_logits,
    labelled_positions,
)


def split_by_position(begins: Int[Tensor, " row"], end: int, cost: int) -> list[Int[Tensor, " group"]]:
    """Split rows into passes, each from its own first column to `end`, so that the fewest positions are run.

    begins: the first column that each row needs. cost: of a pass, in positions. Exact, by dynamic programming over the
    distinct columns.
    """
    distinct, counts = begins.unique(return_counts=True)
    columns, below = distinct.tolist(), [0, *counts.cumsum(0).tolist()]
    best, cut = [0.0], [0]
    for upto in range(1, len(columns) + 1):
        price = [best[start] + cost + (below[upto] - below[start]) * (end - columns[start]) for start in range(upto)]
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
class Batch:
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
    def of(cls, parts: Sequence[PatchBatch]) -> Batch:
        part, pair, edits, cells, begin = [], [], [], [], 0
        for number, own in enumerate(parts):
            index = own.index.cpu()
            found, rows = (each.cpu() for each in own.pairs.cells(batch_rows(own)))
            edits.append(torch.stack([rows + begin, own.pairs.target_where.columns.cpu()[found]]))
            cells.append(labelled_positions(own.pairs).cpu()[index].nonzero().T + torch.tensor([[begin], [0]]))
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

    def ends(self) -> Int[Tensor, " row"]:
        """The column after the last wanted one of each row."""
        return torch.zeros(len(self.part), dtype=torch.int64).scatter_reduce_(
            0, self.cells.rows, self.cells.columns + 1, "amax"
        )

    def owners(self, rows: Int[Tensor, " m"]) -> list[tuple[int, Int[Tensor, " n"]]]:
        """Whose rows some rows are, in ascending order: number of the part, which of its pairs."""
        return [(number, self.pair[rows[self.part[rows] == number]]) for number in self.part[rows].unique().tolist()]

    def edits_in(self, rows: Int[Tensor, " m"], end: int) -> tuple[Where, Tensor]:
        """The edits of some rows before a column, at their places among the rows, and their vectors."""
        found, where = cells_inside(self.edits, rows, len(self.part))
        seen = (where.columns < end).nonzero()[:, 0]
        where = Where(where.rows[seen], where.columns[seen])
        return where, self.vectors[found[seen].to(self.vectors.device)]


class _PlacedRows(torch.autograd.Function):
    """Row i of the given goes to row place[i], a permutation: its gradient is a look-up too, not a sum into zeros."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(place)
        return given.index_select(0, place.argsort())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0].index_select(0, ctx.saved_tensors[0]), None


def cells_inside(where: Where, rows: Tensor, total: int) -> tuple[Int[Tensor, " m"], Where]:
    """Which cells lie in some rows, and where among them."""
    place = torch.full((total,), -1)
    place[rows] = torch.arange(len(rows))
    found = (place[where.rows] >= 0).nonzero()[:, 0]
    return found, Where(place[where.rows[found]], where.columns[found])


def run_passes(
    parts: Sequence[PatchBatch],
    batch: Batch,
    groups: Sequence[Int[Tensor, " group"]],
    one: Callable[[Tensor, Where], Float[Tensor, "m vocabulary"]],
) -> LabelledLogits:
    """Every group of rows in a pass of its own: `one` gives the logits of some rows at some cells among them."""
    pieces, order = [], []
    for rows in groups:
        found, cells = cells_inside(batch.cells, rows, len(batch.part))
        pieces.append(one(rows, cells))
        order.append(found)
    if len(pieces) == 1:
        return _describe_cells(parts, pieces[0])
    return _describe_cells(parts, _PlacedRows.apply(torch.cat(pieces), torch.cat(order).to(pieces[0].device)))


def _describe_cells(parts: Sequence[PatchBatch], logits: Tensor) -> LabelledLogits:
    """Logits with what the pairs say of their cells."""
    told, begin = [], 0
    for part in parts:
        index = batch_rows(part)
        row, columns = labelled_positions(part.pairs)[index].nonzero(as_tuple=True)
        own = logits[begin : begin + len(row)]
        told.append(label_logits(own, part.pairs, index[row], columns, row.to(logits.device), len(index)))
        begin += len(row)
    return join_batches(told)
