"""Models in bf16, fp16 or eight bits: the maps stay float32, and what would cut their gradient is refused."""

import copy
from types import SimpleNamespace

import pytest
import torch
import transformers
from hooks.hook_models import Positionwise
from torch import nn

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.core.errors import UnsupportedError
from mas_hooks.core.sites import Where
from mas_hooks.hooks.checks import check_model
from mas_hooks.hooks.read import read_site
from mas_hooks.hooks.taps import Edit
from mas_hooks.hooks.wrap import wrap

WIDTH, VOCABULARY, BLOCK = 32, 40, "blocks.0.hook_resid_post"
TOKENS = torch.randint(0, VOCABULARY, (2, 6), generator=torch.Generator().manual_seed(3))
WHERE = Where([0, 1], [2, 3])
LOW = [torch.bfloat16, torch.float16]

SIZES = {"vocab_size": VOCABULARY, "initializer_range": 0.2}
LLAMA = SIZES | {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
GPT = SIZES | {"n_embd": WIDTH, "n_layer": 2, "n_head": 4}
FAMILIES = {
    "qwen2": lambda: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**LLAMA)),
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT)),
}


def language_model(family="qwen2"):
    torch.manual_seed(0)
    return FAMILIES[family]().eval()


def vectors(width=WIDTH):
    return torch.randn(2, width, generator=torch.Generator().manual_seed(1))


def swapped(module, name=BLOCK, side="output", width=WIDTH, given=None):
    """Logits and the map's gradient under a swap, and the site's cells."""
    model = wrap(module)
    site = model.at(name, side, width)
    alignment = Alignment(site, rank=3)
    edit = alignment.edit(target=0, source=0, vectors=vectors(width) if given is None else given, where=WHERE)
    logits = model.run_with_hooks(TOKENS, edit)
    logits.square().sum().backward()
    return logits.detach(), alignment.site_maps[0].weight.grad, read_site(model, site, TOKENS, WHERE)


@pytest.fixture(params=LOW, ids=["bf16", "fp16"])
def dtype(request):
    return request.param


@pytest.mark.parametrize("family", FAMILIES)
def test_an_edit_gets_and_gives_back_the_dtype_of_the_model(family, dtype):
    model = wrap(language_model(family).to(dtype))
    plain, got = model.forward(TOKENS), []

    def to_float(h):
        got.append(h.dtype)
        return h.float()

    assert torch.equal(model.run_with_hooks(TOKENS, Edit(model.at(BLOCK), to_float, WHERE)), plain)
    assert got == [dtype]
    assert plain.dtype == dtype
    assert torch.equal(model.run_with_hooks(TOKENS, [(BLOCK, torch.Tensor.float)]), plain)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["frame", "rotation"])
def test_a_swap_with_its_own_vectors_changes_no_bit(family, kind, dtype):
    model = wrap(language_model(family).to(dtype))
    own = model.run_with_cache(TOKENS, BLOCK, WHERE)[1][BLOCK]
    assert own.dtype == dtype
    alignment = Alignment(model.at(BLOCK), rank=5, kind=kind).to(dtype)
    edit = alignment.edit(target=0, source=0, vectors=own, where=WHERE)
    assert torch.equal(model.run_with_hooks(TOKENS, edit), model.forward(TOKENS))


def test_a_swap_is_mixed_in_float32_and_rounded_once(dtype):
    model = wrap(language_model().to(dtype))
    alignment = Alignment([model.at(BLOCK)] * 2, rank=5)
    own, given = model.run_with_cache(TOKENS, BLOCK, WHERE)[1][BLOCK], vectors().to(dtype)
    mixed = alignment.interchange(own, given, target=0, source=1)
    assert mixed.dtype == torch.float32
    exact = copy.deepcopy(alignment).double().interchange(own, given, target=0, source=1)
    torch.testing.assert_close(mixed, exact.float(), rtol=1e-5, atol=1e-6)
    edit = alignment.edit(target=0, source=1, vectors=given, where=WHERE)
    with model.hooks(edit):
        put = model.run_with_cache(TOKENS, BLOCK, WHERE)[1][BLOCK]
    assert torch.equal(put, mixed.to(dtype))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_map_of_a_low_precision_model_gets_a_float32_gradient(family, dtype):
    low, full = swapped(language_model(family).to(dtype)), swapped(language_model(family))
    assert low[0].dtype == low[2].dtype == dtype
    assert low[1].dtype == torch.float32
    assert (low[1] - full[1]).norm() < 0.1 * full[1].norm()


CASTS = {
    "to": lambda module, dtype: module.to(dtype),
    "to device and dtype": lambda module, dtype: module.to("cpu", dtype),
    "half or bfloat16": lambda module, dtype: module.half() if dtype == torch.float16 else module.bfloat16(),
}


@pytest.mark.parametrize("cast", CASTS)
@pytest.mark.parametrize("kind", ["frame", "rotation", "fixed"])
def test_casts_leave_every_number_of_a_map_alone(cast, kind, dtype):
    scale = "fixed" if kind == "fixed" else "learned"
    alignment = Alignment(wrap(language_model()).at(BLOCK), rank=5, kind=kind, scale=scale, centre=True, zscore=True)
    alignment.site_maps[0].calibration.fit(torch.rand(9, WIDTH))
    before = copy.deepcopy(alignment.state_dict())
    CASTS[cast](alignment, dtype)
    after = alignment.state_dict()
    assert {name: tensor.dtype for name, tensor in after.items()} == dict.fromkeys(before, torch.float32)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.fixture
def saved(tmp_path):
    language_model().save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def quantized(folder, kind):
    import torchao.quantization

    config = transformers.TorchAoConfig(getattr(torchao.quantization, kind)())
    return transformers.Qwen2ForCausalLM.from_pretrained(folder, quantization_config=config, dtype=torch.float32)


def dequantized(module):
    """The float model with the very weights that the quantized one computes with."""
    twin = language_model()
    for path, part in module.named_modules():
        if isinstance(part, nn.Linear) and hasattr(part.weight, "qdata"):
            twin.get_submodule(path).weight = nn.Parameter(part.weight.dequantize())
    return twin


def test_a_model_of_int8_weights_is_edited_as_its_float_twin(saved):
    module = quantized(saved, "Int8WeightOnlyConfig")
    assert module.model.layers[0].mlp.up_proj.weight.qdata.dtype == torch.int8
    model, twin = wrap(module), dequantized(module)
    plain = model.forward(TOKENS)
    assert (plain - language_model()(TOKENS).logits).abs().max() > 1e-3, "nothing was quantized"
    assert torch.equal(model.run_with_hooks(TOKENS, Edit(model.at(BLOCK), lambda h: h, WHERE)), plain)
    for name, side, width in ((BLOCK, "output", WIDTH), ("model.layers.0.mlp.down_proj", "input", 48)):
        found, expected = swapped(module, name, side, width), swapped(twin, name, side, width)
        assert (found[0] - plain).abs().max() > 1e-2
        assert found[1].norm() > 1e-2
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_int8_activations_are_refused_for_they_cut_the_gradient(saved):
    """What the refusal is for: torchao gives these a gradient through the skip connections alone, and no error."""
    module = quantized(saved, "Int8DynamicActivationInt8WeightConfig")
    with pytest.raises(UnsupportedError, match=r"^hooking mine, which is quantized by torchao's Int8Tensor with quant"):
        wrap(module, name="mine")
    grads = []
    for one in (module, dequantized(module)):
        shift = torch.zeros(WIDTH, requires_grad=True)
        hook = one.model.layers[0].register_forward_hook(lambda _m, _a, out, shift=shift: out + shift)
        one(TOKENS).logits.square().sum().backward()
        hook.remove()
        grads.append(shift.grad)
    assert (grads[0] - grads[1]).norm() > 0.1 * grads[1].norm()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_torchs_dynamic_quantization_is_refused():
    module = Positionwise()
    module.head = torch.ao.nn.quantized.dynamic.Linear(4, 7)
    with pytest.raises(UnsupportedError, match=r"quantized by torch dynamic quantization, is not supported; load it w"):
        wrap(module)


def of_class(dotted, base=nn.Linear):
    home, _, name = dotted.rpartition(".")
    return type(name, (base,), {"__module__": home})


CLASSES = {
    "bitsandbytes.nn.modules.Linear4bit": "bitsandbytes 4-bit",
    "bitsandbytes.nn.modules.Linear8bitLt": "bitsandbytes 8-bit",
    "bitsandbytes.nn.modules.Embedding8bit": "bitsandbytes",
    "auto_gptq.nn_modules.qlinear.QuantLinear": "GPTQ",
    "gptqmodel.nn_modules.qlinear.torch.TorchQuantLinear": "GPTQModel",
    "awq.modules.linear.gemm.WQLinear_GEMM": "AWQ",
    "hqq.core.quantize.HQQLinear": "HQQ",
    "optimum.quanto.nn.qlinear.QLinear": "quanto",
    "torchao.float8.float8_linear.Float8Linear": "torchao, in modules of its own",
    "torch.ao.nn.quantized.modules.linear.Linear": "torch static quantization",
}


@pytest.mark.parametrize("dotted", CLASSES)
def test_modules_of_other_quantizers_are_refused_by_name(dotted):
    derived = type("Own", (of_class(dotted),), {})  # a class of one's own, made from theirs
    for kind in (of_class(dotted), derived):
        with pytest.raises(UnsupportedError, match=f"^hooking it, which is quantized by {CLASSES[dotted]}, is not"):
            check_model(nn.Sequential(nn.Linear(2, 2), kind(2, 2)), "it")


@pytest.mark.parametrize(("method", "said"), [("gptq", "GPTQ"), ("awq", "AWQ"), ("fp8", "fp8"), ("torchao", None)])
def test_the_method_that_transformers_notes_is_read_anywhere_in_a_model(method, said):
    inner = nn.Linear(2, 2)
    inner.quantization_method = SimpleNamespace(value=method)
    if said is None:
        check_model(nn.Sequential(inner), "it")
        return
    with pytest.raises(UnsupportedError, match=f"quantized by {said}, is not supported; load it without"):
        check_model(nn.Sequential(inner), "it")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.float8_e4m3fn])
def test_weights_of_one_byte_are_refused(dtype):
    module = nn.Linear(2, 2)
    module.weight = nn.Parameter(torch.ones(2, 2).to(dtype), requires_grad=False)
    with pytest.raises(UnsupportedError, match=f"quantized by weights stored as {str(dtype).removeprefix('torch.')},"):
        check_model(module, "it")


@pytest.mark.parametrize(
    ("dotted", "said"),
    [("bitsandbytes.nn.modules.Params4bit", "bitsandbytes 4-bit"), ("torchao.x.Other", "torchao's Other")],
)
def test_weights_of_other_quantizers_are_refused_by_name(dotted, said):
    module = nn.Linear(2, 2)
    module.weight.__class__ = of_class(dotted, nn.Parameter)
    with pytest.raises(UnsupportedError, match=f"quantized by {said}, is not"):
        check_model(module, "it")
