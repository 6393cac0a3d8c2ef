"""The view of every orthonormal map: z = s Uᵀ x and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mas_hooks.alignment.maps.base import AbstractView
from mas_hooks.alignment.maps.standardise import Calibration
from mas_hooks.core.errors import ShapeError


@dataclass(frozen=True, eq=False)
class LinearView(AbstractView):
    """z = s Uᵀ (h − mean) / std, with U the orthonormal columns of `frame` (Grant 2025, eq. 4, Q = s·U).

    Works in the dtype (float32) and on the device of the frame, whatever those of `h` and whatever autocast says.
    """

    frame: Float[Tensor, "width rank"]
    scale: Float[Tensor, ""] | None
    calibration: Calibration

    def _standardise(self, h: Tensor) -> Tensor:
        if h.ndim != 2 or h.shape[1] != len(self.frame):
            raise ShapeError("an activation", tuple(h.shape), f"(n, {len(self.frame)})")
        h = h.to(self.frame)
        if self.calibration.centre:
            h = h - self.calibration.mean
        return h / self.calibration.std if self.calibration.zscore else h

    def read(self, h: Float[Tensor, "n width"]) -> Float[Tensor, "n rank"]:
        with torch.autocast(self.frame.device.type, enabled=False):
            z = self._standardise(h) @ self.frame
        return z if self.scale is None else self.scale * z

    def write(self, h: Float[Tensor, "n width"], z: Float[Tensor, "n rank"]) -> Float[Tensor, "n width"]:
        moved = z - self.read(h)
        if self.scale is not None:
            moved = moved / self.scale
        with torch.autocast(self.frame.device.type, enabled=False):
            step = moved @ self.frame.mT
        if self.calibration.zscore:
            step = step * self.calibration.std
        return h.to(self.frame) + step
