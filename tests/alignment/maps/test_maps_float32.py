import pytest
import torch
import transformers

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.hooks.wrap import wrap


def site():
    torch.manual_seed(0)
    c = transformers.GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=4)
    return wrap(transformers.GPT2LMHeadModel(c).eval()).at("blocks.0.hook_resid_post")


@pytest.mark.parametrize("kind", ["frame", "rotation", "fixed", "reversible"])
def test_autocast_does_not_reach_the_mixing(kind):
    alignment, (own, given) = Alignment([site(), site()], rank=5, kind=kind), torch.randn(2, 6, 32).bfloat16()
    expected = alignment.interchange(own, given, target=0, source=1)
    with torch.autocast("cpu", torch.bfloat16):
        found = alignment.interchange(own, given, target=0, source=1)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", ["frame", "rotation", "fixed", "reversible"])
def test_maps_made_under_a_low_default_dtype_are_float32(kind):
    where = site()
    torch.set_default_dtype(torch.bfloat16)
    try:
        alignment = Alignment(where, rank=5, kind=kind, scale="fixed" if kind == "fixed" else "learned", zscore=True)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {tensor.dtype for tensor in alignment.state_dict().values()} == {torch.float32}
