"""Stitches between linear models whose right answer is known, and between toys beside MAS with every dim."""

import itertools

import pytest
import torch
from torch import nn

from mas_hooks.alignment import methods
from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.maps import MapSpec
from mas_hooks.alignment.plan import Direction
from mas_hooks.core.sites import Where
from mas_hooks.data.counterfactual_latents import NaturalCells
from mas_hooks.data.pairs import Pairs
from mas_hooks.evaluation.evaluate import evaluate
from mas_hooks.evaluation.metrics import wilson_interval
from mas_hooks.hooks.wrap import wrap
from mas_hooks.training.fit import fit
from mas_hooks.training.loop import FitLoop, FitSettings

WIDTH = 3
GRID = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=WIDTH)))  # the 27 causes that are asked about
READ = torch.cat([torch.eye(WIDTH), torch.zeros(1, WIDTH)]) * torch.log(torch.tensor(2.0))
"""What both models say of a cause x: p(v) ∝ 2^x_v, and ∝ 1 for the last token."""


class Linear(nn.Module):
    """h = A x, and logits that are those of x, whatever A is."""

    def __init__(self, matrix):
        super().__init__()
        self.site, self.head = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH + 1, bias=False)
        self.site.weight.data, self.head.weight.data = matrix.clone(), READ @ torch.linalg.inv(matrix)

    def forward(self, x):
        return self.head(self.site(x))


@pytest.fixture
def matrices():
    """A₁ and A₂, well conditioned and unlike each other; the second of unequal singular values."""
    generator = torch.Generator().manual_seed(4)
    turns = [torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator))[0] for _ in range(4)]
    sizes = [torch.tensor([1.0, 1.4, 0.7]), torch.tensor([1.6, 1.0, 0.6])]
    return [one @ torch.diag(own) @ other for one, own, other in zip(turns[:2], sizes, turns[2:], strict=True)]


def sites_of(matrices):
    models = [wrap(Linear(own).eval(), name=f"linear {index}") for index, own in enumerate(matrices)]
    return [model.at("site", width=WIDTH) for model in models]


def behaviour_pairs():
    """Every cause with each label as often as the models say it: the loss is least where the logits are right."""
    chances = torch.cat([2.0 ** (GRID + 1), torch.full((len(GRID), 1), 2.0)], dim=1).long()
    label = torch.arange(WIDTH + 1).repeat(len(GRID)).repeat_interleave(chances.flatten())
    x = GRID.repeat_interleave(chances.sum(1), dim=0)
    cells = Where.one_per_row(torch.zeros(len(x), dtype=torch.int64))
    other = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
    return Pairs.from_tensors(x[:, None], cells, other[:, None], cells, label[:, None], torch.ones(len(x), 1).bool())


def latent_pairs(scale=1.0):
    """Every cause once, with the natural cells that hold it in the second model."""
    cells, numbers = Where.one_per_row(torch.zeros(len(GRID), dtype=torch.int64)), torch.arange(len(GRID)).numpy()
    given = (scale * GRID)[:, None]
    nothing = torch.zeros(len(GRID), 1, dtype=torch.int64)
    pairs = Pairs.from_tensors(given, cells, given.flip(0), cells, nothing, nothing == 0, expected={"x": numbers})
    return pairs, NaturalCells("the grid", given, cells, {"x": numbers})


def trained(plan, sites, pairs, steps, rate, cells=None):
    """The stitch 0 → 1 after so many steps on all pairs; not the best in IIA, which says nothing here."""
    alignment = Alignment.from_plan(plan, sites)
    loop = FitLoop(alignment, plan, (pairs, pairs), FitSettings(batch_size=len(pairs), learning_rate=rate), cells or {})
    for _ in range(steps):
        loop.step()
    return alignment, alignment.direction_transports[Direction(0, 1)]


def off(found, wanted):
    """The distance in shares of the length."""
    return float((found.detach() - wanted).norm() / wanted.norm())


FRESH = 3 * torch.randn(40, WIDTH, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("kind", [{}, {"rank": WIDTH}, {"zscore": True}])
def test_behaviour_alone_finds_the_linear_map_between_two_models(kind, matrices):
    """W = A₂ A₁⁻¹, although no activation of the second model was ever a target."""
    sites, (a_1, a_2) = sites_of(matrices), matrices
    alignment, stitch = trained(methods.stitch(1, **kind), sites, behaviour_pairs(), 600, 0.03)
    assert off(stitch.forward(FRESH @ a_1.T), FRESH @ a_2.T) < 2e-3
    cells = Where.one_per_row(torch.zeros(len(FRESH), dtype=torch.int64))
    label = torch.zeros(len(FRESH), 1, dtype=torch.int64)
    pairs = Pairs.from_tensors(FRESH[:, None], cells, FRESH.flip(0)[:, None], cells, label, label == 0)
    out = alignment.run(pairs, source=0, target=1)
    assert off(out.logits, sites[0].model.forward(FRESH[:, None])[:, 0].detach()) < 2e-3


@pytest.mark.parametrize("kind", [{}, {"rank": WIDTH}])
def test_latents_alone_find_it_too(kind, matrices):
    sites, (pairs, natural) = sites_of(matrices), latent_pairs()
    plan = methods.latent_fit(0, kind="linear", **kind)
    _, stitch = trained(plan, sites, pairs, 400, 0.03, {1: natural})
    assert off(stitch.forward(FRESH @ matrices[0].T), FRESH @ matrices[1].T) < 2e-3


@pytest.mark.parametrize("rank", [1, 2])
def test_a_stitch_of_low_rank_is_the_best_of_that_rank(rank, matrices):
    """Not W cut to its first singular values, but the cut of what it is to give (Eckart & Young; Izenman 1975).

    Activations are made 50 times as long: the cosine's half is then nothing beside the squares, which the law is of.
    """
    sites, (pairs, natural) = sites_of(matrices), latent_pairs(50.0)
    plan = methods.latent_fit(0, kind="linear", rank=rank)
    _, stitch = trained(plan, sites, pairs, 500, 0.03, {1: natural})
    given, wanted = 50 * GRID @ matrices[0].T, 50 * GRID @ matrices[1].T
    u, sizes, vt = torch.linalg.svd(wanted, full_matrices=False)
    best = u[:, :rank] * sizes[:rank] @ vt[:rank]
    assert off(stitch.forward(given), best) < 5e-3
    whole = matrices[1] @ torch.linalg.inv(matrices[0])
    u, sizes, vt = torch.linalg.svd(whole)
    cut = u[:, :rank] * sizes[:rank] @ vt[:rank]
    assert off(given @ cut.T, best) > 0.05


@pytest.fixture(scope="module")
def pooled(small_toys, small_pairs):
    """Right trials of 1 → 0 over two starts and their number, for orthogonal stitching and two ways to train maps."""
    settings = FitSettings(batch_size=64, learning_rate=3e-2, epochs=30)
    every = MapSpec(rank=16, centre=True)
    plans = [methods.stitch(0, kind="orthogonal", centre=True), methods.linear_map(0, every), methods.mas(every)]
    found = {}
    for plan, seed in itertools.product(plans, range(2)):
        sites = [wrap(one.model, name=f"gru-{index}").at("state") for index, one in enumerate(small_toys)]
        alignment = Alignment.from_plan(plan, sites, seed)
        fit(alignment, plan, *small_pairs[:2], settings, progress=False)
        row = evaluate(alignment, small_pairs[2]).of(1, 0)
        right, trials = found.get(plan.method, (0, 0))
        found[plan.method] = (right + round(row.iia * row.trials), trials + row.trials)
    return found


def test_maps_with_every_dim_do_as_orthogonal_stitching_does(pooled):
    """k = d (Grant 2025, §3.3): trained on the same direction, each lies within the other's 95% interval.

    Over two starts, as the sign of a determinant, which training cannot change, is a matter of chance in both.
    """
    one, other = pooled["orthogonal_stitching"], pooled["linear_map"]
    for (right, trials), (own, _) in [(one, other), (other, one)]:
        low, high = wilson_interval(right, trials)
        assert low <= own / trials <= high
        assert right / trials > 0.9


def test_mas_ties_both_ways_and_is_not_much_below(pooled):
    """W₁₀ = W₀₁ᵀ, and each map serves its own model too: MAS has fewer ways to be right than two free stitches."""
    (right, trials), (own, _) = pooled["orthogonal_stitching"], pooled["mas"]
    assert right / trials + 0.03 > own / trials > right / trials - 0.08
