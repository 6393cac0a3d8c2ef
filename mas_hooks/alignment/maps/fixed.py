"""A map that does not learn: identity, random or principal directions, as a control."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mas_hooks.alignment.maps.base import AbstractMap
from mas_hooks.alignment.maps.linear import LinearView
from mas_hooks.alignment.maps.standardise import Calibration


class Fixed(AbstractMap):
    """`rank` frozen orthonormal directions; `start` says which."""

    frame: Tensor

    def __init__(self, width: int, rank: int, calibration: Calibration) -> None:
        super().__init__(width, rank, calibration)
        self.register_buffer("frame", torch.eye(width, rank, dtype=torch.float32))

    def view(self) -> LinearView:
        return LinearView(self.frame, None, self.calibration)

    def start(self, frame: Float[Tensor, "width rank"]) -> None:
        self.frame.copy_(frame)
