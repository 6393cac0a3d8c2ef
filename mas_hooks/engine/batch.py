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
    """Logits at the labelled positions of a batch of pairs. row (m,): which pair of the batch each belongs to."""

    logits: Float[Tensor, "m vocabulary"]
    labels: Int[Tensor, " m"]
    row: Int[Tensor, " m"]
    deterministic: Bool[Tensor, " m"]
    scored: Bool[Tensor, " m"]
    pairs: int


@dataclass(frozen=True, eq=False)
class PatchedForward:
    """One patched forward.

    logits (m, vocabulary), labels (m,), pair (m,): at the labelled cells, and which pair each belongs to.
    vectors (n, width): what was put at the target cells; None where each was made as the run came by it (`Part.swap`).
    path: `tail` or `reference`, as it was run.
    """

    logits: Float[Tensor, "m vocabulary"]
    labels: Int[Tensor, " m"]
    pair: Int[Tensor, " m"]
    vectors: Float[Tensor, "n width"] | None
    path: str


@dataclass(frozen=True, eq=False)
class PatchBatch:
    """Some rows of one set of pairs with the vectors to put at their target cells, in the order of `Pairs.cells`.

    swap: where a cell depends on the swaps before it, as a recurrent state does: makes what is put there from what the
    run holds there and the source's vector, which `vectors` then are.
    """

    pairs: Pairs
    index: Int[Tensor, " batch"]
    vectors: Float[Tensor, "n _width"]
    swap: Callable[[Tensor, Tensor], Tensor] | None = None


class AbstractRunner(ABC):
    """Runs one target model over patched pairs."""

    name: str

    @abstractmethod
    def run(self, parts: Sequence[PatchBatch]) -> LabelledLogits:
        """One pass over all parts, which count as one batch."""


def label_logits(
    logits: Tensor, pairs: Pairs, rows: Tensor, columns: Tensor, row: Tensor, count: int
) -> LabelledLogits:
    """Logits with what the pairs say of the same cells. rows, columns: in the pairs; row: in the batch."""
    cells = (rows.to(pairs.labels.device), columns.to(pairs.labels.device))
    det, scored = pairs.deterministic_mask[cells], pairs.label_mask[cells]
    device = logits.device
    return LabelledLogits(logits, pairs.labels[cells].to(device), row, det.to(device), scored.to(device), count)


def join_batches(parts: Sequence[LabelledLogits]) -> LabelledLogits:
    """Several batches as one."""
    if len(parts) == 1:
        return parts[0]
    shifts = torch.tensor([0, *(part.pairs for part in parts)]).cumsum(0).tolist()
    return LabelledLogits(
        torch.cat([part.logits for part in parts]),
        torch.cat([part.labels for part in parts]),
        torch.cat([part.row + shift for part, shift in zip(parts, shifts[:-1], strict=True)]),
        torch.cat([part.deterministic for part in parts]),
        torch.cat([part.scored for part in parts]),
        shifts[-1],
    )


def labelled_positions(pairs: Pairs) -> Bool[Tensor, "n position"]:
    """Every position at which logits are needed: scored by the loss, or judged."""
    return pairs.label_mask | pairs.deterministic_mask


def batch_rows(part: PatchBatch) -> Int[Tensor, " batch"]:
    """The rows of a part, where its pairs lie."""
    return part.index.to(part.pairs.labels.device)
