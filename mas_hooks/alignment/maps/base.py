"""What a map is: a two-way view of one site into a shared space, whose parameters stay float32."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mas_hooks.alignment.maps.standardise import Calibration
from mas_hooks.core.errors import RankError


class AbstractView(ABC):
    """A map evaluated once: pure tensor functions, used for every read and write of one optimiser step.

    Laws: write(h, read(h)) = h; read(write(h, z)) = z; write(write(h, z), w) = write(h, w).
    """

    @abstractmethod
    def read(self, h: Float[Tensor, "n width"]) -> Float[Tensor, "n rank"]:
        """The coordinates of `h` in the shared space."""

    @abstractmethod
    def write(self, h: Float[Tensor, "n width"], z: Float[Tensor, "n rank"]) -> Float[Tensor, "n width"]:
        """`h` moved to the coordinates `z`, and otherwise left where it is."""


class AbstractMap(nn.Module, ABC):
    """The learned (or fixed) parameters of a map of a site of `width` units onto `rank` shared dims."""

    def __init__(self, width: int, rank: int, calibration: Calibration) -> None:
        super().__init__()
        if not 1 <= rank <= width:
            raise RankError(rank, width, f"a site of width {width}")
        self.width, self.rank, self.calibration = width, rank, calibration

    @abstractmethod
    def view(self) -> AbstractView:
        """Evaluate the parameters. Call it once per optimiser step."""

    @abstractmethod
    def start(self, frame: Float[Tensor, "width rank"]) -> None:
        """Set the parameters so that the first dims are the columns of `frame` (orthonormal)."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Follow `.to(device)`, but never fall below float32: low-precision rotations are not rotations."""

        def keep(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device) if moved.element_size() < 4 else moved

        return super()._apply(keep, recurse)


def complete_basis(frame: Float[Tensor, "width rank"]) -> Float[Tensor, "width width"]:
    """A full orthonormal basis whose first columns are those of `frame`."""
    width, rank = frame.shape
    basis, corner = torch.linalg.qr(torch.cat([frame, torch.eye(width, dtype=frame.dtype, device=frame.device)], dim=1))
    basis = basis[:, :width].clone()
    basis[:, :rank] *= torch.sign(torch.diagonal(corner)[:rank])
    return basis
