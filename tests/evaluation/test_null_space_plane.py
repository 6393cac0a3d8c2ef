"""The behavioural null space in the plane of Grant 2025, §3.3, where every answer is known on paper."""

import math

import pytest
import torch

from mas_hooks.alignment.transports import TransportSpec
from mas_hooks.evaluation.null_space import (
    behaviour_gradients,
    linear_part,
    null_share,
    null_space,
    received_by_target,
    response_share,
)

TINY = 1e-8
"""A tolerance at which the null space of the plane is its exact one."""


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


def turned(angle):
    """The plane's own axes, the causal and the extraneous one, as rows, in the units of the model."""
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[cos, sin], [-sin, cos]]).double()


def plane(spread_c, spread_e, correlation, angle=0.0):
    """Four samples of (c, e) with exactly these spreads and this correlation, in a plane turned by `angle`."""
    c = torch.tensor([1.0, 1, -1, -1]).double()
    free = torch.tensor([1.0, -1, 1, -1]).double()
    e = correlation * c + math.sqrt(1 - correlation**2) * free
    return torch.stack([spread_c * c, spread_e * e], dim=1) @ turned(angle)


def looks_at(direction):
    """A behaviour of two answers that depends on one direction alone."""
    return lambda h: (h @ direction.to(h))[:, None] * torch.tensor([1.0, -1.0]).to(h)


ANGLES = pytest.mark.parametrize("angle", [0.0, 0.7, -2.0])
CORRELATIONS = pytest.mark.parametrize("correlation", [0.0, 0.6, -0.9])


@ANGLES
@CORRELATIONS
@pytest.mark.parametrize(
    ("row", "spreads", "share"),
    [
        ((1, 0), (1, 1), 0.0),  # eq. 12: z_var of MAS reads the causal axis alone
        ((0, 1), (1, 1), 1.0),  # a stitch that reads only what correlates
        ((1, 1), (1, 1), 1 / 2),
        ((3, 4), (1, 1), 16 / 25),
        ((3, 4), (2, 1), 16 / (4 * 9 + 16)),  # x₂² σ_e² / (x₁² σ_c² + x₂² σ_e²)
        ((-3, 4), (1, 3), 144 / 153),
    ],
)
def test_the_plane_of_the_paper(row, spreads, share, angle, correlation):
    """h = (c, e); the source answers from c alone; z = x₁ c + x₂ e has null share x₂² σ_e² / (x₁² σ_c² + x₂² σ_e²)."""
    axes, h = turned(angle), plane(*spreads, correlation, angle)
    gradients = torch.stack([axes[0], -axes[0]])
    readout = torch.tensor([row]).double() @ axes
    assert null_share(readout, null_space(gradients, h, TINY)).share == pytest.approx(share, abs=1e-6)


@ANGLES
def test_behaviour_alone_cannot_tell_the_two_apart_but_the_share_does(angle):
    """Where e always equals c, reading c, e or any mixture of sum 1 moves the same answer into the target."""
    axes, h = turned(angle), plane(1, 1, 1.0, angle)
    null = null_space(axes[:1].repeat(2, 1), h, TINY)
    rows = {
        name: torch.tensor([row]).double() @ axes for name, row in {"c": (1, 0), "e": (0, 1), "both": (2, -1)}.items()
    }
    read = {name: h @ row[0] for name, row in rows.items()}
    assert torch.allclose(read["c"], read["e"])
    assert torch.allclose(read["c"], read["both"])
    shares = {name: null_share(row, null).share for name, row in rows.items()}
    assert shares == pytest.approx({"c": 0, "e": 1, "both": 1 / 5}, abs=1e-6)


@ANGLES
def test_the_shortest_least_squares_stitch_of_the_plane_is_half_null(angle):
    """The fit of c where e = c is (½, ½) on paper: least squares spreads over what correlates."""
    h = plane(1, 1, 1.0, angle)
    goal = (h @ turned(angle)[0])[:, None]
    spec = TransportSpec(init="least_squares")
    stitch = spec.make(2, 1, "plane → line").double()
    spec.fit_start(stitch, h, goal)
    matrix = linear_part(stitch.view().forward, h)
    assert torch.allclose(matrix @ turned(angle).T, torch.tensor([[0.5, 0.5]]).double(), atol=1e-9)
    null = null_space(turned(angle)[:1].repeat(2, 1), h, TINY)
    assert null_share(matrix, null).share == pytest.approx(1 / 2, abs=1e-6)


@ANGLES
def test_the_same_by_intervention(angle, generator):
    """Answers before and after a swap of either part: a stitch of (1, 1) answers to both alike, MAS to one only."""
    axes = turned(angle)
    h = torch.randn(4000, 2, generator=generator).double() @ axes
    other = torch.randn(4000, 2, generator=generator).double() @ axes
    source = looks_at(axes[0])
    null = null_space(behaviour_gradients(source, h, generator).double(), h, TINY)
    own = response_share(source, h, other, null)
    assert own.null == pytest.approx(0, abs=1e-12)
    assert own.behavioural > 0.3
    assert response_share(looks_at(axes[0] + axes[1]), h, other, null).share == pytest.approx(1 / 2, abs=0.03)
    assert response_share(looks_at(axes[1]), h, other, null).share == pytest.approx(1, abs=1e-9)


def test_the_target_decides_what_is_received(generator):
    """An orthogonal stitch receives everything; which of it the target uses is in the target's gradients."""
    h = plane(1, 1, 0.0)
    null = null_space(torch.eye(2).double()[:1].repeat(2, 1), h, TINY)
    for angle in (0.0, 0.4, 1.1):
        stitch = turned(angle)
        assert null_share(stitch, null).share == pytest.approx(1 / 2, abs=1e-6)
        seen = received_by_target(stitch, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).double())
        assert null_share(seen, null).share == pytest.approx(math.sin(angle) ** 2, abs=1e-6)
