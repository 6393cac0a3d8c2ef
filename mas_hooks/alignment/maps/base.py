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

    Example:
        >>> import torch
        >>> from mas_hooks.alignment.maps import MapSpec
        >>> view = MapSpec(rank=2).make(3, "a site").view()
        >>> h = torch.tensor([[1.0, 2.0, 3.0]])
        >>> view.read(h).tolist(), view.write(h, torch.zeros(1, 2)).tolist()
        ([[1.0, 2.0]], [[0.0, 0.0, 3.0]])
    """

    @abstractmethod
    def read(self, h: Float[Tensor, "n width"]) -> Float[Tensor, "n rank"]:
        """The coordinates of `h` in the shared space."""

    @abstractmethod
    def write(self, h: Float[Tensor, "n width"], z: Float[Tensor, "n rank"]) -> Float[Tensor, "n width"]:
        """`h` moved to the coordinates `z`, and otherwise left where it is."""


class AbstractMap(nn.Module, ABC):
    """The learned (or fixed) parameters of a map of a site of `width` units onto `rank` shared dims.

    Args:
        width: units of the site.
        rank: shared dims.
        calibration: what centres and z-scores the site.

    Raises:
        RankError: the rank is not from 1 to the width.

    Example:
        >>> from mas_hooks.alignment.maps import AbstractMap, MapSpec
        >>> site_map = MapSpec(rank=2).make(3, "a site")
        >>> isinstance(site_map, AbstractMap), site_map.width, site_map.rank
        (True, 3, 2)
    """

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
    """Complete an orthonormal frame to a full orthonormal basis, whose first columns are those of the frame.

    Example:
        >>> import torch
        >>> from mas_hooks.alignment import complete_basis
        >>> basis = complete_basis(torch.tensor([[0.6], [0.8]]))
        >>> basis.shape, torch.allclose(basis.T @ basis, torch.eye(2), atol=1e-6)
        (torch.Size([2, 2]), True)
    """
    width, rank = frame.shape
    basis, corner = torch.linalg.qr(torch.cat([frame, torch.eye(width, dtype=frame.dtype, device=frame.device)], dim=1))
    basis = basis[:, :width].clone()
    basis[:, :rank] *= torch.sign(torch.diagonal(corner)[:rank])
    return basis
