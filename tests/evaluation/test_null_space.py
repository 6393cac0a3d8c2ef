"""The behavioural null space: its definition, its estimates, and what it refuses."""

import math

import pytest
import torch

from mas_hooks.alignment.maps import MapSpec
from mas_hooks.alignment.maps.init import random_frame
from mas_hooks.alignment.transports import TransportSpec
from mas_hooks.core.errors import NotFiniteError, SettingError, ShapeError, UnsupportedError
from mas_hooks.evaluation.null_space import (
    Share,
    behaviour_gradients,
    linear_part,
    null_share,
    null_space,
    points_between,
    received_by_target,
    response_share,
)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


def looks_at(direction):
    """A behaviour of two answers that depends on one direction alone."""
    return lambda h: (h @ direction.to(h))[:, None] * torch.tensor([1.0, -1.0]).to(h)


def test_received_is_a_root_of_the_targets_sensitivity_pulled_back(generator):
    matrix, gradients = torch.randn(4, 6, generator=generator).double(), torch.randn(9, 4, generator=generator).double()
    seen = received_by_target(matrix, gradients)
    assert torch.allclose(seen.T @ seen, matrix.T @ (gradients.T @ gradients / 9) @ matrix, atol=1e-12)


@pytest.mark.parametrize("tolerance", [0.1, 0.01, 0.001])
def test_the_weights_are_those_of_the_definition(tolerance):
    """Axes with sensitivities 4, 1, ¼, 0 and variances 1, 9, 1, 1: effects 4, 9, ¼, 0 against the strongest, 9."""
    h = torch.cat([torch.eye(4), -torch.eye(4)]).double() * torch.tensor([1.0, 3, 1, 1]).double() * math.sqrt(7 / 2)
    assert torch.allclose(torch.cov(h.T), torch.diag(torch.tensor([1.0, 9, 1, 1]).double()))
    gradients = torch.eye(4).double() * torch.tensor([2.0, 1, 0.5, 0]).double() * 2
    null = null_space(gradients, h, tolerance)
    expected = [tolerance / (tolerance + effect / 9) for effect in (4, 9, 0.25, 0)]
    assert torch.allclose(null.projector, torch.diag(torch.tensor(expected).double()), atol=1e-12)
    assert null.dims == pytest.approx(sum(expected))
    first = null_share(torch.tensor([[2.0, 0, 0, 0]]), null)
    weight = expected[0]
    assert first.null == pytest.approx(4 * weight**2)
    assert first.behavioural == pytest.approx(4 * (1 - weight) ** 2)


def test_the_share_is_the_same_in_a_turned_basis_and_for_any_scale(generator):
    h = torch.randn(200, 5, generator=generator).double() * torch.arange(5, 0, -1)
    gradients = torch.randn(50, 5, generator=generator).double() * torch.tensor([3.0, 1, 0.1, 0, 0]).double()
    readout = torch.randn(2, 5, generator=generator).double()
    share = null_share(readout, null_space(gradients, h)).share
    turn = torch.linalg.qr(torch.randn(5, 5, generator=generator).double())[0]
    assert null_share(readout @ turn, null_space(gradients @ turn, h @ turn)).share == pytest.approx(share)
    assert null_share(7 * readout, null_space(3 * gradients, 2 * h + 5)).share == pytest.approx(share)
    assert 0.05 < share < 0.95


def test_the_two_parts_make_up_the_activation_and_the_projector_is_soft(generator):
    null = null_space(torch.randn(20, 4, generator=generator), torch.randn(30, 4, generator=generator), 0.1)
    values = torch.linalg.eigvalsh(null.projector)
    assert (values > 0).all()
    assert (values <= 1).all()
    assert torch.allclose(null.projector + null.behavioural, torch.eye(4).double())


def test_a_map_and_a_stitch_side_by_side(generator):
    """The matrix of a swap between models, from their maps: U_t U_sᵀ scaled; that of a stitch: its weight."""
    maps = []
    for width in (5, 4):
        one = MapSpec(rank=2, scale="learned", centre=True).make(width, "x").double()
        one.start(random_frame(width, 2, generator))
        one.calibration.fit(torch.randn(30, width, generator=generator))
        maps.append(one.view())
    with torch.no_grad():
        maps[0] = type(maps[0])(maps[0].frame, torch.tensor(2.0).double(), maps[0].calibration)
    source, target = maps
    h = torch.randn(9, 5, generator=generator).double()

    def put(rows):
        return target.write(torch.zeros(len(rows), 4).double(), source.read(rows))

    assert torch.allclose(linear_part(put, h), 2 * target.frame @ source.frame.T, atol=1e-9)
    for spec in ({}, {"rank": 2}, {"kind": "orthogonal"}, {"kind": "affine"}, {"centre": True}):
        full = TransportSpec(**spec)
        stitch = full.make(5, 4, "x")
        stitch.start(full.draw_start(5, 4, generator))
        stitch.target.mean.fill_(3)
        expected = stitch.view().steps[0] if "rank" not in spec else stitch.second @ stitch.first
        assert torch.allclose(linear_part(stitch.view().forward, h.float()), expected, atol=1e-5)


@pytest.mark.parametrize("place", ["before", "after"])
def test_what_is_not_linear_has_no_matrix(place, generator):
    stitch = TransportSpec(kind="affine", layer_norm=place).make(5, 4, "x")
    with pytest.raises(
        UnsupportedError, match=r"^the matrix of a map that is not linear is not supported; use respons"
    ):
        linear_part(stitch.view().forward, torch.randn(3, 5, generator=generator))


def fisher(behaviour, point):
    """F of one row by its definition: Σ_y p(y) ∇log p(y) ∇log p(y)ᵀ, position by position."""
    point = point.clone().requires_grad_()
    logs = behaviour(point[None]).log_softmax(-1).flatten(0, -2)
    total = torch.zeros(len(point), len(point)).to(point)
    for position in logs:
        for one in position:
            (found,) = torch.autograd.grad(one, point, retain_graph=True)
            total += one.detach().exp() * torch.outer(found, found)
    return total


@pytest.mark.parametrize("positions", [(), (3,)])
def test_drawn_gradients_estimate_the_fisher_information(positions, generator):
    weight = torch.randn(*positions, 5, 4, generator=generator).double()
    h = torch.randn(20, 4, generator=generator).double()

    def behaviour(rows):
        shape = "pod,nd->npo" if positions else "od,nd->no"
        return torch.tanh(torch.einsum(shape, weight.to(rows), rows))

    drawn = behaviour_gradients(behaviour, h, generator, draws=600).double()
    assert drawn.shape == (12000, 4)
    expected = torch.stack([fisher(behaviour, row) for row in h]).mean(0)
    found = drawn.T @ drawn / len(drawn)
    assert (found - expected).norm() < 0.06 * expected.norm()


def test_gradients_come_out_under_no_grad_and_leave_the_activations_alone(generator):
    h = torch.randn(6, 2, generator=generator)
    with torch.no_grad():
        found = behaviour_gradients(looks_at(torch.tensor([1.0, 0.0])), h, generator)
    assert found.shape == (6, 2)
    assert not h.requires_grad
    assert torch.equal(found[:, 1], torch.zeros(6))
    assert (found[:, 0].abs() > 0).all()
    seeds = [
        behaviour_gradients(looks_at(torch.tensor([1.0, 0])), h, torch.Generator().manual_seed(4)) for _ in range(2)
    ]
    assert torch.equal(*seeds)


def test_between_samples_a_saturated_behaviour_shows_its_direction(generator):
    """At c = ±30 every gradient is nothing; on the way from one to the other it is not."""
    h = torch.randn(400, 2, generator=generator)
    h[:, 0] = 30 * torch.sign(h[:, 0])
    other = h[torch.randperm(400, generator=generator)]
    source = looks_at(torch.tensor([1.0, 0.0]))
    assert behaviour_gradients(source, h, generator).abs().max() < 1e-10
    points = points_between(h, other, generator)
    assert behaviour_gradients(source, points, generator).abs().max() > 0.3
    along = (points - h).norm(dim=1) / (other - h).norm(dim=1).clamp(min=1e-9)
    assert 0.45 < along[(other != h).any(1)].mean() < 0.55
    low, high = torch.minimum(h, other), torch.maximum(h, other)
    assert ((points >= low - 1e-4) & (points <= high + 1e-4)).all()
    null = null_space(behaviour_gradients(source, points, generator, draws=5), h)
    assert torch.allclose(null.projector.diagonal(), torch.tensor([0.01 / 1.01, 1.0]).double(), atol=1e-6)


def test_response_share_serves_a_nonlinear_map_and_sums_over_positions(generator):
    h, other = (torch.randn(500, 2, generator=generator) for _ in range(2))
    null = null_space(torch.tensor([[1.0, 0], [-1.0, 0]]), h, 1e-8)

    def once(rows):
        return torch.stack([rows[:, 0] ** 3, rows[:, 1] ** 2], dim=1)

    one, twice = (response_share(f, h, other, null) for f in (once, lambda r: torch.stack([once(r)] * 2, dim=1)))
    assert twice.null == pytest.approx(2 * one.null)
    assert twice.behavioural == pytest.approx(2 * one.behavioural)
    assert 0.05 < one.share < 0.95
    before, after = once(h).double().softmax(-1), once(torch.stack([h[:, 0], other[:, 1]], 1)).double().softmax(-1)
    assert one.null == pytest.approx((before * (before / after).log()).sum(-1).mean().item(), rel=1e-3)


def test_nothing_read_has_no_share():
    assert math.isnan(Share(0.0, 0.0).share)


@pytest.mark.parametrize("tolerance", [0, 1, -0.5, float("nan")])
def test_a_tolerance_outside_its_range(tolerance):
    with pytest.raises(SettingError, match=r"^the tolerance of a null space is .*, but must be between 0 and 1\.$"):
        null_space(torch.eye(2), torch.randn(5, 2), tolerance)


def test_rows_that_do_not_do(generator):
    h, null = torch.randn(5, 3, generator=generator), None
    with pytest.raises(
        ShapeError,
        match=r"^the gradients of a null space has shape \(2, 3\), but \(n, 3\) with n at least 3 is needed\.$",
    ):
        null_space(torch.ones(2, 3), h)
    with pytest.raises(ShapeError, match=r"^the gradients of a null space has shape \(9, 4\), but \(n, 3\)"):
        null_space(torch.ones(9, 4), h)
    with pytest.raises(ShapeError, match=r"^the activations of a null space has shape \(2, 3\)"):
        null_space(torch.ones(9, 3), h[:2])
    with pytest.raises(NotFiniteError, match=r"^the activations of a null space holds 15 values"):
        null_space(torch.ones(9, 3), h / 0 * 0)
    with pytest.raises(UnsupportedError, match=r"^the null space of a model whose behaviour changes nowhere is not"):
        null_space(torch.zeros(9, 3), h)
    null = null_space(torch.eye(3), h)
    with pytest.raises(ShapeError, match=r"^a read-out has shape \(2, 4\), but \(k, 3\) is needed\.$"):
        null_share(torch.ones(2, 4), null)
    with pytest.raises(ShapeError, match=r"^the target's gradients has shape \(9, 3\), but \(m, 4\) is needed\.$"):
        received_by_target(torch.ones(4, 3), torch.ones(9, 3))
    with pytest.raises(
        ShapeError, match=r"^the other samples has shape \(4, 3\), but that of the samples, \(5, 3\) is"
    ):
        response_share(looks_at(torch.ones(3)), h, h[:4], null)
    with pytest.raises(NotFiniteError, match=r"^the gradient of the behaviour holds \d+ values that are NaN"):
        behaviour_gradients(lambda rows: rows.abs().sqrt() * rows.new_tensor([1.0, 2]), torch.zeros(4, 2), generator)
