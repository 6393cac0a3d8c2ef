"""What a transport is: a one-way map of an ordered pair of sites, which replaces and never writes back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mas_hooks.alignment.maps.standardise import Calibration
from mas_hooks.core.errors import ShapeError


class AbstractTransportView(ABC):
    """A transport evaluated once: pure tensor functions, used for every row of one optimiser step.

    Works in the dtype (float32) and on the device of the parameters, whatever those of `h` and whatever autocast says.

    Example:
        >>> import torch
        >>> from mas_hooks.alignment.transports import TransportSpec
        >>> view = TransportSpec().make(3, 2, "wide → narrow").view()  # starts at the identity
        >>> view(torch.tensor([[1.0, 2.0, 3.0]])).tolist()
        [[1.0, 2.0]]
    """

    @abstractmethod
    def forward(self, h: Float[Tensor, "n width_s"]) -> Float[Tensor, "n width_t"]:
        """What the target receives in place of its own activation."""

    @abstractmethod
    def backward(self, h: Float[Tensor, "n width_t"]) -> Float[Tensor, "n width_s"]:
        """The way back, for evaluation: transpose or pseudo-inverse. Raises UnsupportedError where there is none."""

    def __call__(self, h: Float[Tensor, "n width_s"]) -> Float[Tensor, "n width_t"]:
        return self.forward(h)


class AbstractTransport(nn.Module, ABC):
    """The parameters of a stitch from a site of `width_s` units to one of `width_t`.

    source, target: what the two sites are centred and z-scored with, target = mean_t + std_t · f((h − mean_s) / std_s).

    Example:
        >>> from mas_hooks.alignment.transports import AbstractTransport, TransportSpec
        >>> transport = TransportSpec(rank=1).make(3, 2, "wide → narrow")
        >>> isinstance(transport, AbstractTransport), transport.width_s, transport.width_t
        (True, 3, 2)
    """

    def __init__(self, source: Calibration, target: Calibration) -> None:
        super().__init__()
        self.source, self.target = source, target
        self.width_s, self.width_t = len(source.mean), len(target.mean)

    @abstractmethod
    def view(self) -> AbstractTransportView:
        """Evaluate the parameters. Call it once per optimiser step."""

    @abstractmethod
    def start(self, matrix: Float[Tensor, "width_t width_s"], shift: Float[Tensor, " width_t"] | None = None) -> None:
        """Set the parameters to x → matrix · x + shift, or as near to it as the kind can be; shift None is zero."""

    def forward(self, h: Float[Tensor, "n width_s"]) -> Float[Tensor, "n width_t"]:
        """As `view().forward`."""
        return self.view().forward(h)

    def backward(self, h: Float[Tensor, "n width_t"]) -> Float[Tensor, "n width_s"]:
        """As `view().backward`."""
        return self.view().backward(h)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Follow `.to(device)`, but never fall below float32, as maps do."""

        def keep(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device) if moved.element_size() < 4 else moved

        return super()._apply(keep, recurse)


def standardise(calibration: Calibration, h: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
    """(h − mean) / std in the dtype of the calibration. Raises ShapeError for rows of another width."""
    if h.ndim != 2 or h.shape[1] != len(calibration.mean):
        raise ShapeError("an activation", tuple(h.shape), f"(n, {len(calibration.mean)})")
    h = h.to(calibration.mean)
    if calibration.centre:
        h = h - calibration.mean
    return h / calibration.std if calibration.zscore else h


def restore(calibration: Calibration, x: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
    """The inverse of `standardise`."""
    if calibration.zscore:
        x = x * calibration.std
    return x + calibration.mean if calibration.centre else x


def without_autocast(calibration: Calibration) -> torch.autocast:
    """Autocast switched off where the parameters lie: stitching in bfloat16 loses what it measures."""
    return torch.autocast(calibration.mean.device.type, enabled=False)
