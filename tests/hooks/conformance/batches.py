"""Token batches and a measure of difference, shared by the conformance tests."""

from __future__ import annotations

import torch
from hooks.conformance.tiny import VOCABULARY
from torch import Tensor

BATCH, LENGTH = 3, 10
PADDINGS = ("none", "left", "right")


def ids(seed: int = 0) -> Tensor:
    """(BATCH, LENGTH) token ids without the padding id."""
    return torch.randint(1, VOCABULARY, (BATCH, LENGTH), generator=torch.Generator().manual_seed(seed))


def mask(padding: str) -> Tensor:
    """(BATCH, LENGTH): 1 on text, 0 on padding; the rows are 10, 6 and 9 tokens long where there is any."""
    lengths = torch.tensor([LENGTH] * BATCH if padding == "none" else [10, 6, 9])[:, None]
    columns = torch.arange(LENGTH)
    return (columns >= LENGTH - lengths if padding == "left" else columns < lengths).long()


def distance(found: Tensor, wanted: Tensor, on: Tensor | None = None) -> float:
    """The largest difference over the largest wanted value, on the cells where `on` (batch, position) is not 0."""
    found, wanted = found.double(), wanted.double()
    if on is not None:
        found, wanted = found[on.bool()], wanted[on.bool()]
    return float((found - wanted).abs().max() / wanted.abs().max())


def moved(h: Tensor) -> Tensor:
    """The edit of these tests: half of h plus a fixed vector, which is not the same in all units (norms undo that)."""
    return 0.5 * h + 0.3 * torch.cos(1.7 * torch.arange(h.shape[-1], dtype=h.dtype))
