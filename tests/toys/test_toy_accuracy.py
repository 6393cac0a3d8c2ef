"""Toys reach the stop rule: a small transformer here, models of full size where marked slow."""

import random

import pytest

from mas_hooks.tasks.trials import Trials
from mas_hooks.toys.training import trial_errors
from mas_hooks.trained import ToySettings, toy


def errors(own, trials, seed):
    """Wrong trials among trials that neither training nor its checks have drawn."""
    return trial_errors(own.model, Trials(own.task).checking(random.Random(f"after/{seed}"), trials))


def test_a_small_transformer_counts(small_settings, tmp_path):
    small = small_settings(cell="transformer", width=32)
    small = small.model_copy(update={"training": small.training.model_copy(update={"learning_rate": 3e-3})})
    own = toy(small, tmp_path, progress=False)
    assert own.trained.reached
    assert own.trained.steps < 1_000
    assert errors(own, 600, 0) <= 12
    again = toy(small, tmp_path, progress=False)
    assert again.from_cache
    assert errors(again, 600, 0) == errors(own, 600, 0)


def full(name, cell="transformer", seed=0, dropout=None, **schedule):
    told = {"task": name, "cell": cell, "dropout": dropout, "training": {"seed": seed, **schedule}}
    return pytest.param(ToySettings.model_validate(told), id=f"{name}-{cell}-{seed}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        full("multi_object"),
        full("multi_object", seed=1),
        full("same_object"),
        full("rounding"),
        full("modulo", "gru"),
        # The papers' dropout of 0.5 keeps a GRU from counting the operations left: no trial is right after 3,500 steps.
        full("arithmetic", "gru", dropout=0.0, learning_rate=3e-3, warmup=1_000),
    ],
)
def test_models_of_full_size_reach_the_stop_rule(settings):
    own = toy(settings, progress=False)
    assert own.trained.reached
    assert own.trained.accuracy >= 0.9999
    assert errors(own, 30_000, 1) <= 15  # two good checks in a row are a good moment; fresh trials may be a bit worse
