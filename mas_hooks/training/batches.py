"""Which pairs a training step sees."""

from __future__ import annotations

import zlib

import torch
from jaxtyping import Int
from torch import Tensor


class Batches:
    """The rows of any step as a function of (seed, step): shuffled anew each epoch, a short last batch left out.

    Args:
        pairs: how many there are.
        size: of a batch, at most that many.
        seed: of the order.
    """

    def __init__(self, pairs: int, size: int, seed: str) -> None:
        self.pairs, self.size, self.seed = pairs, min(size, pairs), seed
        self.per_epoch = pairs // self.size
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def at(self, step: int) -> Int[Tensor, " batch"]:
        """The rows of a step."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed}/{epoch}".encode()))
            self._epoch, self._order = epoch, torch.randperm(self.pairs, generator=generator)
        return self._order[place * self.size : (place + 1) * self.size]
