"""Toys reach the stop rule: a small transformer here, models of full size where marked slow."""

import random

import pytest

from mas_hooks.data.tasks.trials import Trials
from mas_hooks.models.toys.toy_cache import ToySettings, load_toy
from mas_hooks.models.toys.train import count_trial_errors
from mas_hooks.studies import registry


def errors(own, trials, seed):
    """Wrong trials among trials that neither training nor its checks have drawn."""
    return count_trial_errors(own.model, Trials(own.task).checking(random.Random(f"after/{seed}"), trials))


def test_a_small_transformer_counts(small_settings, tmp_path):
    small = small_settings(cell="transformer", width=32)
    small = small.model_copy(update={"training": small.training.model_copy(update={"learning_rate": 3e-3})})
    own = load_toy(small, tmp_path, progress=False)
    assert own.trained.reached
    assert own.trained.steps < 1_000
    assert errors(own, 600, 0) <= 12
    again = load_toy(small, tmp_path, progress=False)
    assert again.from_cache
    assert errors(again, 600, 0) == errors(own, 600, 0)


def of_the_figures():
    """Every toy of the recipe `figures`, at its size, and two transformers more."""
    marks = registry.load_study("recipes", "figures").settings(quick=True).marks()
    found = {own.key: own for mark in marks for own in mark.fit.toys}
    more = [ToySettings(task=name, cell="transformer") for name in ("same_object", "rounding")]
    return [pytest.param(own, id=f"{own.task}-{own.name}") for own in (*found.values(), *more)]


@pytest.mark.slow
@pytest.mark.parametrize("settings", of_the_figures())
def test_models_of_full_size_reach_the_stop_rule(settings):
    own = load_toy(settings, progress=False)
    assert own.trained.reached
    assert own.trained.accuracy >= 0.9999
    assert errors(own, 30_000, 1) <= 15  # two good checks in a row are a good moment; fresh trials may be a bit worse
