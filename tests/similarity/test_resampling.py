import numpy as np
import pytest

from mas_hooks.core.errors import SettingError
from mas_hooks.similarity import Measure, cka, rsa
from mas_hooks.similarity.resampling import Sampling, resample


def test_summary_of_several_values():
    values = [0.1, 0.4, 0.2, 0.3]
    measure = Measure.over("rsa", values)
    assert float(measure) == measure.value == pytest.approx(0.25)
    assert measure.spread == pytest.approx(np.sqrt(sum((v - 0.25) ** 2 for v in values) / 3))
    # Percentiles interpolate between order statistics: 0.025 × 3 steps above the lowest of four.
    assert measure.low == pytest.approx(0.1 + 0.075 * 0.1)
    assert measure.high == pytest.approx(0.4 - 0.075 * 0.1)
    assert measure.resamples == 4


def test_a_measure_reads_as_one_line():
    measure = Measure("rsa", 0.78214, 0.7604, 0.8012, 0.0127, 10)
    assert str(measure) == "rsa 0.782 ± 0.013 [0.760, 0.801] (10 resamples)"


def test_summary_of_one_value():
    measure = Measure.over("cka_linear", [0.5])
    assert measure == Measure("cka_linear", 0.5, 0.5, 0.5, 0.0, 1)
    assert str(measure) == "cka_linear 0.500 (1 sample)"


def test_a_sample_takes_the_same_rows_of_both_sides_without_replacement(rng):
    x = rng.permutation(50)[:, None].astype(float)
    seen = []
    values = resample(x, x * 2, lambda a, b: seen.append((a, b)) or 0.0, Sampling(20, 4, 0))
    assert values == [0.0] * 4
    for a, b in seen:
        assert np.array_equal(a * 2, b)
        assert len(np.unique(a)) == 20
    assert len({tuple(a.ravel()) for a, _ in seen}) == 4


def test_every_row_is_drawn_about_equally_often():
    counts = np.bincount(np.concatenate(Sampling(10, 2000, 0).draws(20)), minlength=20)
    assert abs(counts - 1000).max() < 120  # more than five standard deviations


@pytest.mark.parametrize("n", [19, 20])
def test_few_rows_are_measured_once_in_order(rng, n):
    x = rng.normal(size=(n, 3))
    seen = []
    resample(x, x, lambda a, b: seen.append(a) or 0.0, Sampling(20, 4, 0))
    assert len(seen) == 1
    assert np.array_equal(seen[0], x)


@pytest.mark.parametrize("measure", [rsa, cka])
def test_seeds_reproduce_and_differ(rng, measure):
    x, y = rng.normal(size=(60, 4)), rng.normal(size=(60, 5))
    first = measure(x, y, samples=20, resamples=3, seed=1)
    assert first == measure(x, y, samples=20, resamples=3, seed=1)
    assert first.value != measure(x, y, samples=20, resamples=3, seed=2).value
    assert first.resamples == 3
    assert first.low < first.value < first.high
    assert measure(x, y, samples=60).resamples == 1


@pytest.mark.parametrize("measure", [rsa, cka])
def test_samples_leave_the_global_generator_alone(rng, measure):
    x = rng.normal(size=(30, 4))
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    measure(x, x, samples=10)
    assert np.random.random() == expected


@pytest.mark.parametrize("measure", [rsa, cka])
@pytest.mark.parametrize(
    ("setting", "value", "least"),
    [
        ("samples", 0, 3),
        ("samples", 2, 3),
        ("samples", 10.0, 3),
        ("resamples", 0, 1),
        ("resamples", True, 1),
        ("seed", -1, 0),
    ],
)
def test_settings_out_of_range_are_named(rng, measure, setting, value, least):
    x = rng.normal(size=(30, 4))
    with pytest.raises(SettingError, match=f"^{setting} is {value}, but must be a whole number of {least} or more.$"):
        measure(x, x, **{setting: value})
