"""The default map: a width × rank orthonormal frame, kept orthonormal by a thin QR."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mas_hooks.alignment.maps.base import AbstractMap
from mas_hooks.alignment.maps.linear import LinearView
from mas_hooks.alignment.maps.standardise import Calibration


def orthonormal(weight: Float[Tensor, "width rank"]) -> Float[Tensor, "width rank"]:
    """The Q of the thin QR with diag R > 0, which is a smooth function of a full-rank weight."""
    q, r = torch.linalg.qr(weight)
    signs = torch.sign(torch.diagonal(r))
    return q * torch.where(signs == 0, 1.0, signs)


class Frame(AbstractMap):
    """`rank` orthonormal directions of a site. Moves the same dims as a full rotation with a mask, at less cost.

    For rank < width only: the sign of a square QR jumps where training crosses a singular weight (see `MapSpec.make`).
    """

    def __init__(self, width: int, rank: int, calibration: Calibration, learn_scale: bool = False) -> None:
        super().__init__(width, rank, calibration)
        self.weight = nn.Parameter(torch.eye(width, rank, dtype=torch.float32))
        self.log_scale = nn.Parameter(torch.zeros((), dtype=torch.float32)) if learn_scale else None

    def view(self) -> LinearView:
        scale = None if self.log_scale is None else self.log_scale.exp()
        return LinearView(orthonormal(self.weight), scale, self.calibration)

    def start(self, frame: Float[Tensor, "width rank"]) -> None:
        with torch.no_grad():
            self.weight.copy_(frame)
