"""What every transport does to rows: by definition and backwards."""

import numpy as np
import pytest
import torch
from transport_cases import calibrations, made, parametrizations, widths

from mas_hooks.alignment.interchange import interchange
from mas_hooks.alignment.maps import MapSpec
from mas_hooks.alignment.transports import TransportSpec
from mas_hooks.alignment.transports.linear import pseudo_inverse
from mas_hooks.core.errors import UnsupportedError


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(11)


def by_hand(one, inner, h):
    """The same function in numpy and float64: standardise, inner, restore."""
    mean_s, std_s, mean_t, std_t = (
        tensor.double().numpy() for side in (one.source, one.target) for tensor in (side.mean, side.std)
    )
    return inner((h.double().numpy() - mean_s) / std_s) * std_t + mean_t


def array(tensor):
    return tensor.detach().double().numpy()


@widths
@calibrations
def test_a_linear_transport_is_its_matrix(width_s, width_t, calibration, generator):
    one = made(calibration, width_s, width_t, generator)
    h = torch.randn(9, width_s, generator=generator)
    expected = by_hand(one, lambda x: x @ array(one.weight).T, h)
    assert np.allclose(array(one(h)), expected, atol=1e-4)
    assert one.weight.shape == (width_t, width_s)
    if not calibration:
        assert torch.equal(one(h), h @ one.weight.T)


@widths
@calibrations
def test_a_low_rank_transport_is_the_product_of_its_factors(width_s, width_t, calibration, generator):
    one = made({"rank": 1} | calibration, width_s, width_t, generator)
    h = torch.randn(9, width_s, generator=generator)
    expected = by_hand(one, lambda x: x @ (array(one.second) @ array(one.first)).T, h)
    assert np.allclose(array(one(h)), expected, atol=1e-4)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_rank_r_has_rank_r(rank, generator):
    one = made({"rank": rank}, 7, 5, generator)
    out = one(torch.randn(30, 7, generator=generator)).double()
    assert torch.linalg.matrix_rank(out, rtol=1e-5) == rank


@pytest.mark.parametrize(("width_s", "width_t"), [(6, 6), (7, 4), (4, 7)])
def test_full_rank_equals_the_free_linear(width_s, width_t, generator):
    specs = ({"rank": min(width_s, width_t)}, {})
    full, free = (TransportSpec(**spec).make(width_s, width_t, "x") for spec in specs)
    matrix = torch.randn(width_t, width_s, generator=generator)
    for one in (full, free):
        one.start(matrix)
    h = torch.randn(9, width_s, generator=generator)
    assert torch.allclose(full(h), free(h), atol=1e-5)
    back = torch.randn(9, width_t, generator=generator)
    assert torch.allclose(full.backward(back), free.backward(back), atol=1e-3)


def test_a_low_rank_start_is_the_best_of_that_rank(generator):
    matrix = torch.randn(5, 7, generator=generator)
    one = TransportSpec(rank=2).make(7, 5, "x")
    one.start(matrix)
    u, sizes, vh = np.linalg.svd(matrix.numpy())
    best = u[:, :2] * sizes[:2] @ vh[:2]
    assert np.allclose(array(one.second @ one.first), best, atol=1e-5)
    assert torch.allclose(one.first.norm(), one.second.norm(), atol=1e-5)


@widths
@parametrizations
@calibrations
def test_an_orthogonal_transport(width_s, width_t, parametrization, calibration, generator):
    one = made({"kind": "orthogonal", "parametrization": parametrization} | calibration, width_s, width_t, generator)
    weight = one.view().steps[0]
    least = min(width_s, width_t)
    gram = weight.T @ weight if width_t >= width_s else weight @ weight.T
    assert torch.allclose(gram, torch.eye(least), atol=3e-6)
    h = torch.randn(9, width_s, generator=generator)
    assert np.allclose(array(one(h)), by_hand(one, lambda x: x @ array(weight).T, h), atol=1e-4)
    back = torch.randn(9, width_t, generator=generator)
    if width_t >= width_s:
        assert torch.allclose(one.backward(one(h)), h, atol=1e-4)
    else:
        assert torch.allclose(one(one.backward(back)), back, atol=1e-4)
        assert not torch.allclose(one.backward(one(h)), h, atol=0.1)


@parametrizations
@widths
def test_an_orthogonal_transport_starts_where_it_is_told(parametrization, width_s, width_t, generator):
    spec = TransportSpec(kind="orthogonal", parametrization=parametrization)
    one = spec.make(width_s, width_t, "x")
    assert torch.allclose(one.view().steps[0], torch.eye(width_t, width_s), atol=1e-6)
    matrix = spec.draw_start(width_s, width_t, generator)
    one.start(matrix)
    assert torch.allclose(one.view().steps[0], matrix, atol=2e-6)
    one.start(3 * matrix)  # not orthonormal: the nearest one that is
    assert torch.allclose(one.view().steps[0], matrix, atol=2e-6)


@pytest.mark.parametrize(("width_s", "width_t"), [(7, 4), (4, 7), (6, 6)])
@pytest.mark.parametrize("spec", [{}, {"rank": 2}, {"rank": 4}, {"kind": "affine"}], ids=str)
def test_backwards_is_the_pseudo_inverse(spec, width_s, width_t, generator):
    one = made(spec, width_s, width_t, generator)
    h = torch.randn(9, width_t, generator=generator)
    matrix = array(one.second) @ array(one.first) if "rank" in spec else array(one.weight)
    shift = array(one.bias) if spec.get("kind") == "affine" else 0
    expected = (array(h) - shift) @ np.linalg.pinv(matrix, rcond=1e-5).T
    assert np.allclose(array(one.backward(h)), expected, atol=1e-4)


@calibrations
def test_backwards_undoes_forwards_through_the_calibration(calibration, generator):
    for spec in ({}, {"kind": "affine"}, {"kind": "orthogonal"}):
        one = made(spec | calibration, 4, 7, generator)
        h = 3 + torch.randn(9, 4, generator=generator)
        assert torch.allclose(one.backward(one(h)), h, atol=1e-3)


def test_the_four_conditions_of_penrose_hold_for_a_product_that_lost_rank(generator):
    first, second = torch.randn(3, 6, generator=generator), torch.randn(5, 3, generator=generator)
    first[2] = first[0] + first[1]
    product, inverse = (second @ first).double(), pseudo_inverse((first, second)).double()
    assert torch.linalg.matrix_rank(product, rtol=1e-5) == 2
    assert torch.allclose(product @ inverse @ product, product, atol=1e-4)
    assert torch.allclose(inverse @ product @ inverse, inverse, atol=1e-4)
    for projection in (product @ inverse, inverse @ product):
        assert torch.allclose(projection, projection.T, atol=1e-4)


@pytest.mark.parametrize("place", ["none", "before", "after"])
@widths
@calibrations
def test_an_affine_transport_against_a_hand_written_one(place, width_s, width_t, calibration, generator):
    one = made({"kind": "affine", "layer_norm": place} | calibration, width_s, width_t, generator)

    def norm(x):
        spread = np.sqrt(x.var(1, keepdims=True) + 1e-5)
        return (x - x.mean(1, keepdims=True)) / spread * array(one.norm.weight) + array(one.norm.bias)

    def inner(x):
        y = (norm(x) if place == "before" else x) @ array(one.weight).T + array(one.bias)
        return norm(y) if place == "after" else y

    h = torch.randn(9, width_s, generator=generator)
    assert np.allclose(array(one(h)), by_hand(one, inner, h), atol=2e-3 if place == "after" else 2e-4)
    assert one.bias.abs().max() > 0.01


def test_a_layer_norm_has_no_way_back(generator):
    for place in ("before", "after"):
        one = made({"kind": "affine", "layer_norm": place}, 6, 6, generator)
        with pytest.raises(UnsupportedError) as caught:
            one.backward(torch.zeros(2, 6))
        assert str(caught.value) == (
            "a LayerNorm backwards, which forgets the length of what it reads, is not supported; use a linear, "
            "orthogonal or affine transport without one for the way back."
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_identity_passes_every_bit(dtype, generator):
    one = TransportSpec(kind="identity").make(6, 6, "x")
    assert not list(one.parameters())
    h = torch.randn(9, 6, generator=generator).to(dtype)
    for passed in (one(h), one.backward(h)):
        assert passed.dtype == torch.float32
        assert torch.equal(passed, h.float())


@calibrations
def test_mas_with_every_dim_is_orthogonal_stitching(calibration, generator):
    """Grant 2025, eq. 4 with k = d: the swap 0→1 is the transport with W = U_tᵀ U_s, whatever the target was."""
    maps = []
    for seed in range(2):
        one = MapSpec(rank=6, **calibration).make(6, "x").double()
        one.start(torch.linalg.qr(torch.randn(6, 6, generator=generator).double())[0])
        one.calibration.fit(seed + (2 + seed) * torch.randn(50, 6, generator=generator).double())
        maps.append(one)
    given, own = (torch.randn(9, 6, generator=generator).double() for _ in range(2))
    stitch = TransportSpec(kind="orthogonal", **calibration).make(6, 6, "x").double()
    source, target = maps
    stitch.start(target.view().frame @ source.view().frame.mT)
    stitch.source.load_state_dict(source.calibration.state_dict())
    stitch.target.load_state_dict(target.calibration.state_dict())
    swapped = interchange(own, given, target.view(), source.view(), slice(0, 6))
    assert torch.allclose(stitch(given), swapped, rtol=0, atol=1e-11)
