"""The laws of every map (a two-way view keeps what it does not write), its parameters' dtype, and how it trains."""

import pytest
import torch

from mas_hooks.alignment.maps import MapSpec
from mas_hooks.alignment.maps.frame import Frame, orthonormal
from mas_hooks.alignment.maps.init import identity_frame, pca_frame, random_frame
from mas_hooks.alignment.maps.rotation import Rotation
from mas_hooks.core.errors import ShapeError

PARAMETRIZATIONS = ("matrix_exp", "cayley", "householder")
KINDS = [("frame", "matrix_exp"), *(("rotation", name) for name in PARAMETRIZATIONS), ("fixed", "matrix_exp")]
LEARNED = KINDS[:-1]
REVERSIBLE = [("reversible", "matrix_exp"), ("reversible", "cayley")]
SHAPES = [(6, 3), (5, 5), (7, 1), (1, 1)]
kinds = pytest.mark.parametrize(("kind", "parametrization"), KINDS)
every_kind = pytest.mark.parametrize(("kind", "parametrization"), [*KINDS, *REVERSIBLE])
learned = pytest.mark.parametrize(("kind", "parametrization"), LEARNED)
rotations = pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
shapes = pytest.mark.parametrize(("width", "rank"), SHAPES)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


def jolt(one, generator):
    """Move every parameter away from the start, as training does (householder's diagonal is no parameter)."""
    with torch.no_grad():
        for parameter in one.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            square = parameter.ndim == 2 and parameter.shape[0] == parameter.shape[1]
            parameter.add_(0.5 * (noise.tril(-1) if square else noise))


def made(kind, parametrization, width, rank, generator, dtype=torch.float32, **settings):
    """A map away from its start, calibrated on activations of very unequal units."""
    one = MapSpec(rank=rank, kind=kind, parametrization=parametrization, **settings).make(width, "the site").to(dtype)
    one.start(orthonormal(random_frame(width, rank, generator).to(dtype)))
    one.calibration.fit(3 + torch.randn(50, width, generator=generator) * torch.arange(1, width + 1))
    jolt(one, generator)
    return one


def laws(one, h, generator, tolerance):
    view = one.view()
    z, w = (torch.randn(len(h), view.read(h).shape[1], generator=generator).to(view.read(h)) for _ in range(2))
    assert torch.equal(view.write(h, view.read(h)), h.to(z))
    assert torch.allclose(view.read(view.write(h, z)), z, rtol=0, atol=tolerance)
    assert torch.allclose(view.write(view.write(h, z), w), view.write(h, w), rtol=0, atol=tolerance)
    assert not torch.allclose(view.write(h, z), h.to(z), atol=1e-3)


@shapes
@pytest.mark.parametrize(
    ("kind", "parametrization", "scale"),
    [*((*one, "fixed") for one in [*KINDS, *REVERSIBLE]), *((*one, "learned") for one in [*LEARNED, *REVERSIBLE])],
)
@pytest.mark.parametrize("calibration", [{}, {"centre": True}, {"zscore": True}])
def test_laws(kind, parametrization, scale, width, rank, calibration, generator):
    spec = {"scale": scale} | calibration
    one = made(kind, parametrization, width, rank, generator, **spec)
    h = torch.randn(9, width, generator=generator)
    laws(one, h, generator, 1e-4)
    laws(one, h.bfloat16(), generator, 1e-4)
    laws(made(kind, parametrization, width, rank, generator, torch.float64, **spec), h.double(), generator, 1e-11)


def test_the_laws_that_were_tested_had_a_scale_a_mean_and_a_spread(generator):
    one = made("frame", "matrix_exp", 6, 3, generator, scale="learned", zscore=True)
    assert abs(one.log_scale.item()) > 0.05
    assert (one.calibration.mean.abs() > 1).all()
    assert one.calibration.std[-1] > 2 * one.calibration.std[0]


@pytest.mark.parametrize("frame", [identity_frame(5, 2), random_frame(5, 2, torch.Generator()), None])
def test_laws_of_fixed_maps_from_every_start(frame, generator):
    h = torch.randn(20, 5, generator=generator)
    one = MapSpec(rank=2, kind="fixed", centre=True).make(5, "the site")
    one.start(pca_frame(h, 2) if frame is None else frame)
    one.calibration.fit(h)
    assert not list(one.parameters())
    laws(one, h, generator, 1e-5)


@kinds
@shapes
def test_a_map_moves_nothing_outside_its_subspace(kind, parametrization, width, rank, generator):
    one = made(kind, parametrization, width, rank, generator, torch.float64)
    h = torch.randn(4, width, generator=generator).double()
    view = one.view()
    step = view.write(h, torch.randn(view.read(h).shape, generator=generator).double()) - h
    frame = view.frame
    assert torch.allclose(step, step @ frame @ frame.mT, atol=1e-10)


@kinds
@shapes
@pytest.mark.parametrize("cast", [lambda m: m.to(torch.bfloat16), lambda m: m.half(), lambda m: m.float()])
def test_low_precision_never_reaches_the_maps(kind, parametrization, width, rank, cast, generator):
    one = made(kind, parametrization, width, rank, generator, zscore=True)
    before = {name: tensor.clone() for name, tensor in one.state_dict().items()}
    cast(one)
    assert {tensor.dtype for tensor in one.state_dict().values()} == {torch.float32}
    assert all(torch.equal(tensor, before[name]) for name, tensor in one.state_dict().items())
    frame = one.view().frame
    assert torch.allclose(frame.mT @ frame, torch.eye(frame.shape[1]), atol=2e-6)
    assert one.view().read(torch.ones(2, width, dtype=torch.bfloat16)).dtype == torch.float32


@every_kind
def test_maps_widen_and_come_back_and_follow_the_device(kind, parametrization, generator):
    one = made(kind, parametrization, 6, 3, generator, zscore=True)
    assert {tensor.dtype for tensor in one.double().state_dict().values()} == {torch.float64}
    assert {tensor.dtype for tensor in one.half().state_dict().values()} == {torch.float64}
    assert {tensor.dtype for tensor in one.float().state_dict().values()} == {torch.float32}
    assert {tensor.device.type for tensor in one.to("meta").state_dict().values()} == {"meta"}


def test_a_low_precision_move_to_a_device_keeps_float32():
    one = Rotation(4, MapSpec(rank=4).make(4, "x").calibration).to("meta", torch.bfloat16)
    assert {(t.device.type, t.dtype) for t in one.state_dict().values()} == {("meta", torch.float32)}


@learned
@shapes
def test_start_puts_exactly_these_columns_first(kind, parametrization, width, rank, generator):
    one = MapSpec(rank=rank, kind=kind, parametrization=parametrization).make(width, "the site")
    for frame in (random_frame(width, rank, generator), identity_frame(width, rank), -identity_frame(width, rank)):
        one.start(frame)
        columns = one.view().frame
        assert torch.allclose(columns[:, :rank], frame, atol=1e-6)
        assert torch.allclose(columns.mT @ columns, torch.eye(columns.shape[1]), atol=1e-6)
        assert columns.shape[1] == (width if kind == "rotation" else rank)


@learned
@shapes
def test_every_parameter_has_a_finite_gradient_at_every_start(kind, parametrization, width, rank, generator):
    spec = MapSpec(rank=rank, kind=kind, parametrization=parametrization, scale="learned", zscore=True)
    one = spec.make(width, "the site")
    for frame in (identity_frame(width, rank), random_frame(width, rank, generator)):
        one.start(frame)
        one.zero_grad()
        h, goal = (torch.randn(8, width, generator=generator) for _ in range(2))
        view = one.view()
        (view.read(h)[:, :rank] - goal[:, :rank]).square().sum().backward()
        for name, parameter in one.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert width == 1 or parameter.grad.abs().max() > 1e-3, name


def trained(one, goal, steps=120, rate=0.05):
    """The determinants passed on the way towards a goal."""
    optimizer = torch.optim.Adam(one.parameters(), lr=rate)
    signs = set()
    for _ in range(steps):
        optimizer.zero_grad()
        frame = one.view().frame
        loss = (frame - goal).square().sum()
        loss.backward()
        optimizer.step()
        if frame.shape[0] == frame.shape[1]:
            signs.add(torch.linalg.det(frame.detach()).sign().item())
    return signs, loss.item()


@rotations
@pytest.mark.parametrize("kind", ["rotation", "frame"])
@pytest.mark.parametrize("seed", range(4))
def test_training_never_changes_the_sign_of_the_determinant(kind, parametrization, seed):
    generator = torch.Generator().manual_seed(seed)
    one = MapSpec(rank=6, kind=kind, parametrization=parametrization).make(6, "the site")
    begin, goal = random_frame(6, 6, generator), random_frame(6, 6, generator)
    one.start(begin)
    signs, _ = trained(one, goal)
    assert signs == {torch.linalg.det(begin).sign().item()}
    frame = one.view().frame
    assert torch.allclose(frame.mT @ frame, torch.eye(6), atol=5e-6)


def test_a_rotation_reaches_a_far_goal_of_its_own_sign():
    generator = torch.Generator().manual_seed(1)
    one = MapSpec(rank=6).make(6, "the site")
    begin, goal = random_frame(6, 6, generator), random_frame(6, 6, generator)
    goal[:, 0] *= torch.linalg.det(begin).sign() * torch.linalg.det(goal).sign()
    one.start(begin)
    assert trained(one, goal, 300)[1] < 1e-3


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_frames_stay_orthonormal_and_reach_their_goal(rank, generator):
    one = MapSpec(rank=rank).make(6, "the site")
    assert isinstance(one, Frame)
    one.start(random_frame(6, rank, generator))
    _, loss = trained(one, random_frame(6, rank, generator), 300)
    frame = one.view().frame
    assert torch.allclose(frame.mT @ frame, torch.eye(rank), atol=1e-6)
    assert loss < 1e-3


@pytest.mark.parametrize(("width", "rank"), [(5, 3), (4, 4), (3, 1)])
def test_the_gradient_of_the_frame(width, rank, generator):
    weight = torch.randn(width, rank, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(orthonormal, (weight,))


def test_the_frame_of_a_weight_is_its_gram_schmidt(generator):
    weight = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    columns = []
    for column in weight.T:
        rest = column - sum((column @ other) * other for other in columns)
        columns.append(rest / rest.norm())
    assert torch.allclose(orthonormal(weight), torch.stack(columns, 1), atol=1e-12)


@learned
def test_a_scale_is_positive_and_scales_the_coordinates(kind, parametrization, generator):
    one = MapSpec(rank=3, kind=kind, parametrization=parametrization, scale="learned").make(6, "the site")
    h = torch.randn(4, 6, generator=generator)
    before = one.view().read(h)
    with torch.no_grad():
        one.log_scale.fill_(-0.7)
    assert torch.allclose(one.view().read(h), before * torch.tensor(-0.7).exp(), atol=1e-6)


@every_kind
def test_an_activation_of_another_width_is_refused(kind, parametrization):
    view = MapSpec(rank=3, kind=kind, parametrization=parametrization).make(6, "the site").view()
    with pytest.raises(ShapeError, match=r"^an activation has shape \(2, 5\), but \(n, 6\) is needed\.$"):
        view.read(torch.zeros(2, 5))
    with pytest.raises(ShapeError, match=r"has shape \(2, 4, 6\)"):
        view.write(torch.zeros(2, 4, 6), torch.zeros(2, 4, 3))
