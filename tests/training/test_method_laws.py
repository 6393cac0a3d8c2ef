"""The loss of every row of the table of methods is what its formula says, computed by hand in plain numpy."""

import numpy as np
import pytest
from torch import nn
from two_lines import NATURAL, PLAIN, STANDARD, WHOLE, ByHand, moved, pairs, three_sites

from mas_hooks.alignment import methods
from mas_hooks.alignment.alignment import Alignment
from mas_hooks.training.loop import FitLoop

HERE, EVERY = [(0, 0)], [(0, 0), (0, 1), (1, 0), (1, 1)]

TABLE = {
    "DAS": (methods.das(PLAIN), HERE, [], 0.0),
    "MAS": (methods.mas(PLAIN), EVERY, [], 0.0),
    "MAS, standardised": (methods.mas(STANDARD), EVERY, [], 0.0),
    "stepwise MAS": (methods.stepwise(PLAIN), EVERY, [], 0.0),
    "stepwise MAS, standardised": (methods.stepwise(STANDARD), EVERY, [], 0.0),
    "UniMAS": (methods.unimas(1, PLAIN), [(0, 1), (1, 1)], [], 0.0),
    "CLMAS": (methods.clmas(0, PLAIN, latent_weight=0.3), [(0, 0), (1, 0)], [(0, 1), (1, 1)], 0.3),
    "CLMAS, standardised": (methods.clmas(1, STANDARD, latent_weight=0.6), [(0, 1), (1, 1)], [(0, 0), (1, 0)], 0.6),
    "linear map": (methods.linear_map(0, PLAIN), [(1, 0)], [], 0.0),
    "stitching": (methods.stitch(), [(0, 1), (1, 0)], [], 0.0),
    "stitching of rank 2": (methods.stitch(1, rank=2, zscore=True), [(0, 1)], [], 0.0),
    "orthogonal stitching": (methods.stitch(kind="orthogonal"), [(0, 1), (1, 0)], [], 0.0),
    "affine stitching": (methods.stitch(0, kind="affine"), [(1, 0)], [], 0.0),
    "affine stitching, LayerNorm": (methods.stitch(kind="affine", layer_norm="after"), [(0, 1), (1, 0)], [], 0.0),
    "latent fit": (methods.latent_fit(0), [], [(0, 1)], 1.0),
    "latent stitching": (methods.latent_fit(1, kind="linear"), [], [(1, 0)], 1.0),
}


@pytest.fixture
def sites():
    return three_sites()


def begun(name, sites):
    plan, behaviour, latent, weight = TABLE[name]
    own = pairs("stepwise" in name)
    alignment = moved(plan, sites[: 1 if plan.models == "one" else 2])
    cells = dict.fromkeys(range(len(alignment.sites)), NATURAL)
    loop = FitLoop(alignment, plan, (own, own), WHOLE, cells)
    return loop, ByHand(alignment, own), behaviour, latent, weight


@pytest.mark.parametrize("name", TABLE)
def test_the_loss_of_a_method_is_that_of_its_formula(name, sites):
    """Eq. 6–9: λ times the sum of the latent losses + (1 − λ) times that of the behaviour losses."""
    loop, hand, behaviour, latent, weight = begun(name, sites)
    expected = (1 - weight) * sum(hand.behaviour(*way) for way in behaviour)
    expected += weight * sum(hand.latent(*way) for way in latent)
    assert float(loop.loss(0).detach()) == pytest.approx(expected, rel=2e-5)
    assert loop.latent.dropped == len(latent)


@pytest.mark.parametrize("name", TABLE)
def test_every_parameter_of_a_method_receives_gradient(name, sites):
    loop, *_ = begun(name, sites)
    loop.loss(0).backward()
    parameters = dict(loop.alignment.named_parameters())
    assert parameters
    for own, parameter in parameters.items():
        assert parameter.grad is not None, own
        assert parameter.grad.abs().max() > 1e-6, own


def test_means_in_place_of_sums(sites):
    """Over labels of a direction, over directions, and over dims of a latent."""
    plan = methods.clmas(0, PLAIN, latent_weight=0.3, latent_reduction="mean")
    plan = plan.model_copy(update={"loss_average": "token", "direction_average": "mean"})
    alignment, own = moved(plan, sites[:2]), pairs()
    hand = ByHand(alignment, own)
    behaviour = np.mean([np.mean(np.concatenate(hand.surprises(source, 0))) for source in (0, 1)])
    latent = np.mean([hand.latent(source, 1, np.mean) for source in (0, 1)])
    loop = FitLoop(alignment, plan, (own, own), WHOLE, {1: NATURAL})
    assert float(loop.loss(0).detach()) == pytest.approx(0.7 * behaviour + 0.3 * latent, rel=2e-5)


def test_identity_stitching_says_what_the_target_says_with_the_sources_vector(sites):
    """Nothing is trained, so there is no loss: the labels' probabilities are those of the plain formula."""
    alignment = Alignment.from_plan(methods.identity_stitch(), sites[:2])
    assert not list(alignment.parameters())
    own = pairs()
    hand = ByHand(alignment, own)
    hand.stitched = lambda _source, _target, h_s: h_s
    for source, target in [(0, 1), (1, 0)]:
        out = alignment.run(own, source=source, target=target)
        found = nn.functional.cross_entropy(out.logits, out.labels, reduction="none")
        assert np.allclose(found.detach(), np.concatenate(hand.surprises(source, target)), rtol=2e-5)
