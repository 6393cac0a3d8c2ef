"""Batches of patched rows as passes of one model: which rows run together, and which result belongs to which batch."""

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
    join_labelled,
    label_logits,
    labelled_positions,
)


@dataclass(frozen=True, eq=False)
class JoinedBatch:
    """The rows of several batches as one, on the CPU.

    Attributes:
        batch: For each row, the number of the batch it comes from.
        pair: For each row, its pair in the pairs of that batch.
        edits: The edited cells: row of the joined batch, and column.
        vectors: What is put at each of these cells, (n, width).
        cells: The cells whose logits are needed, batch after batch.
    """

    batch: Int[Tensor, " row"]
    pair: Int[Tensor, " row"]
    edits: Where
    vectors: Float[Tensor, "n width"]
    cells: Where

    @classmethod
    def of(cls, batches: Sequence[PatchBatch]) -> JoinedBatch:
        """Join the rows of several batches, in order."""
        numbers, pairs, edits, cells, begin = [], [], [], [], 0
        for number, batch in enumerate(batches):
            index = batch.index.cpu()
            which, rows = (each.cpu() for each in batch.pairs.cells(batch_rows(batch)))
            edits.append(torch.stack([rows + begin, batch.pairs.target_where.columns.cpu()[which]]))
            cells.append(labelled_positions(batch.pairs).cpu()[index].nonzero().T + torch.tensor([[begin], [0]]))
            numbers.append(torch.full_like(index, number))
            pairs.append(index)
            begin += len(index)
        vectors = torch.cat([batch.vectors for batch in batches])
        return cls(
            torch.cat(numbers), torch.cat(pairs), Where(*torch.cat(edits, 1)), vectors, Where(*torch.cat(cells, 1))
        )

    def first_columns(self) -> Int[Tensor, " row"]:
        """The first column of each row that is edited or whose logits are needed."""
        first = torch.full((len(self.batch),), 2**31)
        for where in (self.edits, self.cells):
            first.scatter_reduce_(0, where.rows, where.columns, "amin")
        return first

    def end_columns(self) -> Int[Tensor, " row"]:
        """The column after the last one of each row whose logits are needed."""
        return torch.zeros(len(self.batch), dtype=torch.int64).scatter_reduce_(
            0, self.cells.rows, self.cells.columns + 1, "amax"
        )

    def split_by_batch(self, rows: Int[Tensor, " m"]) -> list[tuple[int, Int[Tensor, " n"]]]:
        """The batches that some rows come from, in ascending order: its number, and which of its pairs they are."""
        numbers = self.batch[rows]
        return [(number, self.pair[rows[numbers == number]]) for number in numbers.unique().tolist()]

    def select_edits(self, rows: Int[Tensor, " m"], end: int) -> tuple[Where, Tensor]:
        """The edits of some rows before column `end`, at their places among the rows, and their vectors."""
        which, where = cells_inside(self.edits, rows, len(self.batch))
        before = (where.columns < end).nonzero()[:, 0]
        where = Where(where.rows[before], where.columns[before])
        return where, self.vectors[which[before].to(self.vectors.device)]


def split_by_position(begins: Int[Tensor, " row"], end: int, cost: int) -> list[Int[Tensor, " group"]]:
    """Split rows into passes, each from its own first column to `end`, so that the fewest positions are run.

    Exact, by dynamic programming over the distinct columns.

    Args:
        begins: The first column that each row needs.
        end: The column after the last one, the same for all rows.
        cost: What one more pass costs, in positions.

    Returns:
        The rows of each pass.
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


def cells_inside(where: Where, rows: Tensor, total: int) -> tuple[Int[Tensor, " m"], Where]:
    """Select the cells that lie in some rows.

    Args:
        where: Cells of all rows.
        rows: The rows to select, each once.
        total: How many rows there are.

    Returns:
        The numbers of these cells, and where they lie among the selected rows.
    """
    place = torch.full((total,), -1)
    place[rows] = torch.arange(len(rows))
    which = (place[where.rows] >= 0).nonzero()[:, 0]
    return which, Where(place[where.rows[which]], where.columns[which])


def run_passes(
    batches: Sequence[PatchBatch],
    joined: JoinedBatch,
    groups: Sequence[Int[Tensor, " group"]],
    run_rows: Callable[[Tensor, Where], Float[Tensor, "m vocabulary"]],
) -> LabelledLogits:
    """Run every group of rows in a pass of its own.

    Args:
        batches: The batches that run together.
        joined: Their rows as one batch.
        groups: The rows of each pass.
        run_rows: Gives the logits of some rows at some cells among them.

    Returns:
        The logits of all batches, in their order.
    """
    pieces, order = [], []
    for rows in groups:
        which, cells = cells_inside(joined.cells, rows, len(joined.batch))
        pieces.append(run_rows(rows, cells))
        order.append(which)
    if len(pieces) == 1:
        return _label_batches(batches, pieces[0])
    return _label_batches(batches, _PermutedRows.apply(torch.cat(pieces), torch.cat(order).to(pieces[0].device)))


class _PermutedRows(torch.autograd.Function):
    """Put row i at row place[i], a permutation: its gradient is a look-up too, not a sum into zeros."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(place)
        return values.index_select(0, place.argsort())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0].index_select(0, ctx.saved_tensors[0]), None


def _label_batches(batches: Sequence[PatchBatch], logits: Tensor) -> LabelledLogits:
    """Put to the logits of all batches, in order, what the pairs say of their cells."""
    labelled, begin = [], 0
    for batch in batches:
        index = batch_rows(batch)
        row, columns = labelled_positions(batch.pairs)[index].nonzero(as_tuple=True)
        values = logits[begin : begin + len(row)]
        labelled.append(label_logits(values, batch.pairs, index[row], columns, row.to(logits.device), len(index)))
        begin += len(row)
    return join_labelled(labelled)
