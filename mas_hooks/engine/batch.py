"""What goes into a patched forward and what comes out: rows with their vectors, logits at the labelled positions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mas_hooks.data.pairs import Pairs


@dataclass(frozen=True, eq=False)
class LabelledLogits:
    """Logits at the labelled positions of a batch of pairs.

    Attributes:
        logits: Of each labelled position.
        labels: The token that the pairs expect there.
        row: Which pair of the batch each position belongs to.
        deterministic: Whether the trial is judged there.
        scored: Whether the loss looks there.
        pairs: How many pairs are in the batch.

    Example:
        >>> import torch
        >>> from mas_hooks.engine import LabelledLogits, score_trials
        >>> yes = torch.tensor([True, True])
        >>> labelled = LabelledLogits(torch.eye(2), torch.tensor([0, 0]), torch.tensor([0, 1]), yes, yes, pairs=2)
        >>> score_trials(labelled).right_trials
        1
    """

    logits: Float[Tensor, "m vocabulary"]
    labels: Int[Tensor, " m"]
    row: Int[Tensor, " m"]
    deterministic: Bool[Tensor, " m"]
    scored: Bool[Tensor, " m"]
    pairs: int


@dataclass(frozen=True, eq=False)
class PatchedForward:
    """One patched forward.

    Attributes:
        logits: At the labelled cells.
        labels: The token that the pairs expect at each of them.
        pair: Which pair each of them belongs to.
        vectors: What was put at the target cells; None where each vector was computed as the run came by its cell
            (`PatchBatch.swap`).
        path: How the forward was run: `tail` or `reference`.
    """

    logits: Float[Tensor, "m vocabulary"]
    labels: Int[Tensor, " m"]
    pair: Int[Tensor, " m"]
    vectors: Float[Tensor, "n width"] | None
    path: str


@dataclass(frozen=True, eq=False)
class PatchBatch:
    """Some rows of one set of pairs, with the vectors to put at their target cells.

    Attributes:
        pairs: The set of pairs.
        index: Which of them.
        vectors: One for each target cell, in the order of `Pairs.cells`.
        swap: For cells that depend on the swaps before them, as a recurrent state does. Computes what is put at a
            cell from what the run holds there and the source's vector; `vectors` are then those of the source.
    """

    pairs: Pairs
    index: Int[Tensor, " batch"]
    vectors: Float[Tensor, "n _width"]
    swap: Callable[[Tensor, Tensor], Tensor] | None = None


class AbstractRunner(ABC):
    """Runs one target model over patched pairs."""

    name: str

    @abstractmethod
    def run(self, batches: Sequence[PatchBatch]) -> LabelledLogits:
        """Run all batches in one pass; the result counts as one batch."""


def batch_rows(batch: PatchBatch) -> Int[Tensor, " batch"]:
    """The index of a batch on the device of its pairs."""
    return batch.index.to(batch.pairs.labels.device)


def labelled_positions(pairs: Pairs) -> Bool[Tensor, "n position"]:
    """Every position at which logits are needed: the loss looks there, or the trial is judged there."""
    return pairs.label_mask | pairs.deterministic_mask


def label_logits(
    logits: Tensor, pairs: Pairs, rows: Tensor, columns: Tensor, row: Tensor, count: int
) -> LabelledLogits:
    """Put to logits what the pairs say of their cells.

    Args:
        logits: Of some cells, (m, vocabulary).
        pairs: The set of pairs.
        rows: The row of each cell in the pairs.
        columns: The column of each cell.
        row: The row of each cell in the batch.
        count: How many pairs are in the batch.

    Returns:
        The labelled logits, on the device of the logits.
    """
    cells = (rows.to(pairs.labels.device), columns.to(pairs.labels.device))
    deterministic, scored = pairs.deterministic_mask[cells], pairs.label_mask[cells]
    device = logits.device
    return LabelledLogits(
        logits, pairs.labels[cells].to(device), row, deterministic.to(device), scored.to(device), count
    )


def join_labelled(batches: Sequence[LabelledLogits]) -> LabelledLogits:
    """Join the results of several batches into one."""
    if len(batches) == 1:
        return batches[0]
    shifts = torch.tensor([0, *(batch.pairs for batch in batches)]).cumsum(0).tolist()
    return LabelledLogits(
        torch.cat([batch.logits for batch in batches]),
        torch.cat([batch.labels for batch in batches]),
        torch.cat([batch.row + shift for batch, shift in zip(batches, shifts[:-1], strict=True)]),
        torch.cat([batch.deterministic for batch in batches]),
        torch.cat([batch.scored for batch in batches]),
        shifts[-1],
    )
