"""Swaps by TransformerLens' and pyvene's own intervention classes, on the same weights and frame, give our logits."""

import copy
import warnings

import pytest
import torch
from hooks.conformance.backend_models import FAMILIES, bridge, hf
from hooks.conformance.batches import BATCH, distance, ids

import mas_hooks as mh
from mas_hooks.alignment.maps.base import complete_basis

CLOSE, RANK, WIDTH, LAYER = 1e-5, 5, 32, 1
COLUMNS = torch.tensor([4, 9, 0])
SITE = f"blocks.{LAYER}.hook_resid_post"
BLOCKS = {"gpt2": "transformer.h", "qwen2": "model.layers", "gemma2": "model.layers"}


def frame():
    return torch.linalg.qr(torch.randn(WIDTH, RANK, generator=torch.Generator().manual_seed(4)))[0]


def ours(model, kind="frame"):
    """Logits of a swap from other ids at one column of each row, and the source's activations there."""
    handle = mh.wrap(model)
    align = mh.Alignment([handle.at(SITE)], rank=RANK, kind=kind)
    align.set_frames([frame()])
    where = mh.Where.one_per_row(COLUMNS)
    with torch.no_grad():
        source = handle.run_with_cache(ids(7), [SITE], positions=where)[1][SITE]
        edit = align.edit(target=0, source=0, vectors=source, where=where)
        return handle.run_with_hooks(ids(), [edit]), source


@pytest.mark.parametrize("family", FAMILIES)
def test_transformer_lens_interchanges_the_same_subspace(family):
    from transformer_lens.tools import analysis

    model = bridge(copy.deepcopy(hf(family)))
    logits, _ = ours(hf(family))
    swap, name = analysis.SubspaceInterchange(frame()), f"blocks.{LAYER}.hook_out"
    with torch.no_grad():
        source = model.run_with_cache(ids(7))[1][name][torch.arange(BATCH), COLUMNS]
        found = analysis.run_with_intervention(model, name, swap, ids(), source, model, positions=COLUMNS)
        plain = model(ids())
    assert distance(logits, found) < CLOSE
    assert distance(logits, plain) > 1e-2


def test_transformer_lens_interchanges_the_same_vectors():
    """base + (source − base) B Bᵀ, without a model."""
    from transformer_lens.tools import analysis

    _, source = ours(hf())
    handle = mh.wrap(hf())
    align = mh.Alignment([handle.at(SITE)], rank=RANK)
    align.set_frames([frame()])
    base = torch.randn(source.shape, generator=torch.Generator().manual_seed(5))
    found = align.interchange(base, source, target=0, source=0).detach()
    assert distance(found, analysis.SubspaceInterchange(frame())(base, source)) < CLOSE


def pyvene_logits(family, intervention):
    """pyvene removes all forward hooks at every call: it gets a copy of the model."""
    import pyvene

    place = {"component": f"{BLOCKS[family]}[{LAYER}].output", "intervention": intervention}
    model = pyvene.IntervenableModel(pyvene.IntervenableConfig([place]), copy.deepcopy(hf(family)))
    model.set_device("cpu", set_model=False)
    where = [[[int(column)] for column in COLUMNS]]
    with torch.no_grad():
        _, out = model({"input_ids": ids()}, [{"input_ids": ids(7)}], {"sources->base": (where, where)})
    return out.logits


@pytest.fixture
def pyvene():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pyvene as found
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_pyvenes_low_rank_rotation_is_our_frame(pyvene, family):
    intervention = pyvene.LowRankRotatedSpaceIntervention(embed_dim=WIDTH, low_rank_dimension=RANK)
    intervention.rotate_layer.weight = frame()
    logits, _ = ours(hf(family))
    assert distance(logits, pyvene_logits(family, intervention)) < CLOSE


@pytest.mark.parametrize("family", FAMILIES)
def test_pyvenes_full_rotation_is_our_full_rotation_and_our_frame(pyvene, family):
    intervention = pyvene.RotatedSpaceIntervention(embed_dim=WIDTH)
    intervention.set_interchange_dim(RANK)
    intervention.rotate_layer.weight = complete_basis(frame().double()).float()
    wanted = pyvene_logits(family, intervention)
    for kind in ("frame", "rotation"):
        assert distance(ours(hf(family), kind)[0], wanted) < CLOSE, kind
