"""The reversible map: a frame at its start, nonlinear afterwards, exact to undo."""

import pytest
import torch

from mas_hooks.alignment.maps import MapSpec
from mas_hooks.alignment.maps.frame import orthonormal
from mas_hooks.alignment.maps.init import random_frame
from mas_hooks.core.errors import UnsupportedError
from mas_hooks.evaluation.null_space import linear_part

SHAPES = [(6, 3), (7, 2), (7, 7), (2, 1), (1, 1)]
shapes = pytest.mark.parametrize(("width", "rank"), SHAPES)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(5)


def made(width, rank, generator, dtype=torch.float32, **settings):
    one = MapSpec(rank=rank, kind="reversible", **settings).make(width, "the site").to(dtype)
    one.start(orthonormal(random_frame(width, rank, generator).to(dtype)))
    return one


def jolt(one, generator, size=0.5):
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator).to(parameter))


@shapes
@pytest.mark.parametrize("calibration", [{}, {"zscore": True, "scale": "learned"}])
def test_at_its_start_it_is_the_frame_map(width, rank, calibration, generator):
    frame = random_frame(width, rank, generator)
    h, z = 2 + torch.randn(20, width, generator=generator), torch.randn(20, rank, generator=generator)
    maps = [MapSpec(rank=rank, kind=kind, **calibration).make(width, "x") for kind in ("reversible", "frame")]
    for one in maps:
        jolt(one, generator)
        one.start(frame)
        one.calibration.fit(h)
        if one.log_scale is not None:
            one.log_scale.data.fill_(0.3)
    curved, straight = (one.view() for one in maps)
    assert torch.allclose(curved.read(h), straight.read(h), atol=1e-5)
    assert torch.allclose(curved.write(h, z), straight.write(h, z), atol=1e-5)


def test_away_from_its_start_it_is_not_linear(generator):
    one = made(6, 2, generator)
    h = torch.randn(3, 6, generator=generator)
    linear_part(one.view().read, h)
    jolt(one, generator)
    with pytest.raises(UnsupportedError, match=r"^the matrix of a map that is not linear is not supported; use resp"):
        linear_part(one.view().read, h)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_every_coordinate_curves_at_depth_two_and_the_first_half_at_one(depth, generator):
    one = made(6, 6, generator, depth=depth)
    jolt(one, generator)
    read, h = one.view().read, torch.randn(50, 6, generator=generator)
    bend = (read(h) + read(-h) - 2 * read(torch.zeros_like(h))).abs().amax(0)
    assert (bend > 0.05).tolist() == [True] * 3 + [depth > 1] * 3


@shapes
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_write_moves_the_shared_coordinates_and_none_of_the_others(width, rank, dtype, generator):
    one = made(width, rank, generator, dtype, zscore=True)
    one.calibration.fit(3 + torch.randn(50, width, generator=generator) * torch.arange(1, width + 1))
    jolt(one, generator)
    h = 3 + torch.randn(9, width, generator=generator).to(dtype)
    z = torch.randn(9, rank, generator=generator).to(dtype)
    view = one.view()
    before, after = (view._couple(view.linear.read(x)) for x in (h, view.write(h, z)))
    tolerance = 5e-5 if dtype == torch.float32 else 1e-11
    assert torch.allclose(after[:, :rank], z, rtol=0, atol=tolerance)
    assert torch.allclose(after[:, rank:], before[:, rank:], rtol=0, atol=tolerance)


def test_nothing_is_written_to_the_bit_at_the_width_of_a_model(generator):
    one = made(256, 16, generator)
    jolt(one, generator, 0.02)
    h = 30 * torch.randn(200, 256, generator=generator)
    view = one.view()
    assert torch.equal(view.write(h, view.read(h)), h)
    z = torch.randn(200, 16, generator=generator)
    assert torch.allclose(view.read(view.write(h, z)), z, rtol=0, atol=1e-3)


@shapes
def test_the_gradient_is_that_of_the_exact_inverse(width, rank, generator):
    """The rounding that a no-op takes off is not differentiated: gradcheck sees a plain smooth function."""
    one = made(width, rank, generator, zscore=True, scale="learned").double()
    one.calibration.fit(torch.randn(50, width, generator=generator).double())
    jolt(one, generator, 0.3)
    h, z = (torch.randn(3, size, generator=generator).double().requires_grad_() for size in (width, rank))
    assert torch.autograd.gradcheck(lambda a, b: one.view().write(a, b), (h, z))
    parameters = [parameter.detach().clone().requires_grad_() for parameter in one.parameters()]
    names = [name for name, _ in one.named_parameters()]

    def written(*values):
        state = dict(zip(names, values, strict=True))
        return torch.func.functional_call(Written(one), {f"one.{name}": value for name, value in state.items()}, (h, z))

    assert torch.autograd.gradcheck(written, tuple(parameters))


class Written(torch.nn.Module):
    def __init__(self, one):
        super().__init__()
        self.one = one

    def forward(self, h, z):
        return self.one.view().write(h, z)


@shapes
def test_every_parameter_learns_once_the_blocks_have_left_zero(width, rank, generator):
    one = made(width, rank, generator, scale="learned", zscore=True)
    optimizer = torch.optim.Adam(one.parameters(), lr=1e-2)
    h, goal = torch.randn(30, width, generator=generator), torch.randn(30, rank, generator=generator)
    for _ in range(2):
        optimizer.zero_grad()
        view = one.view()
        z = view.read(h)
        ((z - goal).square().sum() + (view.write(h, goal) - h.flip(0)).square().sum()).backward()
        optimizer.step()
    for name, parameter in one.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert width == 1 or parameter.grad.abs().max() > 1e-4, name


def test_it_learns_a_curved_variable_that_no_frame_reads(generator):
    """z = a + b²/2 of a plane: the frame's best error is the variance of b²/2."""
    h = torch.randn(400, 2, generator=generator)
    goal = h[:, :1] + h[:, 1:].square() / 2 - 0.5

    def error(kind):
        one = MapSpec(rank=1, kind=kind, **({"hidden": 16} if kind == "reversible" else {})).make(2, "x")
        optimizer = torch.optim.Adam(one.parameters(), lr=2e-2)
        for _ in range(200):
            optimizer.zero_grad()
            loss = (one.view().read(h) - goal).square().mean()
            loss.backward()
            optimizer.step()
        return loss.item()

    assert error("reversible") < 0.02
    assert error("frame") > 0.3


def test_making_one_takes_nothing_from_the_global_generator_and_is_the_same_each_time():
    state = torch.random.get_rng_state()
    first, second = (MapSpec(rank=2, kind="reversible").make(5, "x").state_dict() for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)


@shapes
def test_a_state_dict_brings_back_the_same_map(width, rank, generator):
    one, other = (made(width, rank, generator, zscore=True, scale="learned") for _ in range(2))
    jolt(one, generator)
    one.calibration.fit(torch.randn(20, width, generator=generator))
    other.load_state_dict(one.state_dict())
    h = torch.randn(4, width, generator=generator)
    assert torch.allclose(other.view().read(h), one.view().read(h), rtol=0, atol=1e-6)
    names = list(one.state_dict())
    assert len({tensor.data_ptr() for tensor in one.state_dict().values() if tensor.numel()}) == len(names)


def test_low_precision_reaches_neither_parameters_nor_results(generator):
    one = made(6, 3, generator, zscore=True)
    jolt(one, generator)
    before = {name: tensor.clone() for name, tensor in one.state_dict().items()}
    one.to(torch.bfloat16)
    assert {tensor.dtype for tensor in one.state_dict().values()} == {torch.float32}
    assert all(torch.equal(tensor, before[name]) for name, tensor in one.state_dict().items())
    h, z = torch.randn(4, 6, generator=generator).bfloat16(), torch.randn(4, 3, generator=generator).bfloat16()
    expected = one.view().write(h, z)
    with torch.autocast("cpu", torch.bfloat16):
        found = one.view().write(h, z)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_two_reversible_maps_swap_their_coordinates(generator):
    from mas_hooks.alignment.interchange import interchange

    views = []
    for width in (7, 5):
        one = made(width, 3, generator)
        jolt(one, generator)
        views.append(one.view())
    h_t, h_s = (torch.randn(8, width, generator=generator) for width in (7, 5))
    swapped = interchange(h_t, h_s, *views, slice(0, 2))
    assert torch.allclose(views[0].read(swapped)[:, :2], views[1].read(h_s)[:, :2], atol=1e-4)
    assert torch.allclose(views[0].read(swapped)[:, 2:], views[0].read(h_t)[:, 2:], atol=1e-4)


def test_saved_keys_stay_those_of_the_first_version(generator):
    one, other = (MapSpec(rank=2, kind="reversible", depth=1).make(4, "the site") for _ in range(2))
    keys = {"original", "0.base"}
    assert {key for key in one.state_dict() if "rotation" in key} == {
        f"rotation.own.parametrizations.weight.{key}" for key in keys
    }
    one.start(random_frame(4, 2, generator))
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.rotation.matrix(), one.rotation.matrix())
