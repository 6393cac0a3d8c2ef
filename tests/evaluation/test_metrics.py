from math import sqrt

import pytest
import torch

from mas_hooks.engine.batch import LabelledLogits
from mas_hooks.engine.scores import Score, find_right_trials, score_trials
from mas_hooks.evaluation.metrics import wilson_interval


def labelled(guesses, labels, row, deterministic, pairs):
    logits = torch.nn.functional.one_hot(torch.tensor(guesses), 4).float()
    flags = torch.tensor(deterministic)
    return LabelledLogits(logits, torch.tensor(labels), torch.tensor(row), flags, torch.ones_like(flags), pairs)


# Trial 0: a free token wrong, two fixed ones right. Trial 1: one of three fixed ones wrong. Trial 2: right.
BATCH = labelled(
    [3, 1, 2, 1, 0, 1, 2],
    [0, 1, 2, 1, 2, 1, 2],
    [0, 0, 0, 1, 1, 1, 2],
    [False, True, True, True, True, True, True],
    3,
)


def test_a_trial_is_wrong_if_one_fixed_token_is():
    assert find_right_trials(BATCH).tolist() == [True, False, True]


def test_only_fixed_tokens_count():
    found = score_trials(BATCH)
    assert found == Score(right_trials=2, trials=3, right_tokens=5, tokens=6)
    assert found.iia == pytest.approx(2 / 3)
    assert found.token_accuracy == pytest.approx(5 / 6)


def test_all_wrong_is_zero():
    nothing = score_trials(labelled([0, 0], [1, 1], [0, 1], [True, True], 2))
    assert (nothing.iia, nothing.token_accuracy) == (0.0, 0.0)


def test_scores_add_up():
    assert Score(1, 2, 3, 4) + Score(10, 20, 30, 40) == Score(11, 22, 33, 44)


@pytest.mark.parametrize(("right", "trials"), [(0, 10), (7, 10), (10, 10), (981, 1000), (1, 1)])
def test_wilson_is_the_closed_formula(right, trials):
    z, share = 1.959963984540054, right / trials
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    assert wilson_interval(right, trials) == pytest.approx((middle - half, middle + half), abs=1e-12)


def test_wilson_narrows_with_less_confidence():
    wide, narrow = wilson_interval(70, 100, 0.99), wilson_interval(70, 100, 0.5)
    assert wide[0] < narrow[0] < 0.7 < narrow[1] < wide[1]
