from math import log

import pytest
import torch

from mas_hooks.engine.labelled import Labelled
from mas_hooks.objectives import behaviour_losses


def labelled(shares, row, scored=None, pairs=3):
    """Two-token logits that give label 1 these probabilities."""
    chances = torch.tensor(shares)
    mask = torch.ones(len(shares), dtype=torch.bool) if scored is None else torch.tensor(scored)
    logits = torch.stack([torch.log(1 - chances), torch.log(chances)], dim=1)
    return Labelled(
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
        Labelled(half.logits.bfloat16(), half.labels, half.row, half.deterministic, half.scored, 3), [3], "trial"
    )
    assert found.dtype == torch.float32
