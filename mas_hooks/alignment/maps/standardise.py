"""Centring and z-scoring of a site, with the mean and spread that its map keeps."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Calibration(nn.Module):
    """x = (h − mean) / std; mean 0 and std 1 until `fit`, and where not asked for. A constant unit has std 1."""

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, centre: bool = False, zscore: bool = False) -> None:
        super().__init__()
        self.centre, self.zscore = centre or zscore, zscore
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float32))
        self.register_buffer("std", torch.ones(width, dtype=torch.float32))

    def fit(self, h: Float[Tensor, "n width"]) -> None:
        """Take the mean and spread of natural activations."""
        h = h.to(self.mean)
        if self.centre:
            self.mean.copy_(h.mean(0))
        if self.zscore:
            std = h.std(0, correction=0)
            self.std.copy_(torch.where(std > 0, std, torch.ones_like(std)))
