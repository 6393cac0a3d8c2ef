"""Transports of every kind, away from their start: what the tests of transports share."""

import pytest
import torch

from mas_hooks.alignment.transports import TransportSpec
from mas_hooks.alignment.transports.linear import Orthogonal

WIDTHS = [(6, 6), (7, 4), (4, 7), (1, 1), (5, 1)]
widths = pytest.mark.parametrize(("width_s", "width_t"), WIDTHS)
PARAMETRIZATIONS = ("matrix_exp", "cayley", "householder")
parametrizations = pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
SPECS = [
    {},
    {"rank": 1},
    *({"kind": "orthogonal", "parametrization": name} for name in PARAMETRIZATIONS),
    {"kind": "affine"},
    {"kind": "affine", "layer_norm": "before"},
    {"kind": "affine", "layer_norm": "after"},
]
every = pytest.mark.parametrize("spec", SPECS, ids=str)
calibrations = pytest.mark.parametrize("calibration", [{}, {"centre": True}, {"zscore": True}], ids=str)


def jolt(one, generator):
    """Away from the start, as training does; a householder's upper triangle is no parameter."""
    with torch.no_grad():
        for parameter in one.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.add_(0.5 * (noise.tril(-1) if isinstance(one, Orthogonal) else noise))


def made(spec, width_s, width_t, generator, dtype=torch.float32):
    """A transport away from its start, calibrated on very unequal units."""
    spec = TransportSpec(**spec)
    one = spec.make(width_s, width_t, "a → b")
    one.start(spec.draw_start(width_s, width_t, generator))
    jolt(one, generator)
    one = one.to(dtype)
    for calibration, width in ((one.source, width_s), (one.target, width_t)):
        calibration.fit(3 + torch.randn(50, width, generator=generator) * torch.arange(1, width + 1))
    return one
