"""Affine transports, with the LayerNorm of Brown et al. 2023 on either side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mas_hooks.alignment.maps.standardise import Calibration
from mas_hooks.alignment.transports.base import (
    AbstractTransport,
    AbstractTransportView,
    restore,
    standardise,
    without_autocast,
)
from mas_hooks.alignment.transports.linear import MatrixView
from mas_hooks.core.errors import UnsupportedError

Place = Literal["none", "before", "after"]


@dataclass(frozen=True, eq=False)
class NormedView(AbstractTransportView):
    """x → W · norm(x) + shift (`before`) or norm(W · x + shift) (`after`); norm has a learned gain and offset."""

    weight: Float[Tensor, "width_t width_s"]
    shift: Float[Tensor, " width_t"]
    norm: nn.LayerNorm
    before: bool
    source: Calibration
    target: Calibration

    def forward(self, h: Float[Tensor, "n width_s"]) -> Float[Tensor, "n width_t"]:
        with without_autocast(self.source):
            x = standardise(self.source, h)
            x = functional.linear(self.norm(x) if self.before else x, self.weight, self.shift)
            return restore(self.target, x if self.before else self.norm(x))

    def backward(self, h: Float[Tensor, "n width_t"]) -> Float[Tensor, "n width_s"]:  # noqa: ARG002 - there is no way
        raise UnsupportedError(
            "a LayerNorm backwards, which forgets the length of what it reads,",
            "use a linear, orthogonal or affine transport without one for the way back",
        )


class Affine(AbstractTransport):
    """W x + b, with an optional LayerNorm.

    Brown et al. 2023 (App. C.1) learn "an affine transformation (along with an additional LayerNorm)" and do not say on
    which side. `after` follows the tuned lens that they adapted, where a norm reads what the translator gives.
    """

    def __init__(self, source: Calibration, target: Calibration, layer_norm: Place = "none") -> None:
        super().__init__(source, target)
        self.weight = nn.Parameter(torch.eye(self.width_t, self.width_s, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(self.width_t, dtype=torch.float32))
        self.layer_norm: Place = layer_norm
        normed = self.width_s if layer_norm == "before" else self.width_t
        self.norm = None if layer_norm == "none" else nn.LayerNorm(normed, dtype=torch.float32)

    def view(self) -> MatrixView | NormedView:
        if self.norm is None:
            return MatrixView((self.weight,), self.bias, self.source, self.target)
        return NormedView(self.weight, self.bias, self.norm, self.layer_norm == "before", self.source, self.target)

    def start(self, matrix: Tensor, shift: Tensor | None = None) -> None:
        """Begin at matrix · x + shift, the LayerNorm with gain one and offset zero."""
        with torch.no_grad():
            self.weight.copy_(matrix)
            self.bias.zero_() if shift is None else self.bias.copy_(shift)
        if self.norm is not None:
            self.norm.reset_parameters()
