from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentences import refused

from mas_hooks.core.errors import SettingError, ShapeError
from mas_hooks.engine.batch import LabelledLogits
from mas_hooks.training.losses import behaviour_losses, latent_losses, total_loss


def labelled(shares, row, scored=None, pairs=3):
    """Two-token logits that give label 1 these probabilities."""
    chances = torch.tensor(shares)
    mask = torch.ones(len(shares), dtype=torch.bool) if scored is None else torch.tensor(scored)
    logits = torch.stack([torch.log(1 - chances), torch.log(chances)], dim=1)
    return LabelledLogits(
        logits, torch.ones(len(shares), dtype=torch.int64), torch.tensor(row), torch.zeros_like(mask), mask, pairs
    )


# Trial 0 has labels of probability 1/2 and 1/4, trial 1 one of 1/8, trial 2 one of 1/2: surprise 1, 2 | 3 | 1 bits.
BATCH = labelled([0.5, 0.25, 0.125, 0.5], [0, 0, 1, 2])


def test_mean_over_labels_then_trials():
    found = behaviour_losses(BATCH, [2, 1], "trial")
    assert found.tolist() == pytest.approx([(1.5 + 3) / 2 * log(2), log(2)])


def test_mean_over_all_labels():
    found = behaviour_losses(BATCH, [2, 1], "token")
    assert found.tolist() == pytest.approx([(1 + 2 + 3) / 3 * log(2), log(2)])


def test_one_direction_holds_all_trials():
    assert behaviour_losses(BATCH, [3], "trial").tolist() == pytest.approx([(1.5 + 3 + 1) / 3 * log(2)])


@pytest.mark.parametrize("average", ["trial", "token"])
def test_labels_that_are_only_judged_cost_nothing(average):
    wide = labelled([0.5, 0.9, 0.125, 0.5], [0, 0, 1, 2], [True, False, True, True])
    expected = {"trial": [(1 + 3) / 2 * log(2), log(2)], "token": [(1 + 3) / 2 * log(2), log(2)]}
    assert behaviour_losses(wide, [2, 1], average).tolist() == pytest.approx(expected[average])


def test_order_of_labels_does_not_matter():
    shuffled = labelled([0.5, 0.125, 0.25, 0.5], [2, 1, 0, 0])
    torch.testing.assert_close(behaviour_losses(shuffled, [2, 1], "trial"), behaviour_losses(BATCH, [2, 1], "trial"))


def test_low_precision_logits_are_raised_to_float32():
    half = labelled([0.5, 0.25, 0.125, 0.5], [0, 0, 1, 2])
    found = behaviour_losses(
        LabelledLogits(half.logits.bfloat16(), half.labels, half.row, half.deterministic, half.scored, 3), [3], "trial"
    )
    assert found.dtype == torch.float32


SWAPPED = torch.tensor([[4.0, 2.0], [3.0, 4.0], [0.0, 2.0]])
LATENT = torch.tensor([[2.0, 1.0], [4.0, -3.0], [3.0, 0.0]])
# Row 0: ‖(2, 1)‖² = 5, parallel: cosine 1. Row 1: ‖(−1, 7)‖² = 50, 12 − 12: cosine 0. Row 2: ‖(−3, 2)‖² = 13, cosine 0.


@pytest.mark.parametrize(("reduction", "rows"), [("sum", [2.5 - 0.5, 25.0, 6.5]), ("mean", [1.25 - 0.5, 12.5, 3.25])])
def test_latent_loss_by_hand(reduction, rows):
    assert latent_losses(SWAPPED, LATENT, [1, 1, 1], reduction).tolist() == pytest.approx(rows)
    assert latent_losses(SWAPPED, LATENT, [1, 2], reduction).tolist() == pytest.approx([rows[0], sum(rows[1:]) / 2])
    assert latent_losses(SWAPPED, LATENT, [3], reduction).tolist() == pytest.approx([sum(rows) / 3])


def test_latent_loss_of_slanted_vectors():
    found = latent_losses(torch.tensor([[3.0, 4.0]]), torch.tensor([[5.0, 12.0]]), [1])
    assert found.item() == pytest.approx((4 + 64) / 2 - (15 + 48) / (5 * 13) / 2)


def test_a_direction_without_latents_costs_nothing():
    h = SWAPPED.clone().requires_grad_()
    found = latent_losses(h, LATENT, [0, 3, 0])
    assert found[0] == found[2] == 0
    torch.testing.assert_close(found[1], latent_losses(SWAPPED, LATENT, [3])[0])
    found.sum().backward()
    assert h.grad.isfinite().all()
    nothing = torch.zeros(0, 2, requires_grad=True)
    empty = latent_losses(nothing, torch.zeros(0, 2), [0, 0])
    assert empty.tolist() == [0.0, 0.0]
    empty.sum().backward()


@pytest.mark.parametrize("rows", [([0.0, 0.0], [1.0, 2.0]), ([1.0, 2.0], [0.0, 0.0]), ([0.0, 0.0], [0.0, 0.0])])
def test_zero_vectors_have_cosine_zero_and_no_pull(rows):
    h, latent = torch.tensor([rows[0]], requires_grad=True), torch.tensor([rows[1]])
    found = latent_losses(h, latent, [1])
    assert found.item() == pytest.approx((h - latent).square().sum().item() / 2)
    found.sum().backward()
    torch.testing.assert_close(h.grad, (h - latent).detach())


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gradient_of_the_latent_loss(reduction):
    generator = torch.Generator().manual_seed(0)
    h, latent = (torch.randn(5, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    assert latent_losses(h, latent, [5], reduction).dtype == torch.float64
    assert torch.autograd.gradcheck(
        lambda own, other: latent_losses(own, other, [2, 0, 3], reduction),
        (h.requires_grad_(), latent.requires_grad_()),
    )


def test_low_precision_vectors_are_raised_to_float32():
    found = latent_losses(SWAPPED.bfloat16(), LATENT.half(), [3])
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx((2 + 25 + 6.5) / 3)
    huge = torch.full((1, 4), 300.0, dtype=torch.float16)  # its squares leave float16
    assert latent_losses(huge, -huge, [1]).item() == pytest.approx(2 * 4 * 300**2 + 0.5)


NUMBER = st.floats(-3, 3, width=32).map(lambda value: round(value, 2))


@settings(deadline=None)
@given(st.lists(st.lists(NUMBER, min_size=6, max_size=6), min_size=1, max_size=5), st.sampled_from(["sum", "mean"]))
def test_laws_of_the_latent_loss(rows, reduction):
    h, latent = torch.tensor(rows, dtype=torch.float64).split(3, dim=1)
    found = latent_losses(h, latent, [len(h)], reduction)
    torch.testing.assert_close(found, latent_losses(latent, h, [len(h)], reduction))
    torch.testing.assert_close(found, latent_losses(h.flip(0), latent.flip(0), [len(h)], reduction))
    torch.testing.assert_close(found, latent_losses(h.flip(1), latent.flip(1), [len(h)], reduction))
    torch.testing.assert_close(found, latent_losses(-h, -latent, [len(h)], reduction))
    own = latent_losses(h, h, [1] * len(h), reduction)
    torch.testing.assert_close(own, -(h != 0).any(1).double() / 2)
    assert (latent_losses(h, latent, [1] * len(h), reduction) >= -0.5 - 1e-12).all()
    apart = latent_losses(h, latent, [1] * len(h), reduction) * torch.tensor(1.0 / len(h))
    torch.testing.assert_close(found[0], apart.sum())


def test_what_the_latent_loss_refuses():
    with refused(SettingError, "latent_reduction is 'max', but must be 'sum' or 'mean'"):
        latent_losses(SWAPPED, LATENT, [3], "max")
    with refused(ShapeError, "(h_v, h_cl) has shape ((3, 2), (2, 2))"):
        latent_losses(SWAPPED, LATENT[:2], [3])
    with refused(ShapeError, "one shape with 4 rows for both"):
        latent_losses(SWAPPED, LATENT, [2, 2])


def test_total_weighs_latents_against_behaviour():
    behaviour, latent = torch.tensor([1.0, 3.0]), torch.tensor([10.0, 20.0, 60.0])
    assert total_loss(behaviour, latent, 0.25).item() == pytest.approx(0.25 * 90 + 0.75 * 4)
    assert total_loss(behaviour, latent, 0.25, "mean").item() == pytest.approx(0.25 * 30 + 0.75 * 2)
    assert total_loss(behaviour, latent[:0], 0.0, "mean").item() == 2
    assert total_loss(behaviour[:0], latent, 1.0).item() == 90
    for wrong in (-0.1, 1.1):
        with refused(SettingError, f"latent_weight is {wrong}, but must be from 0"):
            total_loss(behaviour, latent, wrong)
