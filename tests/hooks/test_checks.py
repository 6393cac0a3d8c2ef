"""Compiled models and models that recompute: each gives what the plain model gives, or is refused."""

import re

import pytest
import torch
from hooks.hook_models import Fused, Positionwise, ids
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.core.errors import UnsupportedError
from mas_hooks.core.sites import Where
from mas_hooks.hooks.checks import check_model, check_place, checkpointing_off
from mas_hooks.hooks.read import read_site
from mas_hooks.hooks.taps import Edit
from mas_hooks.hooks.wrap import wrap

WIDTH, VOCABULARY, BLOCK = 32, 40, "blocks.1.hook_resid_post"
TOKENS = torch.randint(0, VOCABULARY, (2, 6), generator=torch.Generator().manual_seed(3))
WHERE = Where([0, 1], [2, 3])
LOOKS_AT_GRADS = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
"""Torch's compiler looks at `.grad` of what enters each piece of a model whose code it cannot compile as one."""
AGAIN = "a model may be compiled again inside the `with` block of its hooks."


def language_model(layers=2):
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = Qwen2Config(vocab_size=VOCABULARY, num_hidden_layers=layers, initializer_range=0.2, **sizes)
    return Qwen2ForCausalLM(config).eval()


def swapped(module, name=BLOCK, side="output", width=WIDTH, run=None, seed=1):
    """Logits and the map's gradient under a swap, and the site's cells, read both ways."""
    model = wrap(module, layer_path="model.layers")
    site = model.at(name, side, width)
    alignment = Alignment(site, rank=3)
    vectors = torch.randn(2, width, generator=torch.Generator().manual_seed(seed))
    with model.hooks(alignment.edit(target=0, source=0, vectors=vectors, where=WHERE)):
        logits = model.forward(TOKENS) if run is None else run(module)(TOKENS, use_cache=False).logits
    logits.square().sum().backward()
    reads = [] if side == "input" else [model.run_with_cache(TOKENS, name, WHERE)[1][name].detach()]
    return [logits.detach(), alignment.site_maps[0].weight.grad, read_site(model, site, TOKENS, WHERE), *reads]


def assert_alike(found, expected):
    plain = language_model()(TOKENS).logits
    assert expected[1].norm() > 1e-3
    assert (expected[0] - plain).abs().max() > 1e-2, "the swap changes nothing, so that nothing is tested"
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.fixture
def dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def eagerly(module):
    return torch.compile(module, backend="eager")


def in_place(module):
    module.compile(backend="eager")
    return module


def by_forward(module):
    module.forward = eagerly(module.forward)
    return module


WAYS = {
    "torch.compile(…)": (eagerly, "use the module inside it, ._orig_mod"),
    ".compile()": (in_place, "undo that by ._compiled_call_impl = None"),
    ".forward = torch.compile(…)": (by_forward, "put its own forward back"),
}


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("called", [False, True])
def test_a_compiled_model_is_refused_with_the_remedy(by, called, dynamo):
    compile_it, remedy = WAYS[by]
    compiled = compile_it(Positionwise())
    if called:
        compiled(ids())
    sentence = f"hooking mine, compiled by {by}, is not supported; {remedy}; {AGAIN}"
    with pytest.raises(UnsupportedError, match=f"^{re.escape(sentence)}$"):
        wrap(compiled, name="mine")


def test_a_forward_compiled_in_its_class_is_refused(dynamo):
    class Compiled(Positionwise):
        forward = torch.compile(Positionwise.forward, backend="eager")

    with pytest.raises(UnsupportedError, match=re.escape("compiled by .forward = torch.compile(…)")):
        wrap(Compiled())


def test_a_forward_kept_out_of_compiling_is_not_refused(dynamo):
    model = Positionwise()
    model.forward = torch.compiler.disable(model.forward)
    assert "layers.1" in wrap(model).hook_points()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused():
    scripted = torch.jit.trace(Positionwise(), ids())
    with pytest.raises(UnsupportedError, match=r"^hooking Top.*by TorchScript.*the module that it was compiled from"):
        wrap(scripted)
    outer = nn.Sequential(scripted)
    with pytest.raises(UnsupportedError, match=r"^hooking inside '0' of Sequential, compiled by TorchScr"):
        check_place(outer, "0")


def undone(module):
    """What the sentences advise."""
    if hasattr(module, "_orig_mod"):
        return module._orig_mod
    module._compiled_call_impl = None
    return module


@pytest.mark.parametrize("by", ["torch.compile(…)", ".compile()"])
def test_the_remedy_helps(by, dynamo):
    compiled = WAYS[by][0](language_model())
    compiled(TOKENS)
    assert_alike(swapped(undone(compiled)), swapped(language_model()))


def test_compiled_after_wrapping_is_refused_when_hooks_are_set(dynamo):
    model = wrap(Positionwise(), name="mine")
    model.module.compile(backend="eager")
    with pytest.raises(UnsupportedError, match=re.escape("hooking Positionwise, compiled by .compile(), is not")):
        model.run_with_cache(ids(), "layers.1")
    undone(model.module)
    assert model.run_with_cache(ids(), "layers.1")[1]["layers.1"].shape == (3, 6, 4)


@LOOKS_AT_GRADS
@pytest.mark.parametrize("replaced", [True, False])
def test_hooks_on_blocks_compiled_one_by_one_are_seen_and_those_inside_refused(replaced, dynamo):
    module = language_model()
    for index, block in enumerate(module.model.layers):
        if replaced:
            module.model.layers[index] = eagerly(block)
        else:
            block.compile(backend="eager")
    module(TOKENS)
    assert_alike(swapped(module), swapped(language_model()))
    inside = "model.layers.1._orig_mod.mlp" if replaced else "model.layers.1.mlp"
    model = wrap(module, layer_path="model.layers")
    with pytest.raises(UnsupportedError, match=r"^hooking inside 'model\.layers\.1' of Qwen2ForCausalLM, compiled by"):
        model.run_with_cache(TOKENS, inside)
    check_place(module, "lm_head")


@LOOKS_AT_GRADS
def test_compiled_inside_the_block_of_its_hooks_equals_the_plain_model(dynamo):
    assert_alike(swapped(language_model(), run=eagerly), swapped(language_model()))


@LOOKS_AT_GRADS
def test_code_compiled_under_one_edit_answers_neither_another_nor_none(dynamo):
    """With the graph of the backward pass compiled too (aot)."""
    module = Positionwise()
    compiled, model = torch.compile(module, backend="aot_eager"), wrap(module)
    plain = module(ids())
    for amount in (1.0, 2.0):
        shift = torch.full((4,), amount, requires_grad=True)
        edit = Edit(model.at("layers.1", width=4), lambda h, shift=shift: h + shift, Where([0, 1], [2, 3]))
        with model.hooks(edit):
            found, expected = compiled(ids()), module(ids())
        torch.testing.assert_close(found, expected)
        assert not torch.allclose(found, plain)
        grads = [torch.autograd.grad(logits.square().sum(), shift)[0] for logits in (found, expected)]
        torch.testing.assert_close(*grads)
        torch.testing.assert_close(compiled(ids()), plain)


SITES = {
    "after a block": (BLOCK, "output", WIDTH),
    "before a block": ("blocks.1.hook_resid_pre", "output", WIDTH),
    "inside a block": ("model.layers.1.mlp", "output", WIDTH),
    "before a linear": ("model.layers.1.mlp.down_proj", "input", 48),
}


@pytest.mark.parametrize("where", SITES)
@pytest.mark.parametrize("reentrant", [True, False])
def test_under_gradient_checkpointing_the_map_gets_its_whole_gradient(where, reentrant):
    module = language_model().train()
    module.activation_checkpointing_enable({"use_reentrant": reentrant})
    assert_alike(swapped(module, *SITES[where]), swapped(language_model(), *SITES[where]))
    assert module.is_activation_checkpointing


def flags(module):
    return {path: part.__dict__.get("gradient_checkpointing") for path, part in module.named_modules()}


def test_checkpointing_is_switched_on_again_where_it_was_on():
    module = language_model(3).train()
    module.activation_checkpointing_enable(every_n_layers=2)
    before = flags(module)
    assert before["model.layers.0"] is True
    assert before["model.layers.1"] is False
    with checkpointing_off(module):
        with checkpointing_off(module):
            assert True not in flags(module).values()
        assert True not in flags(module).values()
    assert flags(module) == before


def test_checkpointing_is_switched_on_again_after_an_error():
    module = language_model().train()
    module.activation_checkpointing_enable()

    def failing(_h):
        assert not module.is_activation_checkpointing
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        wrap(module).run_with_hooks(TOKENS, [(BLOCK, failing)])
    assert module.is_activation_checkpointing


def test_a_flag_of_the_class_is_covered_and_comes_back():
    class Always(nn.Identity):
        gradient_checkpointing = True

    module = nn.Sequential(Always())
    with checkpointing_off(module):
        assert module[0].gradient_checkpointing is False
    assert module[0].gradient_checkpointing is True
    assert flags(module) == {"": None, "0": None}


def test_an_ordinary_model_passes():
    check_model(language_model(), "mine")
    check_place(language_model(), "model.layers.1.mlp")
    check_place(Fused(nn.GRU), "rnn", states=True)
    check_place(Positionwise(), "")
