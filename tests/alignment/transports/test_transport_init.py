import numpy as np
import pytest
import torch

from mas_hooks.alignment.transports import TransportSpec
from mas_hooks.alignment.transports.init import identity_matrix, least_squares, random_matrix, random_orthonormal
from mas_hooks.core.errors import EmptyError, NotFiniteError, ShapeError

WIDTHS = [(6, 6), (7, 4), (4, 7)]
widths = pytest.mark.parametrize(("width_s", "width_t"), WIDTHS)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(2)


def began(spec, h_s, h_t):
    """A transport calibrated on the rows and started from them."""
    spec = TransportSpec(**spec)
    one = spec.make(h_s.shape[1], h_t.shape[1], "x")
    one.source.fit(h_s)
    one.target.fit(h_t)
    spec.fit_start(one, h_s, h_t)
    return one


def rows(width_s, width_t, generator, m=60, shift=0.0):
    matrix = torch.randn(width_t, width_s, generator=generator)
    h_s = 2 + torch.randn(m, width_s, generator=generator)
    return matrix, h_s, h_s @ matrix.T + shift


@widths
def test_least_squares_recovers_a_true_matrix(width_s, width_t, generator):
    matrix, h_s, h_t = rows(width_s, width_t, generator)
    one = began({"init": "least_squares"}, h_s, h_t)
    assert torch.allclose(one.weight, matrix, rtol=0, atol=1e-5)
    assert torch.allclose(one(h_s), h_t, rtol=0, atol=1e-4)


@widths
@pytest.mark.parametrize("calibration", [{"centre": True}, {"zscore": True}], ids=str)
def test_with_calibration_it_recovers_a_true_affine_map_too(width_s, width_t, calibration, generator):
    _, h_s, h_t = rows(width_s, width_t, generator, shift=5)
    one = began({"init": "least_squares"} | calibration, h_s, h_t)
    assert torch.allclose(one(h_s), h_t, rtol=0, atol=1e-4)
    assert not torch.allclose(began({"init": "least_squares"}, h_s[:, :1], h_t)(h_s[:, :1]), h_t, atol=0.5)


@widths
def test_affine_least_squares_recovers_matrix_and_shift(width_s, width_t, generator):
    matrix, h_s, h_t = rows(width_s, width_t, generator, shift=5)
    one = began({"kind": "affine", "init": "least_squares"}, h_s, h_t)
    assert torch.allclose(one.weight, matrix, rtol=0, atol=1e-5)
    assert torch.allclose(one.bias, torch.full((width_t,), 5.0), rtol=0, atol=3e-5)


def test_least_squares_behind_a_layer_norm(generator):
    truth = TransportSpec(kind="affine", layer_norm="before").make(6, 4, "x")
    truth.start(torch.randn(4, 6, generator=generator), torch.randn(4, generator=generator))
    h_s = torch.randn(60, 6, generator=generator)
    one = began({"kind": "affine", "layer_norm": "before", "init": "least_squares"}, h_s, truth(h_s).detach())
    assert torch.allclose(one(h_s), truth(h_s), atol=1e-4)


def test_noisy_least_squares_is_that_of_numpy(generator):
    _, h_s, h_t = rows(6, 4, generator)
    h_t = h_t + torch.randn(h_t.shape, generator=generator)
    expected, *_ = np.linalg.lstsq(h_s.double().numpy(), h_t.double().numpy(), rcond=None)
    assert np.allclose(least_squares(h_s, h_t).numpy(), expected.T, atol=1e-5)


def test_fewer_rows_than_dims_give_the_shortest_fit(generator):
    _, h_s, h_t = rows(6, 4, generator, m=3)
    weight = least_squares(h_s.double(), h_t.double())
    assert torch.allclose(h_s.double() @ weight.T, h_t.double(), atol=1e-9)
    expected, *_ = np.linalg.lstsq(h_s.double().numpy(), h_t.double().numpy(), rcond=None)
    assert np.allclose(weight.numpy(), expected.T, atol=1e-9)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_low_rank_least_squares_beats_the_truncated_matrix_and_gradient_descent_cannot_beat_it(rank, generator):
    h_s = torch.randn(80, 6, generator=generator).double() * torch.tensor([5.0, 3, 1, 1, 0.3, 0.1]).double()
    h_t = h_s @ torch.randn(6, 4, generator=generator).double() + torch.randn(80, 4, generator=generator).double()

    def error(weight):
        return (h_s @ weight.T - h_t).square().sum().item()

    full, best = least_squares(h_s, h_t), least_squares(h_s, h_t, rank)
    u, sizes, vh = torch.linalg.svd(full)
    assert torch.linalg.matrix_rank(best, rtol=1e-9) == rank
    assert error(best) < error(u[:, :rank] * sizes[:rank] @ vh[:rank])
    parts = [part.clone().requires_grad_() for part in (u[:, :rank] * sizes[:rank], vh[:rank])]
    optimizer = torch.optim.Adam(parts, lr=2e-2)
    for _ in range(800):
        optimizer.zero_grad()
        loss = (h_s @ (parts[0] @ parts[1]).T - h_t).square().sum()
        loss.backward()
        optimizer.step()
    assert error(best) <= loss.item() + 1e-6
    assert loss.item() < 1.05 * error(best)
    one = began({"rank": rank, "init": "least_squares"}, h_s.float(), h_t.float())
    assert torch.allclose((one.second @ one.first).double(), best, atol=1e-4)


@pytest.mark.parametrize("parametrization", ["matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("calibration", [{}, {"centre": True}], ids=str)
@pytest.mark.parametrize(("width_s", "width_t"), [(6, 6), (4, 7)])
def test_procrustes_recovers_a_true_rotation(parametrization, calibration, width_s, width_t, generator):
    truth = random_orthonormal(width_t, width_s, generator)
    h_s = 2 + torch.randn(60, width_s, generator=generator)
    spec = {"kind": "orthogonal", "parametrization": parametrization, "init": "procrustes"} | calibration
    one = began(spec, h_s, h_s @ truth.T)
    assert torch.allclose(one.view().steps[0], truth, rtol=0, atol=1e-5)


def test_procrustes_onto_fewer_units_is_that_of_the_way_back(generator):
    truth = random_orthonormal(4, 7, generator)
    h_t = torch.randn(60, 4, generator=generator)
    one = began({"kind": "orthogonal", "init": "procrustes"}, h_t @ truth, h_t)
    assert torch.allclose(one.view().steps[0], truth, rtol=0, atol=1e-5)


def test_noisy_procrustes_is_that_of_scipy(generator):
    from scipy.linalg import orthogonal_procrustes

    h_s, h_t = (torch.randn(30, 5, generator=generator) for _ in range(2))
    expected, _ = orthogonal_procrustes(h_s.double().numpy(), h_t.double().numpy())
    one = began({"kind": "orthogonal", "init": "procrustes"}, h_s, h_t)
    assert np.allclose(one.view().steps[0].detach().numpy(), expected.T, atol=1e-5)


def test_random_matrices_keep_the_length_of_a_row_on_average(generator):
    h = torch.randn(500, 60, generator=generator)
    for rank in (None, 20):
        out = h @ random_matrix(60, 60, rank, generator).T
        assert 0.8 < out.norm() / h.norm() < 1.25
    wide, tall = random_orthonormal(4, 7, generator), random_orthonormal(7, 4, generator)
    assert torch.allclose(wide @ wide.T, torch.eye(4), atol=1e-6)
    assert torch.allclose(tall.T @ tall, torch.eye(4), atol=1e-6)


@pytest.mark.parametrize("spec", [{}, {"rank": 2}, {"kind": "orthogonal"}, {"kind": "affine"}], ids=str)
def test_random_starts_are_those_of_their_generator(spec):
    spec = TransportSpec(**spec)
    state = torch.random.get_rng_state()
    first, again, other = (spec.draw_start(6, 4, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.1)
    assert first.shape == (4, 6)
    spec.make(6, 4, "x").start(first)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_identity_start_passes_the_first_units_of_its_rank(generator):
    h = torch.randn(3, 5, generator=generator)
    for rank in (None, 2):
        spec = TransportSpec(rank=rank, init="identity")
        one = spec.make(5, 5, "x")
        one.start(spec.draw_start(5, 5, generator))
        kept = 5 if rank is None else rank
        assert torch.allclose(one(h), torch.cat([h[:, :kept], torch.zeros(3, 5 - kept)], dim=1), atol=1e-6)

    assert torch.equal(identity_matrix(3, 2), torch.diag(torch.tensor([1.0, 1, 0])))


def test_a_start_without_need_of_rows_leaves_them(generator):
    spec = TransportSpec(init="random")
    one = spec.make(4, 4, "x")
    before = one.weight.clone()
    spec.fit_start(one, torch.randn(9, 4, generator=generator), torch.randn(9, 4, generator=generator))
    assert torch.equal(one.weight, before)


@pytest.mark.parametrize("spec", [{"init": "least_squares"}, {"kind": "affine", "init": "least_squares"},
                                  {"kind": "orthogonal", "init": "procrustes"}], ids=str)  # fmt: skip
def test_rows_that_do_not_do(spec):
    good = torch.randn(5, 4)
    with pytest.raises(
        ShapeError, match=r"^the target's rows of a start has shape \(3, 4\), but one row for each of the source's 5"
    ):
        began(spec, good, good[:3])
    with pytest.raises(EmptyError, match=r"^the set of matched rows is empty; use init='random' for this transport\.$"):
        began(spec, good[:0], good[:0])
    bad = good.clone()
    bad[1, 2] = float("nan")
    with pytest.raises(NotFiniteError, match=r"^the source's rows of a start holds 1 value that is NaN"):
        began(spec, bad, good)
    with pytest.raises(NotFiniteError, match=r"^the target's rows of a start holds 1 value that is NaN"):
        began(spec, good, bad)
