import math

import numpy as np
import pytest

from mas_hooks.core.errors import UnknownNameError, UnsupportedError
from mas_hooks.similarity import cka, rsa
from mas_hooks.similarity.hsic import biased_hsic, double_centre
from mas_hooks.similarity.kernel import centre_rows, cosine_kernel, zscore_rows

KERNELS = pytest.mark.parametrize("kernel", ["cosine", "linear"])


def slow_kernel(x, kernel):
    """Each entry on its own; z-scores column by column, constant units left at zero."""
    n, width = x.shape
    z = np.empty_like(x)
    for unit in range(width):
        mean = math.fsum(x[:, unit]) / n
        deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in x[:, unit]) / n)
        z[:, unit] = (x[:, unit] - mean) / (deviation if kernel == "cosine" and deviation else 1)
    out = np.empty((n, n))
    for i, a in enumerate(z):
        for j, b in enumerate(z):
            lengths = math.sqrt(sum(a * a)) * math.sqrt(sum(b * b)) if kernel == "cosine" else 1.0
            out[i, j] = sum(a * b) / lengths if lengths else 0.0
    return out


def slow_hsic(k, other):
    """Grant 2025, eq. 13 and 14, as printed."""
    n = len(k)
    h = np.eye(n) - np.ones((n, n)) / n
    return np.trace(k @ h @ other @ h) / (n - 1) ** 2


def slow_cka(x, y, kernel):
    a, b = slow_kernel(x, kernel), slow_kernel(y, kernel)
    return slow_hsic(a, b) / math.sqrt(slow_hsic(a, a) * slow_hsic(b, b))


def test_hsic_equals_the_explicit_form(related):
    a, b = (side @ side.T for side in related)
    h = np.eye(40) - 1 / 40
    assert np.allclose(double_centre(a), h @ a @ h, rtol=0, atol=1e-10)
    assert biased_hsic(a, b) == pytest.approx(slow_hsic(a, b), abs=1e-10)


@KERNELS
def test_cka_equals_the_slow_form(related, kernel):
    x, y = related
    x, y = x * np.array([1, 5, 1, 1, 0.1, 2]) + 2, y - 1
    measure = cka(x, y, kernel=kernel)
    assert (measure.name, measure.resamples) == (f"cka_{kernel}_biased", 1)
    assert 0.1 < measure.value < 0.9
    assert measure.value == pytest.approx(slow_cka(x, y, kernel), abs=1e-10)


@KERNELS
def test_cka_is_the_mean_over_samples(rng, kernel):
    x, y = rng.normal(size=(50, 4)), rng.normal(size=(50, 5))
    generator = np.random.default_rng(3)
    draws = [generator.choice(50, 20, replace=False) for _ in range(4)]
    # z-scores are taken over each sample, not once over all rows
    values = [slow_cka(x[rows], y[rows], kernel) for rows in draws]
    measure = cka(x, y, kernel, samples=20, resamples=4, seed=3)
    assert measure.value == pytest.approx(np.mean(values), abs=1e-10)
    assert measure.spread == pytest.approx(np.std(values, ddof=1), abs=1e-10)


def test_the_cosine_kernel_is_the_default(related):
    assert cka(*related) == cka(*related, kernel="cosine")
    assert cka(*related).value != cka(*related, kernel="linear").value


@KERNELS
def test_self_similarity_and_symmetry(related, kernel):
    x, y = related
    assert cka(x, x, kernel).value == pytest.approx(1, abs=1e-12)
    assert cka(x, y, kernel).value == pytest.approx(cka(y, x, kernel).value, abs=1e-12)


@KERNELS
def test_shifts_and_one_scale_for_all_change_nothing(related, rng, kernel):
    x, y = related
    expected = cka(x, y, kernel).value
    assert cka(x + rng.normal(size=6), y, kernel).value == pytest.approx(expected, abs=1e-10)
    for scale in (1e-300, -1e3, 1e300):
        assert cka(x * scale, y, kernel).value == pytest.approx(expected, abs=1e-10)


@KERNELS
def test_very_large_and_very_small_units_stay_finite(related, kernel):
    x, y = related
    expected = cka(x, y, kernel).value
    assert cka((x + 5) * 1e307, y, kernel).value == pytest.approx(expected, abs=1e-10)
    beside_a_constant = np.column_stack([x * 1e-100, np.ones(40)])
    assert cka(beside_a_constant, y, kernel).value == pytest.approx(expected, abs=1e-10)


def test_cosine_sees_units_of_every_size(related):
    x, y = related
    scales = np.array([1, 1e-200, 1e-100, 1, 1e3, 1])
    assert cka(x * scales, y).value == pytest.approx(cka(x, y).value, abs=1e-10)


def test_linear_sees_no_rotation_but_scales_per_unit(related, rotation):
    x, y = related
    assert cka(x @ rotation(6), y, "linear").value == pytest.approx(cka(x, y, "linear").value, abs=1e-10)
    assert cka(x, x * np.array([9, 1, 1, 1, 1, 1]), "linear").value < 0.95


def test_cosine_sees_no_scale_per_unit_but_rotations(related, rotation, rng):
    x, y = related
    scaled = (x * rng.uniform(-9, 9, size=6))[:, ::-1]
    assert cka(scaled, y).value == pytest.approx(cka(x, y).value, abs=1e-10)
    # Units of very unequal size: rotated, the large one is in all of them and z-scores no longer undo it.
    assert cka(x, (x * np.array([9, 1, 1, 1, 1, 1])) @ rotation(6)).value < 0.95


@KERNELS
def test_other_rows_are_not_alike(rng, kernel):
    # The same rows in another order: a measure that ignores which row belongs to which would say 1.
    x = rng.normal(size=(300, 4))
    assert cka(x, x[rng.permutation(300)], kernel).value < 0.05


@KERNELS
def test_few_rows_of_wide_activations_look_alike_by_bias(rng, kernel):
    x, y = rng.normal(size=(20, 400)), rng.normal(size=(20, 400))
    assert cka(x, y, kernel).value > 0.9
    assert abs(rsa(x, y).value) < 0.3


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9 / 3, -1e-300])
@KERNELS
def test_a_constant_unit_changes_nothing(related, kernel, constant):
    x, y = related
    with_constant = np.column_stack([x, np.full(40, constant)])
    assert cka(with_constant, y, kernel).value == pytest.approx(cka(x, y, kernel).value, abs=1e-10)


def test_a_constant_unit_is_left_at_zero(related):
    z = zscore_rows(np.column_stack([related[0], np.full(40, 0.1)]))
    assert np.array_equal(z[:, -1], np.zeros(40))
    assert np.allclose(z[:, :-1].std(axis=0), 1)
    assert np.allclose(z.mean(axis=0), 0)


def test_a_row_at_the_mean_has_no_direction(rng):
    x = rng.normal(size=(5, 3))
    x = np.concatenate([0.1 + x, 0.1 - x, np.full((1, 3), 0.1)])
    kernel = cosine_kernel(zscore_rows(x))
    assert np.array_equal(kernel[-1], np.zeros(11))
    assert np.array_equal(centre_rows(x)[-1], np.zeros(3))


@pytest.mark.parametrize("side", ["x", "y"])
@KERNELS
def test_all_units_constant(rng, kernel, side):
    sides = {"x": rng.normal(size=(9, 4)), "y": rng.normal(size=(9, 4))}
    sides[side] = np.tile([0.1, 7.3, 0.0], (9, 1))
    with pytest.raises(
        UnsupportedError, match=rf"^cka of {side}, whose every unit is constant over the sample, is not"
    ):
        cka(**sides, kernel=kernel)


def test_an_unknown_kernel_is_answered_with_the_nearest(related):
    with pytest.raises(
        UnknownNameError, match=r"^cka has no kernel 'cosin'. Did you mean 'cosine'\? There is: cosine, l"
    ):
        cka(*related, kernel="cosin")
