"""What cannot be wrapped or hooked is refused where it is given, in one sentence with the way around it."""

import copy

import pytest
import tiny_tokenizers
import torch
from hooks.conformance.backend_models import bridge, envoy, hf, lora, native_bridge, quiet_peft
from hooks.conformance.batches import ids, mask
from hooks.conformance.tiny import TINY
from sentences import refused

import mas_hooks as mh
from mas_hooks.core.errors import (
    CheckpointError,
    NoTensorError,
    PositionError,
    SettingError,
    UnknownNameError,
    UnsupportedError,
)

SITE = "blocks.1.hook_resid_post"
WHERE = mh.Where([0, 2], [4, 5])


def inputs():
    return {"input_ids": ids(), "attention_mask": mask("left")}


@pytest.mark.parametrize("thing", [3, None, hf, {"model": 1}])
def test_a_thing_that_is_no_model(thing):
    with refused(UnsupportedError, "wrapping a", "torch.nn.Module or a model folder"):
        mh.wrap(thing)


def test_a_tokenizer_with_more_tokens_than_the_model_has():
    tokenizer = tiny_tokenizers.byte_pairs()
    with refused(SettingError, "tokenizer of Qwen2ForCausalLM", f"is {len(tokenizer)}, but", "at most 80"):
        mh.wrap(hf(), tokenizer=tokenizer)
    with refused(SettingError, "at most 80"):
        mh.wrap(bridge(hf()), tokenizer=tokenizer)
    assert mh.wrap(hf(), tokenizer=tiny_tokenizers.words()).encode("cat")["input_ids"].max() < 80


def test_a_tokenizer_that_is_none():
    with refused(SettingError, "tokenizer of tiny is 'str'", "Hugging Face tokenizer"):
        mh.wrap(hf(), tokenizer="gpt2", name="tiny")
    with refused(SettingError, "tokenizer of Qwen2ForCausalLM is None", "wrap(model, tokenizer=…)"):
        mh.wrap(hf()).encode("the cat")
    unpadded = tiny_tokenizers.words()
    unpadded.pad_token = None
    with refused(SettingError, "pad token", "tokenizer.eos_token"):
        mh.wrap(hf(), tokenizer=unpadded).encode("the cat")


@pytest.mark.parametrize(
    ("family", "name", "nearest"),
    [
        ("qwen2", "blocks.1.hook_rsid_post", "'blocks.1.hook_resid_post'"),
        ("qwen2", "blocks.3.hook_resid_post", "no block '3'. There is: 0, 1, 2."),
        ("phi", "blocks.1.hook_resid_mid", "Did you mean 'blocks.1.hook_resid_p"),
        ("qwen2", "blocks.1.attn.hook_z[4]", "no head 'blocks.1.attn.hook_z[4]'"),
        ("qwen2", "transformer.h.1", "no site 'transformer.h.1'"),
    ],
)
def test_a_site_that_the_model_lacks(family, name, nearest):
    with refused(UnknownNameError, nearest):
        mh.wrap(TINY[family]()).at(name)
    if family == "qwen2":
        for other in (bridge(hf()), envoy(hf()), lora(hf())):
            with refused(UnknownNameError, nearest):
                mh.wrap(other).at(name)


def test_places_of_a_bridge_that_hold_no_rows_of_vectors():
    handle = mh.wrap(bridge(hf()))
    with refused(NoTensorError, "hook_pattern", "choose a site inside it"), torch.no_grad():
        handle.run_with_cache(ids(), ["blocks.1.attn.hook_pattern"])


def test_a_site_of_another_wrap_of_the_same_module():
    model = hf()
    first, second = mh.wrap(model), mh.wrap(model)
    with refused(SettingError, "not of a second wrap of the same module"):
        second.run_with_hooks(ids(), [mh.Edit(first.at(SITE), torch.neg, WHERE)])


def test_a_bridge_built_on_a_model_that_was_wrapped():
    """Its names go on leading somewhere, but compatibility mode would change the basis behind our back."""
    for model in (hf("gpt2"), hf("qwen2"), TINY["opt"]()):
        handle = mh.wrap(model)
        edit = mh.Edit(handle.at(SITE), torch.neg, WHERE)
        bridge(model)
        uses = (
            lambda handle=handle: handle.run_with_cache(ids()),
            lambda handle=handle, edit=edit: handle.run_with_hooks(ids(), [edit]),
        )
        for use in uses:
            with refused(UnsupportedError, "bridge built on the model after it was wrapped", "build the bridge first"):
                use()
        with refused(UnsupportedError, "that a TransformerLens bridge has taken over", "wrap the bridge instead"):
            mh.wrap(model)


def test_adapters_added_after_the_bridge():
    model = hf()
    built = bridge(model)
    with refused(UnsupportedError, "PEFT added after a TransformerLens bridge", "add PEFT first"):
        mh.wrap(lora(model, targets=r".*q_proj\._original_component"))
    with refused(UnsupportedError, "PEFT added after a TransformerLens bridge", "add PEFT first"):
        mh.wrap(lora(built, targets=r".*k_proj\._original_component"))


def test_adapters_that_shift_every_position():
    from peft import PromptTuningConfig, get_peft_model

    with quiet_peft():
        model = get_peft_model(hf(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with refused(UnsupportedError, "PEFT's PROMPT_TUNING, which shifts positions,", "use LoRA"):
        mh.wrap(model)


def test_a_compiled_model_in_any_wrapping():
    compiled = torch.compile(hf(), backend="eager")
    with refused(UnsupportedError, "compiled by torch.compile(…)", "._orig_mod"):
        mh.wrap(compiled)
    model = hf()
    model.compile(backend="eager")
    for wrapping in (envoy(model), lora(model)):
        with refused(UnsupportedError, "compiled by .compile()", "_compiled_call_impl = None"):
            mh.wrap(wrapping)


def test_positions_in_padding():
    handle = mh.wrap(hf())
    bad = mh.Where([0, 1], [4, 2])
    for use in (
        lambda: handle.run_with_cache(inputs(), [SITE], positions=bad),
        lambda: handle.run_with_hooks(inputs(), [mh.Edit(handle.at(SITE), torch.neg, bad)]),
    ):
        with refused(PositionError, "position 2 of row 1", "padding"):
            use()


def test_an_nnsight_model_without_its_weights(tmp_path):
    from nnsight import TransformersModel

    hf().save_pretrained(tmp_path)
    model = TransformersModel(str(tmp_path), task="text-generation", tokenizer=tiny_tokenizers.words())
    with refused(UnsupportedError, "before its weights are loaded", ".dispatch()"):
        mh.wrap(model)
    model.dispatch()
    with torch.no_grad():
        assert torch.equal(mh.wrap(model).forward(ids()), mh.wrap(hf()).forward(ids()))


def compatible(family):
    made = bridge(copy.deepcopy(hf(family)))
    made.enable_compatibility_mode()
    return mh.wrap(made)


def test_the_basis_of_a_site_is_what_compatibility_mode_has_made_of_it():
    plain, made = mh.wrap(hf("gpt2")), compatible("gpt2")
    with torch.no_grad():
        raw, changed = (handle.run_with_cache(ids(), [SITE])[1][SITE] for handle in (plain, made))
    assert torch.allclose(changed, raw - raw.mean(-1, keepdim=True), atol=1e-4)
    assert {plain.at(name).basis for name in plain.hook_points() if "blocks" in name} == {"raw"}
    names = ("embed", SITE, "blocks.0.attn.hook_z", "blocks.0.attn.hook_z[1]", "transformer.h.1", "blocks.1.hook_out")
    found = [made.at(name, width=32).basis for name in names]
    assert found == ["centred", "centred", "folded", "folded", "processed", "processed"]
    rms = compatible("qwen2")
    assert [rms.at(name).basis for name in (SITE, "blocks.0.attn.hook_z")] == ["raw", "folded"]
    assert mh.wrap(bridge(hf("gpt2"))).at(SITE).basis == "raw"


def test_a_saved_alignment_is_refused_in_another_basis(tmp_path):
    raw, centred = mh.wrap(hf("gpt2")), compatible("gpt2")
    for handle, own, other in ((raw, "raw", "centred"), (centred, "centred", "raw")):
        folder = tmp_path / own
        mh.Alignment([handle.at(SITE)], rank=4).save_pretrained(folder)
        assert mh.Alignment.from_pretrained(folder, [handle]).sites[0].basis == own
        with refused(CheckpointError, SITE, f"'{own}'", f"'{other}'", "compatibility mode"):
            mh.Alignment.from_pretrained(folder, [centred if handle is raw else raw])
    mh.Alignment([compatible("qwen2").at(SITE)], rank=4).save_pretrained(tmp_path / "rms")
    mh.Alignment.from_pretrained(tmp_path / "rms", [mh.wrap(hf("qwen2"))])  # RMSNorm keeps its basis


def test_a_site_taken_before_compatibility_mode():
    model = bridge(hf("gpt2"))
    handle = mh.wrap(model)
    edit = mh.Edit(handle.at(SITE), torch.neg, WHERE)
    model.enable_compatibility_mode()
    with refused(SettingError, "'raw'", "'centred'", f".at({SITE!r})"):
        handle.run_with_hooks(ids(), [edit])


def test_a_bridges_own_stream_sites_know_their_width():
    handle = mh.wrap(native_bridge())
    assert handle.at(SITE).width == 32
    with refused(UnsupportedError, "whose module does not say how wide it is", "width=…"):
        handle.at("blocks.1.mlp.hook_post")
