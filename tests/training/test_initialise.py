"""Where a fit begins: calibration, principal and Procrustes starts from real pairs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import mas_hooks as mh
from mas_hooks.alignment.maps.init import random_frame
from mas_hooks.core.errors import EmptyError
from mas_hooks.core.sites import Where
from mas_hooks.data.pairs import Pairs
from mas_hooks.engine.cache import ActivationCache
from mas_hooks.training.initialise import initialise_from_data, mean_by_key

STATES = 7


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(5)


def recordings(widths, generator, rows=60, noise=0.0, spread=None):
    """Models that hold one causal state each row, every one in its own directions; and pairs that read them."""
    keys = torch.arange(rows) % STATES
    causes = torch.randn(STATES, 3, generator=generator) * torch.tensor([3.0, 2.0, 1.0]) + 1
    sites = []
    for index, width in enumerate(widths):
        h = 2 + causes[keys] @ random_frame(width, 3, generator).mT
        h = h + noise * torch.randn(h.shape, generator=generator)
        sites.append(mh.recording(h if spread is None else h * spread[:width], {}, name=f"brain {index}"))
    cells = Where(torch.arange(rows), torch.zeros(rows))
    labels = torch.zeros(rows, 1)
    pairs = Pairs(None, cells, labels, cells, labels.long(), labels == 0, labels == 0, keys)
    return sites, pairs


def begun(sites, pairs, rank=3, **spec):
    align = mh.Alignment(sites, rank=rank, **spec)
    initialise_from_data(align, ActivationCache(align.sites, align.models), pairs)
    return align


def coordinates(align):
    return [
        view.read(site.activations[:, 0]) for view, site in zip(align.swap_operator().views, align.sites, strict=True)
    ]


@pytest.mark.parametrize("kind", ["frame", "rotation", "fixed"])
@pytest.mark.parametrize("widths", [(6, 6), (6, 8), (5, 7, 6)])
def test_procrustes_gives_rotated_copies_the_same_coordinates(kind, widths, generator):
    align = begun(*recordings(widths, generator), kind=kind, init="procrustes", centre=True)
    read = coordinates(align)
    for other in read[1:]:
        assert torch.allclose(read[0][:, :3], other[:, :3], atol=1e-5)
    assert read[0].std() > 0.5


@pytest.mark.parametrize("kind", ["frame", "rotation", "reversible"])
@pytest.mark.parametrize("widths", [(6, 6, 6), (6, 5, 8, 7)])
def test_new_maps_begin_at_what_the_frozen_ones_read(kind, widths, generator):
    """Two maps in one space, turned together away from their own start; the others read the same there."""
    sites, pairs = recordings(widths, generator)
    pair = begun(sites[:2], pairs, kind=kind, init="procrustes", centre=True)
    turn = random_frame(3, 3, generator)
    starts = [view.frame if kind != "reversible" else view.linear.frame for view in pair.swap_operator().views]
    pair.set_frames([start.detach()[:, :3] @ turn for start in starts])
    before = coordinates(pair)
    assert torch.allclose(before[0][:, :3], before[1][:, :3], atol=1e-5)
    align = pair.extend(sites[2:])
    initialise_from_data(align, ActivationCache(align.sites, align.models), pairs, frozen={0, 1})
    after = coordinates(align)
    for index, z in enumerate(after):
        assert torch.allclose(z[:, :3], before[0][:, :3], atol=1e-4), index
    for name, tensor in pair.state_dict().items():
        assert torch.equal(align.state_dict()[name], tensor), name


def test_between_frozen_maps_that_disagree_a_new_one_begins_at_their_mean(generator):
    sites, pairs = recordings((6, 6, 6), generator, noise=0.5)
    pair = begun(sites[:2], pairs, centre=True)  # two random frames
    align = mh.Alignment(sites, rank=3, centre=True, init="procrustes")
    align.load_state_dict(pair.state_dict(), strict=False)
    initialise_from_data(align, ActivationCache(align.sites, align.models), pairs, frozen={0, 1})
    read = [mean_by_key([z], [pairs.source_key])[0].detach() for z in coordinates(align)]
    wanted = (read[0] + read[1]).double().numpy() / 2
    h = mean_by_key([sites[2].activations[:, 0]], [pairs.source_key])[0]
    x = (h - h.mean(0)).double().numpy()
    u, _, vt = np.linalg.svd(x.T @ wanted, full_matrices=False)
    assert np.allclose(align.site_maps[2].weight.detach().numpy(), u @ vt, atol=1e-4)


def test_a_model_that_only_receives_is_measured_where_it_does(generator):
    sites, pairs = recordings((6, 6), generator)
    pairs = replace(pairs, target_inputs=None)  # cells of the recording that receives
    align = begun(sites, {(1, 0): pairs}, centre=True)
    assert torch.allclose(align.site_maps[0].calibration.mean, sites[0].activations[:, 0].mean(0), atol=1e-5)
    with pytest.raises(EmptyError, match="the set of variable values that all models share is empty"):
        begun(sites, {(1, 0): pairs}, init="procrustes")
    with pytest.raises(EmptyError, match="the set of training pairs of brain 1 is empty; give pairs from or into"):
        begun(sites, {(0, 0): pairs})


def test_procrustes_of_one_model(generator):
    align = begun(*recordings((6,), generator), init="procrustes", centre=True)
    view, h = align.swap_operator().views[0], align.sites[0].activations[:, 0]
    assert align.plan.method == "das"
    assert torch.allclose(view.write(torch.zeros_like(h) + h.mean(0), view.read(h)), h, atol=1e-4)


def test_procrustes_with_more_dims_than_states(generator):
    align = begun(*recordings((9, 10), generator), rank=9, init="procrustes", centre=True)
    for one in align.swap_operator().views:
        assert torch.allclose(one.frame.mT @ one.frame, torch.eye(9), atol=1e-5)
    read = coordinates(align)
    assert torch.allclose(*read, atol=1e-4)


@pytest.mark.parametrize("zscore", [False, True])
def test_pca_is_that_of_what_the_map_sees(zscore, generator):
    spread = torch.tensor([100.0, 1, 1, 1, 1, 1, 1, 1])
    align = begun(
        *recordings((6, 8), generator, noise=0.3, spread=spread), rank=2, init="pca", centre=True, zscore=zscore
    )
    for view, site in zip(align.swap_operator().views, align.sites, strict=True):
        h = site.activations[:, 0].double().numpy()
        x = (h - h.mean(0)) / (h.std(0) if zscore else 1)
        _, _, directions = np.linalg.svd(x, full_matrices=False)
        assert np.allclose(np.abs(np.sum(directions[:2] * view.frame.detach().numpy().T, axis=1)), 1, atol=1e-4)


@pytest.mark.parametrize("init", ["random", "identity"])
def test_other_starts_stay_but_are_calibrated(init, generator):
    sites, pairs = recordings((6, 8), generator)
    before = mh.Alignment(sites, rank=3, init=init, zscore=True)
    after = begun(sites, pairs, init=init, zscore=True)
    for old, new, site in zip(before.site_maps, after.site_maps, sites, strict=True):
        assert torch.equal(old.weight, new.weight)
        assert torch.allclose(new.calibration.mean, site.activations[:, 0].mean(0), atol=1e-5)
        assert not torch.allclose(new.calibration.std, old.calibration.std)


@pytest.mark.parametrize("init", ["random", "pca", "procrustes"])
def test_a_begun_map_is_still_trainable(init, generator):
    align = begun(*recordings((6, 8), generator), init=init, centre=True)
    sum(z.square().sum() for z in coordinates(align)).backward()
    assert all(parameter.grad is not None for parameter in align.parameters())


def test_each_model_is_measured_where_it_gives(generator):
    """With pairs per direction, a model's activations are those of the directions that start from it."""
    sites, pairs = recordings((6, 6), generator)
    half = torch.arange(30)
    fewer = Pairs(None, Where(half, half * 0), *(
        getattr(pairs, name)[half] if torch.is_tensor(getattr(pairs, name)) else Where(half, half * 0)
        for name in ("target_inputs", "target_where", "labels", "label_mask", "deterministic_mask", "source_key")
    ))  # fmt: skip
    align = begun(sites, {(0, 0): pairs, (0, 1): pairs, (1, 0): fewer, (1, 1): fewer}, centre=True)
    assert torch.allclose(align.site_maps[0].calibration.mean, sites[0].activations[:, 0].mean(0), atol=1e-5)
    assert torch.allclose(align.site_maps[1].calibration.mean, sites[1].activations[:30, 0].mean(0), atol=1e-5)


def test_matched_means_by_hand():
    rows = [torch.tensor([[1.0, 2], [3, 4], [5, 6], [7, 8]]), torch.tensor([[1.0], [10], [20], [30]])]
    keys = [torch.tensor([9, 4, 9, 5]), torch.tensor([4, 9, 4, 7])]
    means = mean_by_key(rows, keys)
    assert torch.equal(means[0], torch.tensor([[3.0, 4], [3, 4]]))  # key 4, then key 9; 5 and 7 are dropped
    assert torch.equal(means[1], torch.tensor([[10.5], [10]]))


def test_matched_means_do_not_depend_on_the_order_of_the_rows(generator):
    h, keys = torch.randn(20, 3, generator=generator), torch.arange(20) % 6
    order = torch.randperm(20, generator=generator)
    assert torch.allclose(mean_by_key([h], [keys])[0], mean_by_key([h[order]], [keys[order]])[0], atol=1e-6)


def test_no_shared_state_is_told():
    rows = [torch.ones(2, 1), torch.ones(2, 1)]
    with pytest.raises(
        EmptyError,
        match=r"^the set of variable values that all models share is empty; use init='random' for these pairs",
    ):
        mean_by_key(rows, [torch.tensor([1, 2]), torch.tensor([3, 4])])
