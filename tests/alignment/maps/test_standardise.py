import pytest
import torch

from mas_hooks.alignment.maps.standardise import Calibration


@pytest.fixture
def h():
    return torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 1.0]) + 2


def test_nothing_is_taken_unless_asked(h):
    plain = Calibration(3)
    plain.fit(h)
    assert torch.equal(plain.mean, torch.zeros(3))
    assert torch.equal(plain.std, torch.ones(3))


def test_centring_takes_the_mean_alone(h):
    centring = Calibration(3, centre=True)
    centring.fit(h)
    assert torch.allclose(centring.mean, h.mean(0))
    assert torch.equal(centring.std, torch.ones(3))


def test_zscoring_centres_too_and_spreads_to_one(h):
    scoring = Calibration(3, zscore=True)
    scoring.fit(h)
    x = (h - scoring.mean) / scoring.std
    assert scoring.centre
    assert torch.allclose(x.mean(0), torch.zeros(3), atol=1e-6)
    assert torch.allclose(x.square().mean(0), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9 / 3])
@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_a_constant_unit_has_spread_one(constant, rows):
    scoring = Calibration(2, zscore=True)
    scoring.fit(torch.tensor([[constant, constant]]).repeat(rows, 1))
    assert torch.equal(scoring.std, torch.ones(2))


def test_low_precision_activations_give_float32_statistics(h):
    scoring = Calibration(3, zscore=True)
    scoring.fit(h.bfloat16())
    assert scoring.mean.dtype == scoring.std.dtype == torch.float32
