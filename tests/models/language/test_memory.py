"""The memory plan: its numbers for the paper's model, and what autograd keeps, counted again tensor by tensor."""

import contextlib

import pytest
import torch
import transformers

from mas_hooks.models.language.finetune import FinetuneSettings
from mas_hooks.models.language.generate import ResponseSettings
from mas_hooks.models.language.memory import (
    GIB,
    MemoryNeed,
    ModelShape,
    aligning_memory,
    answering_memory,
    finetuning_memory,
)

PEFT = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # read by peft
R1 = ModelShape(
    parameters=1_777_088_000,
    matrices=1_543_569_408,
    width=1536,
    inner=8960,
    keys=256,
    layers=28,
    vocabulary=151_936,
    size=2,
)
"""DeepSeek-R1-Distill-Qwen-1.5B, from its published config."""


def qwen(width=64, inner=192, heads=4, keys=2, layers=2, vocabulary=100, **settings):
    config = transformers.Qwen2Config(
        hidden_size=width, intermediate_size=inner, num_attention_heads=heads, num_key_value_heads=keys,
        num_hidden_layers=layers, vocab_size=vocabulary, tie_word_embeddings=False, **settings
    )  # fmt: skip
    return transformers.Qwen2ForCausalLM(config)


def test_the_shape_of_the_papers_model_is_read_from_its_config_alone():
    with torch.device("meta"):
        module = qwen(1536, 8960, 12, 2, 28, 151_936, dtype="bfloat16")
    assert ModelShape.of(module) == R1
    block = (1536 * 1536 + 1536) + 2 * (1536 * 256 + 256) + 1536 * 1536 + 3 * 1536 * 8960 + 2 * 1536
    assert R1.parameters == 28 * block + 2 * 151_936 * 1536 + 1536


@pytest.mark.parametrize(
    ("need", "gib", "on_24", "on_80"),
    [
        (finetuning_memory(R1, FinetuneSettings(), mixed=True), 34.98, False, True),
        (finetuning_memory(R1, FinetuneSettings(lora=True), mixed=True), 9.29, True, True),
        (answering_memory(R1, ResponseSettings()), 3.94, True, True),
        (
            aligning_memory(R1, models=2, rows=2 * 16, tokens=64, texts=1000, rank=768, size=2, copies=2),
            19.91,
            True,
            True,
        ),
        (aligning_memory(R1, models=6, rows=6 * 16, tokens=64, texts=1000, rank=768, size=2), 39.86, False, True),
        (aligning_memory(R1, models=6, rows=6 * 1, tokens=64, texts=1000, rank=768, size=2), 22.24, False, True),
        (aligning_memory(R1, models=2, rows=4 * 256, tokens=64, texts=1000, rank=768, size=2), 207.46, False, False),
    ],
)
def test_what_fits_24_and_80_gb_for_the_papers_model(need, gib, on_24, on_80):
    """Full fine-tuning needs the large card and LoRA does not; a pair, with untrained copies beside it, is aligned in
    passes of 16 rows a direction, all six at once only on the large card; a batch of 256 in one pass on neither."""
    assert need.total / GIB == pytest.approx(gib, abs=0.01)
    assert (need.fits(24 * GIB), need.fits(80 * GIB)) == (on_24, on_80)


def test_the_parts_of_full_fine_tuning_are_what_each_weight_takes():
    parts = finetuning_memory(R1, FinetuneSettings(), mixed=True).parts
    assert parts["weights"] == parts["gradients"] == 4 * R1.parameters
    assert parts["AdamW"] == 8 * R1.parameters
    assert parts["bf16 copies"] == 2 * R1.matrices
    half = finetuning_memory(R1, FinetuneSettings(device_batch=8), mixed=True).parts
    assert (2 * half["activations"], 2 * half["logits"]) == (parts["activations"], parts["logits"])
    assert "bf16 copies" not in finetuning_memory(R1, FinetuneSettings(), mixed=False).parts


def kept(module, mixed, **inputs):
    """Bytes that autograd keeps of one forward, each storage once, weights left out."""
    own = {one.untyped_storage().data_ptr() for one in module.parameters()}
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = (storage.nbytes(), storage)  # kept beside, so that its place stays its own
        return tensor

    cast = torch.autocast("cpu", torch.bfloat16) if mixed else contextlib.nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), cast:
        out = module(**inputs, use_cache=False)
    assert out.logits is not None
    return sum(size for size, _ in found.values())


def one_block(make, mixed, inputs):
    """What a block more keeps."""
    few, more = (kept(make(layers), mixed, **inputs(layers)) for layers in (1, 3))
    return (more - few) / 2


@PEFT
@pytest.mark.parametrize("shape", [(128, 512, 4, 2), (64, 384, 4, 2)])
@pytest.mark.parametrize(("mixed", "lora"), [(True, False), (False, False), (True, True)])
def test_training_keeps_what_the_plan_says(shape, mixed, lora):
    torch.manual_seed(0)
    ids = torch.randint(100, (2, 32))

    def make(layers):
        module = qwen(*shape, layers=layers)
        if lora:
            from peft import LoraConfig, get_peft_model

            adapters = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear")
            module = get_peft_model(module.to(torch.bfloat16), adapters)
        return module.train()

    settings = FinetuneSettings(tokens=32, device_batch=2, lora=lora, lora_rank=2)
    plan = finetuning_memory(ModelShape.of(qwen(*shape, layers=1)), settings, mixed=mixed).parts
    found = one_block(make, mixed, lambda _: {"input_ids": ids, "labels": ids})
    if mixed and not lora:
        one, two = (ModelShape.of(qwen(*shape, layers=layers)) for layers in (1, 2))
        found -= 2 * (two.matrices - one.matrices)  # the copies of the weights have a part of their own
    assert found == pytest.approx(plan["activations"], rel=0.15)


@pytest.mark.parametrize("shape", [(128, 512, 4, 2), (64, 192, 4, 1)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_frozen_model_keeps_what_the_plan_says(shape, dtype):
    def make(layers):
        return qwen(*shape, layers=layers).to(dtype).requires_grad_(False).eval()

    def inputs(_layers):
        return {"inputs_embeds": torch.zeros(2, 32, shape[0], dtype=dtype, requires_grad=True), "logits_to_keep": 1}

    plan = aligning_memory(
        ModelShape.of(qwen(*shape, layers=1)), models=2, rows=2, tokens=32, texts=5, rank=4, size=dtype.itemsize
    ).parts
    assert one_block(make, False, inputs) == pytest.approx(plan["activations"], rel=0.03)


@PEFT
def test_the_adapters_of_rank_one_are_counted():
    from peft import LoraConfig, get_peft_model

    base = qwen()
    shape = ModelShape.of(base)
    own = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=3, target_modules="all-linear"))
    learned = sum(one.numel() for one in own.parameters() if one.requires_grad)
    assert learned == 3 * shape.adapted
    assert finetuning_memory(shape, FinetuneSettings(lora=True, lora_rank=3), mixed=True).parts["AdamW"] == 8 * learned


def test_other_families_and_some_room():
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=16)
    own = ModelShape.of(transformers.GPT2LMHeadModel(config))
    assert (own.width, own.inner, own.keys, own.layers, own.size) == (32, 128, 32, 2, 4)
    need = MemoryNeed("finetune", {"weights": GIB, "logits": GIB // 2})
    assert need.fits(1.7 * GIB)
    assert not need.fits(1.6 * GIB)
