import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from mas_hooks.core.errors import UnsupportedError
from mas_hooks.similarity import rdm, rsa
from mas_hooks.similarity.rsa import _centred_ranks


def slow_rdm(x):
    """1 − cosine, one pair at a time."""
    out = np.empty((len(x), len(x)))
    for i, a in enumerate(x.tolist()):
        for j, b in enumerate(x.tolist()):
            lengths = math.sqrt(math.fsum(p * p for p in a)) * math.sqrt(math.fsum(q * q for q in b))
            out[i, j] = 1 - (math.fsum(p * q for p, q in zip(a, b, strict=True)) / lengths if lengths else 0.0)
    return out


def slow_rsa(x, y):
    a, b = slow_rdm(x), slow_rdm(y)
    pairs = [(i, j) for i in range(len(x)) for j in range(i)]
    return spearmanr([a[p] for p in pairs], [b[p] for p in pairs]).statistic


def test_rdm_equals_a_double_loop(related):
    for side in related:
        assert np.allclose(rdm(side), slow_rdm(side), rtol=0, atol=1e-10)


def test_rdm_is_symmetric_with_zero_diagonal(related):
    distances = rdm(torch.tensor(related[0], dtype=torch.float32))
    assert distances.dtype == np.float64
    assert np.array_equal(distances, distances.T)
    assert abs(np.diag(distances)).max() < 1e-14


def test_rdm_survives_the_largest_and_smallest_numbers(related):
    for scale in (1e-300, 1e300):
        assert np.allclose(rdm(related[0] * scale), slow_rdm(related[0]), rtol=0, atol=1e-10)


def test_a_zero_row_is_orthogonal_to_all(related):
    x, y = related
    x[4] = 0
    assert np.array_equal(rdm(x)[4], np.ones(40))
    assert np.allclose(rdm(x), slow_rdm(x), rtol=0, atol=1e-10)
    assert rsa(x, y).value == pytest.approx(slow_rsa(x, y), abs=1e-10)


@pytest.mark.parametrize("levels", [1, 2, 7, 10**9])
def test_tied_ranks_share_their_average_and_are_centred(rng, levels):
    values = rng.integers(0, levels, 500) / 8
    slow = np.array([(values < value).sum() + ((values == value).sum() + 1) / 2 for value in values])
    assert np.array_equal(_centred_ranks(values), slow - slow.mean())


def test_rsa_equals_scipy(related):
    measure = rsa(*related)
    assert (measure.name, measure.resamples) == ("rsa_cosine_spearman", 1)
    assert 0.1 < measure.value < 0.9
    assert measure.value == pytest.approx(slow_rsa(*related), abs=1e-10)


def test_rsa_equals_scipy_where_distances_tie(rng):
    # Two signs in two places: products and lengths are exact, so the loop's ties are exact as well.
    x, y = (rng.choice([-1.0, 1.0], size=(30, 4)) for _ in range(2))
    assert rsa(x, y).value == pytest.approx(slow_rsa(x, y), abs=1e-10)


def test_rsa_is_the_mean_over_samples(rng):
    x, y = rng.normal(size=(50, 4)), rng.normal(size=(50, 5))
    generator = np.random.default_rng(3)
    draws = [generator.choice(50, 20, replace=False) for _ in range(4)]
    values = [slow_rsa(x[rows], y[rows]) for rows in draws]
    measure = rsa(x, y, samples=20, resamples=4, seed=3)
    assert measure.value == pytest.approx(np.mean(values), abs=1e-10)
    assert measure.spread == pytest.approx(np.std(values, ddof=1), abs=1e-10)


def test_self_similarity_and_symmetry(related):
    x, y = related
    assert rsa(x, x).value == pytest.approx(1, abs=1e-12)
    assert rsa(x, y).value == pytest.approx(rsa(y, x).value, abs=1e-12)


def test_opposite_order_is_minus_one():
    # Three directions: the pair closest on the first side lies farthest apart on the second, and so on.
    x, y = np.array([[1, 0], [1, 0.1], [0, 1]]), np.array([[1, 0], [-1, 0.1], [1, 1]])
    assert rsa(x, y).value == pytest.approx(-1, abs=1e-12)


def test_invariances(related, rotation, rng):
    x, y = related
    expected = rsa(x, y).value
    assert rsa(x @ rotation(6), y).value == pytest.approx(expected, abs=1e-10)
    assert rsa(x * 1e3, y).value == pytest.approx(expected, abs=1e-10)
    assert rsa(x * rng.uniform(0.1, 10, size=(40, 1)), y).value == pytest.approx(expected, abs=1e-10)
    assert rsa(np.pad(x, ((0, 0), (0, 5))), y).value == pytest.approx(expected, abs=1e-10)


def test_what_it_is_not_invariant_to(related, rng):
    x, _ = related
    assert rsa(x, x + 3).value < 0.95
    assert rsa(x, x * np.array([9, 1, 1, 1, 1, 1])).value < 0.95
    assert rsa(x, x[rng.permutation(40)]).value < 0.5


def test_repeated_rows_tie_after_a_rotation(rng, rotation):
    # Equal tokens give equal rows; without ties, rounding alone takes this to 0.94.
    x = rng.normal(size=(3, 48))[rng.integers(0, 3, 300)]
    assert rsa(x, x @ rotation(48)).value == pytest.approx(1, abs=1e-12)


def test_independent_rows_are_near_zero(rng):
    x, y = rng.normal(size=(1200, 48)), rng.normal(size=(1200, 20))
    measure = rsa(x, y, resamples=2)
    assert abs(measure.value) < 0.01
    assert measure.resamples == 2


@pytest.mark.parametrize("side", ["x", "y"])
@pytest.mark.parametrize("rows", [np.ones((5, 3)), np.zeros((5, 3)), np.eye(5), np.arange(1, 6)[:, None]])
def test_equal_distances_have_no_order(rng, rotation, side, rows):
    sides = {"x": rng.normal(size=(5, 4)), "y": rng.normal(size=(5, 4))}
    sides[side] = rows @ rotation(rows.shape[1])  # rounding must not pass for an order
    with pytest.raises(UnsupportedError, match=rf"^rsa of {side}, all of whose rows lie equally far apart, is not"):
        rsa(**sides)
