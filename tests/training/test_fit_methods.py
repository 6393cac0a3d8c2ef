"""Methods and starts on trained toys: which directions are trained, which maps move, where they begin."""

import pytest
import torch

from mas_hooks.alignment import methods
from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.maps import MapSpec
from mas_hooks.alignment.plan import Direction, Plan
from mas_hooks.data.task_pairs import task_pairs
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.toys.toy_cache import load_toy
from mas_hooks.training.fit import fit
from mas_hooks.training.settings import FitSettings

QUICK = FitSettings(batch_size=64, learning_rate=3e-2, epochs=5)
ONE = FitSettings(batch_size=64, epochs=1)


def directions(done):
    return {(row.source, row.target) for row in done.curve}


def run(sites, pairs, plan, settings=ONE, seed=0, **spec):
    alignment = Alignment.from_plan(plan.model_copy(update={"maps": MapSpec(rank=8, **spec)}), sites, seed)
    return alignment, fit(alignment, plan, pairs[0], pairs[1], settings, progress=False)


def test_das_of_one_model(small_sites, small_pairs):
    settings = QUICK.model_copy(update={"epochs": 25})
    alignment, done = run(small_sites[:1], small_pairs, methods.das(), settings, centre=True)
    assert directions(done) == {(0, 0)}
    assert done.best_iia > 0.85
    assert alignment.names == ["gru-0"]


def test_three_models_have_nine_directions(small_sites, small_settings, small_pairs):
    found = load_toy(small_settings(0, "lstm"), progress=False)
    sites = [*small_sites, wrap(found.model, name="lstm").at("state")]
    pairs = task_pairs([found.task] * 3, ["full"] * 3, (256, 64, 64))
    settings = QUICK.model_copy(update={"epochs": 12})
    _, done = run(sites, pairs, methods.mas(), settings, init="procrustes", centre=True)
    assert directions(done) == {(source, target) for source in range(3) for target in range(3)}
    assert done.best_iia > 0.5


@pytest.mark.parametrize("accessible", [0, 1])
def test_unimas_trains_into_the_accessible_model_only(small_sites, small_pairs, accessible):
    alignment, done = run(small_sites, small_pairs, methods.unimas(accessible), QUICK)
    assert done.best_step > 0
    assert directions(done) == {(0, accessible), (1, accessible)}
    for index, own in enumerate(alignment.site_maps):
        fresh = Alignment(small_sites, rank=8).site_maps[index]
        assert not torch.equal(own.weight, fresh.weight)  # both maps are read by the trained directions


def test_a_model_without_a_trained_direction_keeps_its_map(small_sites, small_pairs, monkeypatch):
    monkeypatch.setattr(Plan, "directions", lambda _self, _models: [Direction(0, 0)])
    alignment, done = run(small_sites, small_pairs, methods.mas(), QUICK)
    assert done.best_step > 0
    fresh = Alignment(small_sites, rank=8)
    assert not torch.equal(alignment.site_maps[0].weight, fresh.site_maps[0].weight)
    assert torch.equal(alignment.site_maps[1].weight, fresh.site_maps[1].weight)


def test_sum_and_mean_of_directions(small_sites, small_pairs, monkeypatch):
    """The mean is the sum over their number: with SGD, a learning rate four times as high gives the same maps."""
    monkeypatch.setattr(torch.optim, "Adam", torch.optim.SGD)
    still = QUICK.model_copy(update={"epochs": 1, "min_gain": 0.0})
    mean = methods.mas().model_copy(update={"direction_average": "mean"})
    one, _ = run(small_sites, small_pairs, methods.mas(), still.model_copy(update={"learning_rate": 0.01}))
    two, _ = run(small_sites, small_pairs, mean, still.model_copy(update={"learning_rate": 0.04}))
    torch.testing.assert_close(one.site_maps[0].weight, two.site_maps[0].weight)


def source_states(site, pairs):
    return site.model.run_with_cache(pairs.source_inputs, "state", pairs.source_where)[1]["state"].detach()


@pytest.mark.parametrize("zscore", [False, True])
def test_calibrated_on_the_training_rows(small_sites, small_pairs, zscore):
    alignment, _ = run(small_sites, small_pairs, methods.mas(), centre=True, zscore=zscore)
    for site, own in zip(small_sites, alignment.site_maps, strict=True):
        h = source_states(site, small_pairs[0][0, 0])
        torch.testing.assert_close(own.calibration.mean, h.mean(0))
        expected = h.std(0, correction=0) if zscore else torch.ones(16)
        torch.testing.assert_close(own.calibration.std, expected)


def first_worst(sites, pairs, init, seed=0):
    _, done = run(sites, pairs, methods.mas(), init=init, seed=seed, centre=True)
    return min(row.iia for row in done.curve if row.step == 0)


def test_procrustes_starts_above_random(small_sites, small_pairs):
    random = max(first_worst(small_sites, small_pairs, "random", seed) for seed in range(3))
    assert first_worst(small_sites, small_pairs, "procrustes") > random + 0.2


@pytest.mark.parametrize("init", ["identity", "pca"])
def test_other_starts_are_named_in_every_row(small_sites, small_pairs, init):
    _, done = run(small_sites, small_pairs, methods.mas(), init=init)
    assert {row.init for row in done.curve} == {init}


@pytest.mark.parametrize("spec", [{"kind": "rotation"}, {"scale": "learned"}])
def test_other_maps_learn(small_sites, small_pairs, spec):
    settings = QUICK.model_copy(update={"epochs": 10})
    _, done = run(small_sites, small_pairs, methods.mas(), settings, centre=True, **spec)
    first = min(row.iia for row in done.curve if row.step == 0)
    assert done.best_iia > first + 0.3
