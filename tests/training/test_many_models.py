"""What alignments of many models have in common with those of two: the loss is a sum over ordered pairs."""

import itertools

import pytest
import torch
from two_lines import PLAIN, STANDARD, WHOLE, WIDTH, ByHand, moved, pairs, three_sites

from mas_hooks.alignment import methods
from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.directions import PatchedDirections
from mas_hooks.alignment.plan import Plan
from mas_hooks.data.task_pairs import task_pairs
from mas_hooks.engine.cache import ActivationCache
from mas_hooks.evaluation.evaluate import evaluate
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.toys.toy_cache import load_toy
from mas_hooks.training.fit import fit
from mas_hooks.training.loop import FitLoop, FitSettings
from mas_hooks.training.losses import behaviour_losses

QUICK = FitSettings(batch_size=64, learning_rate=3e-2, epochs=3, validate_every=4)


@pytest.fixture
def sites():
    return three_sites()


def gradients(alignment):
    return [one.weight.grad.clone() for one in alignment.site_maps]


def with_maps_of(alignment, indices, plan=None):
    """An alignment of some of the sites alone, with the maps that they have in the whole."""
    plan = plan or methods.mas(alignment.spec)
    made = Alignment.from_plan(plan, [alignment.sites[index] for index in indices])
    for one, index in zip(made.site_maps, indices, strict=True):
        one.load_state_dict(alignment.site_maps[index].state_dict())
    return made


def lost(alignment, own):
    """The loss on all pairs, its gradients per map."""
    loop = FitLoop(alignment, alignment.plan, (own, own), WHOLE, {})
    total = loop.loss(0)
    total.backward()
    return float(total.detach()), gradients(alignment)


@pytest.mark.parametrize("spec", [PLAIN, STANDARD])
def test_the_loss_of_three_models_is_that_of_all_their_pairs(spec, sites):
    """Every two models by themselves, less what is counted twice: the three models within themselves."""
    whole, own = moved(methods.mas(spec), sites), pairs()
    total, found = lost(whole, own)
    expected, by_hand = 0.0, [torch.zeros(WIDTH, 2) for _ in sites]
    for several in [*itertools.combinations(range(3), 2), *((index,) for index in range(3))]:
        plan = methods.das(spec) if len(several) == 1 else None
        part, grads = lost(with_maps_of(whole, several, plan), own)
        sign = -1 if len(several) == 1 else 1
        expected += sign * part
        for index, grad in zip(several, grads, strict=True):
            by_hand[index] += sign * grad
    assert total == pytest.approx(expected, rel=1e-5)
    for grad, wanted in zip(found, by_hand, strict=True):
        torch.testing.assert_close(grad, wanted, rtol=1e-4, atol=1e-6)
    hand = ByHand(whole, own)
    assert total == pytest.approx(sum(hand.behaviour(*way) for way in itertools.product(range(3), repeat=2)), rel=2e-5)


def test_the_directions_between_two_of_three_models_are_those_of_the_two_alone(sites):
    """To the bit, loss and gradient: nothing of the third model takes part."""
    whole, own = moved(methods.mas(STANDARD), sites), pairs()
    total, wanted = lost(with_maps_of(whole, [0, 1]), own)
    loop = FitLoop(whole, whole.plan, (own, own), WHOLE, {})
    ways = methods.mas().directions(2)
    swaps = PatchedDirections(whole, own, ways, ActivationCache(whole.sites, whole.models))
    losses = {}
    for into, labelled in swaps.run(whole.swap_operator(), {way: loop.batches[way].at(0) for way in ways}):
        losses |= dict(zip(into, behaviour_losses(labelled, [len(own)] * len(into), "trial"), strict=True))
    found = torch.stack([losses[way] for way in ways]).sum()
    found.backward()
    assert float(found.detach()) == total
    for one, grad in zip(whole.site_maps, wanted, strict=False):
        assert torch.equal(one.weight.grad, grad)
    assert whole.site_maps[2].weight.grad is None


# On trained toys


def test_a_model_without_a_direction_changes_nothing(small_sites, small_pairs, monkeypatch):
    """Fitting two models, and the same two beside a third that no direction names: equal to the bit."""
    two = Alignment(small_sites, rank=8, centre=True)
    three = Alignment([*small_sites, small_sites[0]], rank=8, centre=True)
    alone = fit(two, methods.mas(), *small_pairs[:2], QUICK, progress=False)
    pair = methods.mas().directions(2)
    monkeypatch.setattr(Plan, "directions", lambda _self, _models: pair)
    beside = fit(three, methods.mas(), *(own[0, 0] for own in small_pairs[:2]), QUICK, progress=False)
    for name, tensor in two.state_dict().items():
        assert torch.equal(three.state_dict()[name], tensor), name
    assert not torch.equal(two.maps[0].weight, Alignment(small_sites, rank=8).maps[0].weight)
    assert torch.equal(three.maps[2].weight, Alignment([*small_sites, small_sites[0]], rank=8).maps[2].weight)
    found = [[(row.step, row.source, row.target, row.iia) for row in done.curve] for done in (alone, beside)]
    assert found[0] == found[1]


@pytest.mark.parametrize("count", [3, 4])
def test_many_models_learn_one_space(count, small_sites, small_settings, small_toys):
    """Two GRUs, an LSTM and a wider GRU: every direction ends well above what no swap gives."""
    made = [("lstm", 16), ("gru", 20)][: count - 2]
    others = [load_toy(small_settings(0, cell, width), progress=False).model for cell, width in made]
    sites = [*small_sites, *(wrap(own, name=f"toy {index}").at("state") for index, own in enumerate(others))]
    pairs = task_pairs([small_toys[0].task] * count, ["full"] * count, (256, 64, 128))
    alignment = Alignment(sites, rank=8, centre=True, init="procrustes")
    settings = QUICK.model_copy(update={"epochs": 20, "validate_every": 20})
    done = fit(alignment, methods.mas(), *pairs[:2], settings, progress=False)
    table = evaluate(alignment, pairs[2])
    assert len(table.rows) == count**2
    assert done.best_iia > min(row.iia for row in done.curve[: count**2]) + 0.2
    for row in table.rows:
        assert row.iia > row.floor + 0.3, (row.source, row.target)
