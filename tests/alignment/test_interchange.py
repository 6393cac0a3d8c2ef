"""The swap against Grant 2025, eq. 4, written out: explicit d×d matrices, and the explicit formula."""

import pytest
import torch

from mas_hooks.alignment.interchange import interchange
from mas_hooks.alignment.maps import MapSpec
from mas_hooks.alignment.maps.base import complete_basis
from mas_hooks.alignment.maps.frame import orthonormal
from mas_hooks.alignment.maps.init import random_frame
from mas_hooks.core.errors import RankError, ShapeError

WIDTHS = [(6, 6), (5, 8), (8, 5)]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(11)


def made(width, generator, scale=None, **spec):
    """A float64 map with a random frame, a given scale, and calibrated on natural activations."""
    one = MapSpec(**spec, scale="fixed" if scale is None else "learned").make(width, "the site").double()
    one.start(orthonormal(random_frame(width, one.rank if one.rank < width else 3, generator).double()))
    one.calibration.fit(4 + torch.randn(30, width, generator=generator) * torch.arange(1, width + 1))
    if scale is not None:
        with torch.no_grad():
            one.log_scale.copy_(torch.tensor(scale, dtype=torch.float64).log())
    return one


def pair(widths, generator):
    return [3 * torch.randn(7, width, generator=generator).double() for width in widths]


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("scales", [None, (0.4, 2.5)])
@pytest.mark.parametrize("calibration", [{}, {"centre": True}, {"zscore": True}])
@pytest.mark.parametrize("kind", ["frame", "rotation"])
def test_swap_equals_both_written_out_forms(widths, scales, calibration, kind, generator):
    k = 3
    scale_t, scale_s = scales or (None, None)
    map_t = made(widths[0], generator, scale_t, rank=k, kind=kind, **calibration)
    map_s = made(widths[1], generator, scale_s, rank=k, kind=kind, **calibration)
    h_t, h_s = pair(widths, generator)
    found = interchange(h_t, h_s, map_t.view(), map_s.view(), slice(0, k))

    s_t, s_s = scales or (1.0, 1.0)
    means, stds = ([one.calibration.mean for one in (map_t, map_s)], [one.calibration.std for one in (map_t, map_s)])
    x_t, x_s = (h_t - means[0]) / stds[0], (h_s - means[1]) / stds[1]
    u_t, u_s = (complete_basis(one.view().frame[:, :k].detach()).mT for one in (map_t, map_s))
    q_t, q_s = s_t * u_t, s_s * u_s
    mask_t = torch.diag(torch.cat([torch.ones(k), torch.zeros(widths[0] - k)])).double()
    carry = torch.eye(widths[0], widths[1]).double()
    carry[k:] = 0  # D_j, as a matrix of one space into the other
    rows = []
    for t, s in zip(x_t, x_s, strict=True):
        mixed = (torch.eye(widths[0]).double() - mask_t) @ q_t @ t + carry @ q_s @ s
        rows.append(means[0] + stds[0] * (torch.linalg.inv(q_t) @ mixed))
    assert torch.allclose(found, torch.stack(rows), rtol=0, atol=1e-11)

    explicit = h_t + stds[0] * ((s_s / s_t * x_s @ u_s[:k].mT - x_t @ u_t[:k].mT) @ u_t[:k])
    assert torch.allclose(found, explicit, rtol=0, atol=1e-11)
    assert (found - h_t).abs().mean() > 0.1


@pytest.mark.parametrize("calibration", [{}, {"zscore": True}])
@pytest.mark.parametrize("parametrization", ["matrix_exp", "cayley", "householder"])
def test_a_frame_is_a_full_rotation_with_a_mask(calibration, parametrization, generator):
    rotations = [
        made(6, generator, rank=3, kind="rotation", parametrization=parametrization, **calibration) for _ in range(2)
    ]
    frames = [made(6, generator, rank=3, **calibration) for _ in range(2)]
    for frame, rotation in zip(frames, rotations, strict=True):
        with torch.no_grad():
            for parameter in rotation.linear.parameters():
                parameter.add_(0.3 * torch.randn(6, 6, generator=generator).double().tril(-1))
        frame.start(rotation.view().frame[:, :3])
        frame.calibration.load_state_dict(rotation.calibration.state_dict())
    h_t, h_s = pair((6, 6), generator)
    swapped = [interchange(h_t, h_s, *(one.view() for one in maps), slice(0, 3)) for maps in (frames, rotations)]
    assert torch.allclose(*swapped, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["frame", "rotation"])
def test_swapping_one_subspace_leaves_the_others_alone(kind, generator):
    spec = MapSpec(subspaces={"count": 2, "phase": 1}, kind=kind)
    views = [made(5, generator, subspaces={"count": 2, "phase": 1}, kind=kind).view() for _ in range(2)]
    h_t, h_s = pair((5, 5), generator)
    before, given = views[0].read(h_t), views[1].read(h_s)
    whole = {"count": slice(0, 2), "phase": slice(2, 3)} | ({"extra": slice(3, 5)} if kind == "rotation" else {})
    for name, own in whole.items():
        after = views[0].read(interchange(h_t, h_s, *views, spec.block(name, 5)))
        for other, dims in whole.items():
            expected = given if other == name else before
            assert torch.allclose(after[:, dims], expected[:, dims], atol=1e-12), (name, other)
        assert (after[:, own] - before[:, own]).abs().max() > 0.1


def test_swapping_every_dim_of_a_rotation_replaces_the_whole_vector(generator):
    one = made(6, generator, rank=6, kind="frame")
    h_t, h_s = pair((6, 6), generator)
    assert torch.allclose(interchange(h_t, h_s, one.view(), one.view(), slice(0, 6)), h_s, atol=1e-12)


def test_a_swap_of_oneself_is_nothing(generator):
    view = made(6, generator, rank=2, zscore=True).view()
    h, _ = pair((6, 6), generator)
    assert torch.equal(interchange(h, h, view, view, slice(0, 2)), h)


def test_open_ended_blocks(generator):
    views = [made(5, generator, rank=3).view() for _ in range(2)]
    h_t, h_s = pair((5, 5), generator)
    for left, right in [(slice(None), slice(0, 3)), (slice(None, 2), slice(0, 2)), (slice(1, None), slice(1, 3))]:
        assert torch.equal(interchange(h_t, h_s, *views, left), interchange(h_t, h_s, *views, right))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_activations_are_swapped_in_float32(dtype, generator):
    views = [made(5, generator, rank=3).float().view() for _ in range(2)]
    h_t, h_s = (h.to(dtype) for h in pair((5, 5), generator))
    found = interchange(h_t, h_s, *views, slice(0, 3))
    assert found.dtype == torch.float32
    assert torch.equal(found, interchange(h_t.float(), h_s.float(), *views, slice(0, 3)))


def test_gradients_reach_target_source_and_both_maps(generator):
    maps = [made(5, generator, scale, rank=3) for scale in (0.5, 2.0)]
    h_t, h_s = (h.requires_grad_() for h in pair((5, 5), generator))
    interchange(h_t, h_s, *(one.view() for one in maps), slice(0, 3)).square().sum().backward()
    for tensor in (h_t, h_s, *maps[0].parameters(), *maps[1].parameters()):
        assert tensor.grad.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("ranks", "dims", "message"),
    [
        ((3, 3), slice(0, 4), r"^rank 4 does not fit both maps: choose 1 to 3 dims\.$"),
        ((3, 2), slice(0, 3), r"^rank 3 does not fit both maps: choose 1 to 2 dims\.$"),
        ((2, 3), slice(0, 3), r"^rank 3 does not fit both maps: choose 1 to 2 dims\.$"),
        ((3, 2), slice(None), r"^rank 3 does not fit both maps: choose 1 to 2 dims\.$"),
    ],
)
def test_a_block_that_is_not_in_both_maps(ranks, dims, message, generator):
    views = [made(5, generator, rank=rank).view() for rank in ranks]
    with pytest.raises(RankError, match=message):
        interchange(*pair((5, 5), generator), *views, dims)


def test_unequal_numbers_of_rows_are_never_spread(generator):
    view = made(5, generator, rank=3).view()
    h_t, h_s = pair((5, 5), generator)
    with pytest.raises(
        ShapeError, match=r"^the source of a swap has shape \(1, 5\), but one row for each of the 7 targ"
    ):
        interchange(h_t, h_s[:1], view, view, slice(0, 3))
