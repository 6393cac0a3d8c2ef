import numpy as np
import pytest
import torch

from mas_hooks.core.errors import EmptyError, NotFiniteError, ShapeError, UnsupportedError
from mas_hooks.similarity import cka, rdm, rsa

BOTH = pytest.mark.parametrize("measure", [rsa, cka])


@BOTH
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_any_float_dtype_is_computed_in_float64(related, measure, dtype):
    x, y = (torch.tensor(side).to(dtype) for side in related)
    expected = measure(x.double().numpy(), y.double().numpy())
    assert measure(x, y) == expected
    assert measure(x.requires_grad_(), y) == expected


@BOTH
def test_numpy_and_tensor_may_meet_in_any_layout(related, measure):
    x, y = related
    expected = measure(x, y)
    assert measure(torch.tensor(x), y).value == expected.value
    frozen = np.asfortranarray(x)
    frozen.flags.writeable = False
    assert measure(frozen, y).value == pytest.approx(expected.value, abs=1e-12)
    assert measure(x[::-1], y[::-1]).value == pytest.approx(expected.value, abs=1e-12)
    assert measure(torch.tensor(x.T.copy()).T, y).value == pytest.approx(expected.value, abs=1e-12)


@BOTH
def test_inputs_are_not_changed(related, measure):
    x, y = (side.copy() for side in related)
    measure(x, y)
    assert np.array_equal(x, related[0])
    assert np.array_equal(y, related[1])


@BOTH
@pytest.mark.parametrize("shape", [(12,), (3, 4, 5)])
def test_other_than_two_axes(measure, shape):
    with pytest.raises(ShapeError, match=r"^y has shape \(.*\), but \(n, d\), every position flattened to a row"):
        measure(torch.ones(5, 4), torch.ones(shape))


@BOTH
def test_too_few_rows(measure):
    with pytest.raises(ShapeError, match=r"^x has shape \(2, 4\), but \(n, d\) with n of 3 or more is needed.$"):
        measure(np.eye(2, 4), np.eye(2, 4))


@BOTH
def test_unmatched_rows(rng, measure):
    expected = r"^y has shape \(6, 4\), but \(5, d\), one row for each row of x, is needed.$"
    with pytest.raises(ShapeError, match=expected):
        measure(rng.normal(size=(5, 4)), rng.normal(size=(6, 4)))


@BOTH
@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_empty(measure, shape):
    with pytest.raises(EmptyError, match=r"^x is empty; pass at least 3 rows"):
        measure(np.ones(shape), np.ones(shape))


@BOTH
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(rng, measure, bad):
    x, y = rng.normal(size=(9, 4)), rng.normal(size=(9, 4))
    y[3, 1] = y[5, 0] = bad
    with pytest.raises(NotFiniteError, match=r"^y holds 2 values that are NaN or infinite; remove those rows first.$"):
        measure(x, y)


@BOTH
def test_values_without_an_order(rng, measure):
    x = rng.normal(size=(9, 4))
    with pytest.raises(UnsupportedError, match=r"^x of dtype complex128 is not supported; pass real numbers.$"):
        measure(x + 1j, x)


def test_rdm_checks_too():
    with pytest.raises(ShapeError, match=r"^x has shape \(12,\)"):
        rdm(np.ones(12))
