import copy

import pytest
import torch

from mas_hooks.alignment import methods
from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.maps import MapSpec
from mas_hooks.alignment.maps.frame import Frame
from mas_hooks.core.errors import DivergedError, SettingError, TrainModeWarning, UnknownNameError
from mas_hooks.evaluation.evaluate import evaluate
from mas_hooks.hooks.wrap import wrap
from mas_hooks.training.fit import fit
from mas_hooks.training.settings import FitSettings

QUICK = FitSettings(batch_size=64, learning_rate=3e-2, epochs=3, validate_every=4)


def fitted(sites, pairs, settings=QUICK, plan=None, **spec):
    """An alignment of those sites, fitted, and what the fit did."""
    alignment = Alignment(sites, rank=spec.pop("rank", 8), **spec)
    return alignment, fit(alignment, plan or methods.mas(), pairs[0], pairs[1], settings, progress=False)


def test_learns_and_repeats_bit_for_bit(small_sites, small_pairs):
    settings = QUICK.model_copy(update={"epochs": 25, "validate_every": 25})
    one, first = fitted(small_sites, small_pairs, settings, centre=True)
    two, again = fitted(small_sites, small_pairs, settings, centre=True)
    assert first.curve == again.curve
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[name]), name
    assert first.best_iia > 0.8 > 2 * min(row.iia for row in first.curve[:4])
    assert (first.steps, first.stopped, first.path) == (100, "epochs", "tail")


def test_another_seed_is_another_fit(small_sites, small_pairs):
    one, _ = fitted(small_sites, small_pairs)
    two, _ = fitted(small_sites, small_pairs, QUICK.model_copy(update={"seed": 1}))
    assert not torch.equal(one.maps[0].weight, two.maps[0].weight)


def test_models_are_as_they_were(small_toys, small_pairs):
    models = [copy.deepcopy(one.model) for one in small_toys]
    models[0].head[0].weight.requires_grad_(False)
    before = [copy.deepcopy(model.state_dict()) for model in models]
    flags = [[parameter.requires_grad for parameter in model.parameters()] for model in models]
    fitted([wrap(model).at("state") for model in models], small_pairs)
    for model, state, own in zip(models, before, flags, strict=True):
        assert [parameter.requires_grad for parameter in model.parameters()] == own
        assert own.count(True) >= len(own) - 1
        assert all(parameter.grad is None for parameter in model.parameters())
        assert not any(part.training or part._forward_hooks or part._forward_pre_hooks for part in model.modules())
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
        assert not any("forward" in vars(part) for part in model.modules())


def test_holds_the_best_validation_checkpoint(small_sites, small_pairs):
    absurd = QUICK.model_copy(update={"learning_rate": 30.0})
    alignment, done = fitted(small_sites, small_pairs, absurd, init="procrustes", centre=True)
    last = min(row.iia for row in done.curve[-4:])
    assert done.best_step == 0
    assert last < done.best_iia
    assert evaluate(alignment, small_pairs[1]).worst.iia == done.best_iia


def test_checkpoint_in_the_middle(small_sites, small_pairs):
    settings = QUICK.model_copy(update={"epochs": 8, "validate_every": 3})
    alignment, done = fitted(small_sites, small_pairs, settings, centre=True)
    assert 0 < done.best_step <= done.steps
    found = {(row.source, row.target): row.iia for row in evaluate(alignment, small_pairs[1]).rows}
    assert found == {(row.source, row.target): row.iia for row in done.curve if row.step == done.best_step}


def test_curve_has_every_direction_at_every_validation(small_sites, small_pairs):
    settings = QUICK.model_copy(update={"validate_every": 5})
    _, done = fitted(small_sites, small_pairs, settings)
    found = [(row.step, row.source, row.target) for row in done.curve]
    assert found == [(step, source, target) for step in (0, 5, 10, 12) for target in (0, 1) for source in (0, 1)]
    for row in done.curve:
        assert (row.split, row.method, row.k, row.init, row.trials) == ("valid", "mas", 8, "random", 64)
        assert (row.source_model, row.target_model) == (f"gru-{row.source}", f"gru-{row.target}")
        assert (row.comparison, row.selected_on) == ("gru-0 × gru-1", "trained")
        assert 0 <= row.iia <= 1
        assert 0 < row.token_accuracy <= 1


def test_every_curve_row_has_the_floor_of_the_validation_pairs(small_sites, small_pairs):
    alignment, done = fitted(small_sites, small_pairs)
    floors = {(row.source, row.target): row.floor for row in evaluate(alignment, small_pairs[1]).rows}
    assert len(done.curve) == 4 * 4
    assert all(row.floor == floors[row.source, row.target] for row in done.curve)


@pytest.mark.parametrize("every", [0, 100])
def test_validates_once_an_epoch_and_at_the_end(small_sites, small_pairs, every):
    _, done = fitted(small_sites, small_pairs, QUICK.model_copy(update={"validate_every": every}))
    assert sorted({row.step for row in done.curve}) == ([0, 4, 8, 12] if every == 0 else [0, 12])


@pytest.mark.parametrize("min_gain", [0.0, 0.002])
def test_stops_on_a_plateau(small_sites, small_pairs, min_gain):
    still = FitSettings(batch_size=64, learning_rate=1e-12, epochs=50, validate_every=1, patience=3, min_gain=min_gain)
    _, done = fitted(small_sites, small_pairs, still)
    assert (done.steps, done.best_step, done.stopped) == (3, 0, "plateau")


def test_stops_where_told(small_sites, small_pairs):
    _, done = fitted(small_sites, small_pairs, QUICK.model_copy(update={"stop_at": 0.01}), init="procrustes")
    assert (done.steps, done.stopped) == (0, "stop_at")
    assert done.best_iia >= 0.01


def test_maps_are_evaluated_once_a_step(small_sites, small_pairs, monkeypatch):
    calls, view = [], Frame.view
    monkeypatch.setattr(Frame, "view", lambda self: calls.append(self) or view(self))
    _, done = fitted(small_sites, small_pairs)
    scorings = 1 + len({row.step for row in done.curve})  # the floor, and every validation
    assert len(calls) == 2 * (done.steps + scorings)


def test_frozen_models_run_once(small_sites, small_pairs):
    """A source-only model does not run after the first step; a target runs once a step."""
    calls, totals = [0, 0], []
    handles = [
        site.model.module.register_forward_pre_hook(lambda *_, index=index: calls.__setitem__(index, calls[index] + 1))
        for index, site in enumerate(small_sites)
    ]
    try:
        for epochs in (1, 3):
            calls[:] = [0, 0]
            settings = QUICK.model_copy(update={"epochs": epochs, "validate_every": 100})
            fitted(small_sites, small_pairs, settings, methods.unimas(0))
            totals.append(list(calls))
    finally:
        for handle in handles:
            handle.remove()
    assert totals[1][1] == totals[0][1]
    assert totals[1][0] - totals[0][0] == 8


def test_the_alignment_takes_over_the_plan(small_sites, small_pairs):
    alignment, _ = fitted(small_sites, small_pairs, plan=methods.unimas(1))
    assert alignment.plan == methods.unimas(1, MapSpec(rank=8))
    assert {row.method for row in evaluate(alignment, small_pairs[2]).rows} == {"unimas"}


def test_refuses_maps_that_do_not_learn(small_sites, small_pairs):
    with pytest.raises(SettingError, match="kind of map is 'fixed', but must be 'frame' or 'rotation'"):
        fitted(small_sites, small_pairs, kind="fixed")


def test_refuses_a_plan_of_other_maps(small_sites, small_pairs):
    with pytest.raises(SettingError, match=r"plan\.maps is .*rank=4.* but must be None, or the map specification"):
        fitted(small_sites, small_pairs, plan=methods.mas(MapSpec(rank=4)))


def test_refuses_a_direction_without_pairs(small_sites, small_pairs):
    with pytest.raises(UnknownNameError, match="set of pairs has no direction"):
        fitted(small_sites, ({(0, 0): small_pairs[0][0, 0]}, small_pairs[1]))


def test_a_loss_that_is_no_number_stops_the_fit(small_sites, small_pairs):
    alignment = Alignment(small_sites, rank=4)
    with torch.no_grad():
        alignment.maps[1].weight.fill_(torch.nan)
    with pytest.raises(DivergedError, match="the loss of mas stopped being a finite number at step 0; lower"):
        fit(alignment, methods.mas(), *small_pairs[:2], QUICK, progress=False)


def test_warns_of_dropout_in_train_mode(small_toys, small_pairs):
    model = copy.deepcopy(small_toys[0].model)
    site = wrap(model, name="gru-0").at("state")
    model.train()
    with pytest.warns(TrainModeWarning, match="gru-0 is in train mode"):
        fitted([site], small_pairs, QUICK.model_copy(update={"epochs": 1}), methods.das())
    assert model.training


@pytest.mark.parametrize(
    ("plan", "settings", "told"),
    [
        (methods.mas, None, "plan is .*, but must be a Plan, such as mas_hooks.methods.mas"),
        (methods.mas(), {"epochs": 1}, "settings is .*, but must be a FitSettings"),
    ],
)
def test_a_plan_or_settings_of_another_kind_are_told(small_sites, small_pairs, plan, settings, told):
    with pytest.raises(SettingError, match=told):
        fit(Alignment(small_sites, rank=2), plan, *small_pairs[:2], settings)
