"""Optimisers and schedules of a fit against torch's and transformers' own; what chooses the checkpoint; refusals."""

import re

import pytest
import torch
from torch import nn

from mas_hooks.alignment import methods
from mas_hooks.alignment.alignment import Alignment
from mas_hooks.core.errors import SettingError
from mas_hooks.data.text_pairs import shared_text_pairs
from mas_hooks.hooks.wrap import wrap
from mas_hooks.training.fit import fit
from mas_hooks.training.loop import FitLoop
from mas_hooks.training.settings import FitSettings

WIDTH, VOCABULARY = 4, 7
SGD = FitSettings(
    batch_size=4,
    learning_rate=0.5,
    steps=12,
    validate_every=2,
    patience=100,
    select_by="loss",
    optimizer="sgd",
    lr_times_one_minus_momentum=True,
    warmup_steps=3,
    decay="linear",
    clip_norm=0.05,
)


class Reader(nn.Module):
    """Says the next token from this one alone."""

    def __init__(self, seed):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Embedding(VOCABULARY, WIDTH)
            self.site, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, VOCABULARY)

    def forward(self, ids):
        return self.head(torch.tanh(self.site(self.embedding(ids))))


def ids(rows, seed):
    return torch.randint(VOCABULARY, (rows, 5), generator=torch.Generator().manual_seed(seed))


def start(**given):
    """An alignment of two readers, and what a fit of it takes."""
    readers = [Reader(seed).eval() for seed in (0, 1)]
    plan = methods.stitch(accessible=1, kind="affine", **given)
    sites = [wrap(reader, name=f"reader {index}").at("site") for index, reader in enumerate(readers)]
    return Alignment.from_plan(plan, sites), plan, shared_text_pairs(ids(8, 2)), shared_text_pairs(ids(6, 3)), readers


def by_hand(readers, weight, bias, train, steps):
    """The same training in plain torch: the stitch is an affine map in front of the second reader's tail."""
    weight, bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    rate = SGD.learning_rate * (1 - SGD.momentum)
    optimizer = torch.optim.SGD([weight, bias], lr=rate, momentum=SGD.momentum, nesterov=True)
    from transformers.optimization import get_linear_schedule_with_warmup

    schedule = get_linear_schedule_with_warmup(optimizer, SGD.warmup_steps, SGD.steps)
    for rows in steps:
        read = train[rows]
        with torch.no_grad():
            h = readers[0].site(readers[0].embedding(read))
        logits = readers[1].head(torch.tanh(h @ weight.T + bias))[:, :-1]
        loss = nn.functional.cross_entropy(logits.mT, read[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([weight, bias], SGD.clip_norm)
        optimizer.step()
        schedule.step()
    return weight, bias


def test_sgd_is_torchs_own_with_transformers_schedule():
    alignment, plan, train, valid, readers = start()
    one = alignment.transports["0_1"]
    first = one.weight.detach().clone(), one.bias.detach().clone()
    loop = FitLoop(alignment, plan, (train, valid), SGD, {})
    (batches,) = loop.batches.values()
    steps = [batches.at(step) for step in range(SGD.steps)]
    for _ in range(SGD.steps):
        loop.step()
    weight, bias = by_hand(readers, *first, ids(8, 2), steps)
    torch.testing.assert_close(one.weight, weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one.bias, bias, rtol=1e-5, atol=1e-6)
    assert (weight - first[0]).abs().max() > 1e-3


def test_rates():
    rates = [SGD.rate(step, 12) for step in range(12)]
    full = 0.5 * (1 - 0.9)
    assert rates == pytest.approx([0, full / 3, 2 * full / 3, *(full * (12 - step) / 9 for step in range(3, 12))])
    assert {FitSettings().rate(step, 12) for step in range(12)} == {3e-3}
    assert SGD.model_copy(update={"lr_times_one_minus_momentum": False, "decay": "none"}).rate(9, 12) == 0.5


class Interrupted(Exception):
    pass


def test_sgd_goes_on_to_the_bit(tmp_path, monkeypatch):
    """The momentum is kept: without it the steps after the interruption would be others."""
    whole = start()
    done = fit(*whole[:4], SGD, progress=False)
    real = FitLoop.step

    def broken(self):
        if self.state.step == 7:
            monkeypatch.setattr(FitLoop, "step", real)
            raise Interrupted
        real(self)

    monkeypatch.setattr(FitLoop, "step", broken)
    with pytest.raises(Interrupted):
        fit(*start()[:4], SGD, folder=tmp_path, progress=False)
    again = start()
    resumed = fit(*again[:4], SGD, folder=tmp_path, progress=False)
    assert (resumed.curve, resumed.steps, resumed.stopped) == (done.curve, 12, "steps")
    for name, tensor in whole[0].state_dict().items():
        assert torch.equal(tensor, again[0].state_dict()[name]), name


def test_the_lowest_validation_loss_is_kept():
    """A rate that first helps and then does harm: the best step lies in between, and the maps are those of it."""
    alignment, plan, train, valid, readers = start()
    wild = SGD.model_copy(
        update={"learning_rate": 30.0, "clip_norm": None, "warmup_steps": 0, "decay": "none", "validate_every": 1}
    )
    done = fit(alignment, plan, train, valid, wild, progress=False)
    losses = {row.step: row.value for row in done.curve}
    assert {row.measure for row in done.curve} == {"loss"}
    best = min(losses, key=losses.get)
    assert done.best_step == best
    assert done.best_iia == -losses[best]
    one, read = alignment.transports["0_1"], ids(6, 3)
    with torch.no_grad():
        h = readers[0].site(readers[0].embedding(read)) @ one.weight.T + one.bias
        logits = readers[1].head(torch.tanh(h))[:, :-1]
    assert float(nn.functional.cross_entropy(logits.mT, read[:, 1:])) == pytest.approx(losses[best], rel=1e-5)
    assert best != max(losses)


def test_what_defaults_leave_as_it_was():
    """IIA chooses, Adam steps at one rate, rows carry no loss."""
    alignment, plan, train, valid, _ = start()
    done = fit(alignment, plan, train, valid, FitSettings(batch_size=4, epochs=2), progress=False)
    assert {row.measure for row in done.curve} == {None}
    assert done.stopped == "epochs"
    assert done.best_iia == max(row.iia for row in done.curve)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"stop_at": 0.9}, "FitSettings.stop_at is 0.9, but must be None where the loss chooses: it is an IIA"),
        ({"warmup_steps": 12}, "FitSettings.warmup_steps is 12, but must be below the 12 steps"),
        ({"optimizer": "adam"}, "FitSettings.lr_times_one_minus_momentum is True, but must be False: only sgd has"),
    ],
)
def test_refusals(given, said):
    with pytest.raises(SettingError, match=re.escape(said)):
        FitSettings(**{**SGD.model_dump(), **given})
