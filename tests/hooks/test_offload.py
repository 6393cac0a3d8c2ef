"""Models that accelerate keeps elsewhere, in other memory or on disk: they answer as the loaded model does."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model
from hooks.hook_models import Cells, Fused, ids
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.core.errors import UnsupportedError
from mas_hooks.core.sites import Where
from mas_hooks.hooks.checks import check_place, execution_device
from mas_hooks.hooks.read import read_site
from mas_hooks.hooks.wrap import wrap

WIDTH, VOCABULARY, BLOCK = 32, 40, "blocks.0.hook_resid_post"
TOKENS = torch.randint(0, VOCABULARY, (2, 6), generator=torch.Generator().manual_seed(3))
WHERE = Where([0, 1], [2, 3])


def language_model():
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = Qwen2Config(vocab_size=VOCABULARY, num_hidden_layers=2, initializer_range=0.2, **sizes)
    return Qwen2ForCausalLM(config).eval()


def swapped(module, name, side="output", width=WIDTH):
    """Logits and the map's gradient under a swap, and the site's cells."""
    model = wrap(module)
    site = model.at(name, side, width)
    alignment = Alignment(site, rank=3)
    given = torch.randn(2, width, generator=torch.Generator().manual_seed(1))
    logits = model.run_with_hooks(TOKENS, alignment.edit(target=0, source=0, vectors=given, where=WHERE))
    logits.square().sum().backward()
    return logits.detach(), alignment.site_maps[0].weight.grad, read_site(model, site, TOKENS, WHERE)


SITES = {
    "after a block": (BLOCK, "output", WIDTH),
    "before a block": ("blocks.1.hook_resid_pre", "output", WIDTH),
    "before a linear": ("model.layers.1.mlp.down_proj", "input", 48),
}
CPU = torch.device("cpu")
LAST_ON_DISK = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk"}
FIRST_ON_DISK = {"model.embed_tokens": "disk", "model.layers.0": "disk", "model.layers.1": "cpu"}
REST = {"model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}


def loaded(folder, device_map):
    language_model().save_pretrained(folder / "saved")
    return Qwen2ForCausalLM.from_pretrained(
        folder / "saved", device_map=device_map, offload_folder=folder / "offload", dtype=torch.float32
    )


OFFLOADED = {
    "all on the cpu": lambda _: dispatch_model(language_model(), {"": "cpu"}),
    "cpu offload": lambda _: cpu_offload(language_model(), CPU),
    "disk offload": lambda at: disk_offload(language_model(), at, CPU),
    "last block on disk": lambda at: dispatch_model(language_model(), LAST_ON_DISK | REST, CPU, offload_dir=at),
    "first block on disk": lambda at: dispatch_model(language_model(), FIRST_ON_DISK | REST, CPU, offload_dir=at),
    "loaded in parts": lambda at: loaded(at, FIRST_ON_DISK | REST),
    "loaded from disk": lambda at: loaded(at, {"": "disk"}),
}


@pytest.mark.parametrize("how", OFFLOADED)
@pytest.mark.parametrize("where", SITES)
def test_an_offloaded_model_answers_as_the_loaded_one(how, where, tmp_path):
    module = OFFLOADED[how](tmp_path)
    assert any(parameter.is_meta for parameter in module.parameters()) == (how != "all on the cpu")
    found, expected = swapped(module, *SITES[where]), swapped(language_model(), *SITES[where])
    assert (expected[0] - language_model()(TOKENS).logits).abs().max() > 1e-2, "the swap changes nothing"
    assert expected[1].norm() > 1e-2
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert wrap(module).device == CPU


def test_what_follows_the_blocks_of_gpt2_offloaded():
    torch.manual_seed(0)
    module = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=2, n_head=4)).eval()
    plain = wrap(module).run_with_cache(TOKENS, BLOCK)
    offloaded = wrap(cpu_offload(module, CPU)).run_with_cache(TOKENS, BLOCK)
    assert torch.equal(plain[0], offloaded[0])  # the head's weight is tied to the embedding
    assert torch.equal(plain[1][BLOCK], offloaded[1][BLOCK])


def hooked(module, device=None, several=None):
    module._hf_hook = SimpleNamespace(execution_device=device) if several is None else SimpleNamespace(hooks=several)
    return module


def test_the_execution_device_is_the_first_that_is_told():
    meta, here = torch.device("meta"), nn.Linear(1, 1)
    assert execution_device(nn.Identity()) == CPU
    assert execution_device(nn.Linear(1, 1, device="meta")) == meta
    assert execution_device(nn.Sequential(nn.Identity(), here)) == CPU
    assert execution_device(hooked(nn.Sequential(here), "meta")) == meta
    assert execution_device(hooked(nn.Sequential(nn.Linear(1, 1, device="meta"), hooked(here, meta)))) == meta
    assert execution_device(hooked(nn.Sequential(nn.Linear(1, 1, device="meta"), nn.Linear(1, 1)))) == CPU
    both = (SimpleNamespace(execution_device="cpu"), SimpleNamespace(execution_device="meta"), SimpleNamespace())
    assert execution_device(hooked(nn.Linear(1, 1), several=both)) == meta


def test_states_inside_an_offloaded_gru_are_refused_and_those_of_cells_are_not():
    def states(module):
        model = wrap(module, logits=lambda out: out[0])
        return model.run_with_cache(ids(), "state")[1]["state"]

    with pytest.raises(UnsupportedError, match=r"^hooking the states of GRU 'rnn', whose weights are offloaded"):
        states(cpu_offload(Fused(nn.GRU), CPU))
    assert torch.equal(states(cpu_offload(Cells(nn.LSTMCell), CPU)), states(Cells(nn.LSTMCell)))
    check_place(cpu_offload(Fused(nn.GRU), CPU), "rnn")  # what goes in and comes out of it can be hooked
