import random

import numpy as np
import pytest
import torch
from torch import nn

from mas_hooks.core.errors import DivergedError, SettingError
from mas_hooks.data.tasks import task
from mas_hooks.data.tasks.trials import Trials
from mas_hooks.models.toys import train as training
from mas_hooks.models.toys.recurrent import RecurrentModel
from mas_hooks.models.toys.train import TrainingResult, TrainSettings, count_trial_errors, train_toy

TASK = task("multi_object", max_quantity=3)
BRIEF = TrainSettings(batch_size=8, check_every=5, small_check=20, full_check=40, max_errors=3, max_steps=100)


def model(seed=0):
    torch.manual_seed(seed)
    return RecurrentModel(len(TASK.vocabulary), 8, dropout=0.1)


def scripted(monkeypatch, errors):
    """Make the checks find these numbers of errors, one after another; returns how many trials each one saw."""
    left, seen = list(errors), []

    def found(_model, batches):
        seen.append(sum(len(ids) for ids, _ in batches))
        return left.pop(0)

    monkeypatch.setattr(training, "count_trial_errors", found)
    return seen


def run(settings=BRIEF, own=None):
    return train_toy(own or model(), Trials(TASK), settings, progress=False)


def test_rate_of_every_step():
    settings = TrainSettings(learning_rate=1e-3, warmup=100, floor=1e-7)
    assert settings.rate(0) == pytest.approx(1e-5)
    assert settings.rate(49) == pytest.approx(5e-4)
    assert settings.rate(99) == pytest.approx(1e-3)
    assert settings.rate(399) == pytest.approx(5e-4)
    assert settings.rate(9_999) == pytest.approx(1e-4)
    assert settings.rate(10**12) == 1e-7
    assert max(settings.rate(step) for step in range(1_000)) == settings.rate(99)


def test_the_optimiser_uses_that_rate(monkeypatch):
    scripted(monkeypatch, [9] * 20 + [0])
    seen, step = [], torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: seen.append(self.param_groups[0]["lr"]) or step(self))
    settings = BRIEF.model_copy(update={"warmup": 7, "max_steps": 30})
    run(settings)
    assert seen == [settings.rate(step) for step in range(30)]


def test_stops_at_two_full_checks_in_a_row(monkeypatch):
    seen = scripted(monkeypatch, [5, 0, 3, 2, 0, 1])  # small 5; small 0, full 3; small 2; small 0, full 1
    assert run() == TrainingResult(steps=20, errors=1, trials=42, reached=True)
    assert seen == [21, 21, 42, 21, 21, 42]


def test_a_failed_full_check_starts_the_count_anew(monkeypatch):
    scripted(monkeypatch, [0, 3, 0, 4, 0, 0, 0, 2])
    assert run() == TrainingResult(steps=20, errors=2, trials=42, reached=True)


def test_small_checks_alone_do_not_stop(monkeypatch):
    scripted(monkeypatch, [0, 4] * 20 + [7])
    assert run() == TrainingResult(steps=100, errors=7, trials=42, reached=False)


def test_a_small_check_may_err_as_often_as_a_full_one(monkeypatch):
    """1 of 21 is within 3 of 40, 2 of 21 is not; by default, 3 of 30,000, any error of 1,000 is too many."""
    seen = scripted(monkeypatch, [1, 3, 2, 1, 3])
    assert run() == TrainingResult(steps=15, errors=3, trials=42, reached=True)
    assert seen == [21, 42, 21, 21, 42]
    default = TrainSettings()
    assert default.max_errors * default.small_check < default.full_check


def test_without_any_full_check_the_end_is_still_measured(monkeypatch):
    scripted(monkeypatch, [2, 21])
    done = run(BRIEF.model_copy(update={"max_steps": 9}))
    assert done == TrainingResult(steps=9, errors=21, trials=42, reached=False)
    assert done.accuracy == 0.5


def test_learns_and_repeats():
    settings = BRIEF.model_copy(update={"batch_size": 64, "learning_rate": 1e-2, "warmup": 20, "max_steps": 400})
    ended = []
    for _ in range(2):
        own = model()
        done = run(settings, own)
        assert done.reached
        ended.append((done, own.state_dict()))
    assert ended[0][0] == ended[1][0]
    assert all(torch.equal(tensor, ended[1][1][name]) for name, tensor in ended[0][1].items())
    assert done.accuracy > 0.9


def test_the_seed_changes_the_trials():
    ended = []
    for seed in (0, 1):
        own = model()
        run(BRIEF.model_copy(update={"max_steps": 5, "seed": seed}), own)
        ended.append(own.state_dict()["embedding.weight"])
    assert not torch.equal(*ended)


def test_ends_in_eval_mode_without_gradients():
    own = model()
    run(BRIEF.model_copy(update={"max_steps": 6}), own)
    assert not own.training
    assert all(parameter.grad is None for parameter in own.parameters())


def test_a_loss_that_is_no_number_is_told():
    own = model()
    with torch.no_grad():
        own.head[3].bias.fill_(torch.nan)
    with pytest.raises(DivergedError, match="the training loss of toy stopped being a finite number at step 5"):
        run(own=own)


class Copier(nn.Module):
    """Predicts that every token repeats, as one-hot logits."""

    def forward(self, ids):
        return nn.functional.one_hot(ids, 9).float()


def test_errors_are_trials_with_a_wrong_fixed_token():
    ids = np.array([[1, 1, 1, 2], [1, 2, 2, 2], [1, 2, 3, 3]])
    fixed = np.array([[0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]], dtype=bool)
    assert count_trial_errors(Copier(), [(ids, fixed)]) == 1
    assert count_trial_errors(Copier(), [(ids, fixed), (ids, np.ones_like(fixed))]) == 1 + 3


def test_settings_are_checked():
    with pytest.raises(SettingError, match=r"TrainSettings\.batch_size is 0"):
        TrainSettings(batch_size=0)


def test_trials_of_the_protocol():
    """What the trainer asks of trials is what tasks give."""
    assert Trials(TASK).training(random.Random(0), 4).shape[0] == 4
