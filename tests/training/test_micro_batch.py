"""A batch in several passes: the same gradient as in one, and settings for which that is not so are refused."""

import pytest
import torch
from sentences import refused
from two_lines import PLAIN, moved, pairs, three_sites

from mas_hooks.alignment import methods
from mas_hooks.core.errors import SettingError
from mas_hooks.training.loop import FitLoop
from mas_hooks.training.settings import FitSettings


def stepped(micro, average="sum", size=7):
    """The loss and the gradients of one step of three models."""
    plan = methods.mas(PLAIN).model_copy(update={"direction_average": average})
    alignment = moved(plan, three_sites())
    own = pairs()
    loop = FitLoop(alignment, plan, (own, own), FitSettings(batch_size=size, micro_batch=micro), {})
    batches = loop._batches(0)
    if micro is None:
        total = loop.loss(0)
        total.backward()
    else:
        total = loop._accumulate(batches, micro)
    return float(total.detach()), [one.weight.grad for one in alignment.site_maps]


@pytest.mark.parametrize("average", ["sum", "mean"])
@pytest.mark.parametrize("micro", [1, 2, 3, 100])
def test_passes_add_up_to_the_whole_batch(micro, average):
    total, grads = stepped(None, average)
    found, added = stepped(micro, average)
    assert found == pytest.approx(total, rel=1e-5)
    for own, other in zip(added, grads, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)


def test_a_step_with_passes_moves_the_maps_as_one_without():
    moved_to = []
    for micro in (None, 2):
        alignment, own = moved(methods.mas(PLAIN), three_sites()), pairs()
        loop = FitLoop(alignment, alignment.plan, (own, own), FitSettings(batch_size=5, micro_batch=micro), {})
        loop.step()
        moved_to.append(alignment.site_maps[0].weight.detach().clone())
    torch.testing.assert_close(*moved_to, rtol=1e-3, atol=1e-5)


def test_no_pass_has_more_pairs_of_a_direction(monkeypatch):
    alignment, own = moved(methods.mas(PLAIN), three_sites()), pairs()
    loop = FitLoop(alignment, alignment.plan, (own, own), FitSettings(batch_size=5, micro_batch=2), {})
    seen, run = [], loop.train.run
    monkeypatch.setattr(loop.train, "run", lambda operator, batches: seen.append(batches) or run(operator, batches))
    loop.step()
    assert max(len(index) for batches in seen for index in batches.values()) == 2
    assert all(len({way.target for way in batches}) == 1 for batches in seen)
    assert len(seen) == 6


@pytest.mark.parametrize("changed", [{"loss_average": "token"}, {"latent_into": "inaccessible", "into": "accessible"}])
def test_means_that_do_not_add_up_are_refused(changed):
    plan = methods.mas(PLAIN).model_copy(update=changed)
    alignment, own = moved(methods.mas(PLAIN), three_sites()), pairs()
    with refused(SettingError, "FitSettings.micro_batch is 2, but must be None, for a loss averaged over tokens or of"):
        FitLoop(alignment, plan, (own, own), FitSettings(micro_batch=2), {})
