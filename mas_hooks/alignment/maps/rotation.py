"""The full width × width rotation, for several subspaces with a trained complement, and as the frame's reference."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from mas_hooks.alignment.maps.base import AbstractMap, complete_basis
from mas_hooks.alignment.maps.linear import LinearView
from mas_hooks.alignment.maps.orthogonal import Parametrization
from mas_hooks.alignment.maps.standardise import Calibration


class Rotation(AbstractMap):
    """All `width` directions of a site as one orthogonal matrix; `rank` is the width.

    parametrization: torch's orthogonal maps (matrix_exp is the paper's). The sign of the determinant is that of the
    start (+1 for identity, by chance for the others): none of the three can cross from one to the other by training.
    """

    def __init__(
        self,
        width: int,
        calibration: Calibration,
        learn_scale: bool = False,
        parametrization: Parametrization = "matrix_exp",
    ) -> None:
        super().__init__(width, width, calibration)
        linear = nn.Linear(width, width, bias=False, dtype=torch.float32)
        linear.weight.data.copy_(torch.eye(width))
        self.linear = parametrizations.orthogonal(linear, orthogonal_map=parametrization)
        self.log_scale = nn.Parameter(torch.zeros((), dtype=torch.float32)) if learn_scale else None

    def view(self) -> LinearView:
        scale = None if self.log_scale is None else self.log_scale.exp()
        return LinearView(self._matrix().mT, scale, self.calibration)

    def start(self, frame: Float[Tensor, "width rank"]) -> None:
        basis = complete_basis(frame.detach().cpu().double()).to(self._matrix())
        self.linear.weight = basis.mT.contiguous()

    def _matrix(self) -> Tensor:
        """U, rebuilt from its parameters at every access: read it once."""
        with torch.autocast(self.calibration.mean.device.type, enabled=False):
            weight = self.linear.weight
        assert isinstance(weight, Tensor)
        return weight
