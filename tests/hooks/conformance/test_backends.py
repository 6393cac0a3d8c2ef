"""The same weights through every backend: same names, activations, edits and gradients, under everyone's own names."""

import copy

import pytest
import torch
from hooks.conformance.backend_models import BACKENDS, FAMILIES, envoy, hf, lora, made, native_bridge, pipeline_envoy
from hooks.conformance.batches import distance, ids, mask

import mas_hooks as mh

CLOSE = 1e-5
ALL = [(family, backend) for family in FAMILIES for backend in BACKENDS]
WHERE = mh.Where([0, 1, 2, 2], [4, 6, 3, 9])


def inputs():
    return {"input_ids": ids(), "attention_mask": mask("left")}


def canonical(handle):
    return list(handle._canonical)


def vectors(width, seed=1):
    return torch.randn(len(WHERE), width, generator=torch.Generator().manual_seed(seed))


def swapped(handle, name):
    """Logits of a swap at a site, and the gradient of its map."""
    site = handle.at(name)
    align = mh.Alignment([site], rank=4)
    edit = align.edit(target=0, source=0, vectors=vectors(site.width), where=WHERE)
    logits = handle.run_with_hooks(inputs(), [edit])
    (logits * torch.sin(torch.arange(logits.shape[-1])))[mask("left").bool()].sum().backward()
    return logits.detach(), align.site_maps[0].weight.grad


@pytest.mark.parametrize(("family", "backend"), ALL)
def test_names_logits_and_activations_are_those_of_the_plain_model(family, backend):
    plain, other = mh.wrap(hf(family)), mh.wrap(made(backend, family))
    assert canonical(other) == canonical(plain)
    assert [other.at(name).width for name in canonical(other)] == [plain.at(name).width for name in canonical(plain)]
    with torch.no_grad():
        logits, wanted = plain.run_with_cache(inputs())
        found_logits, found = other.run_with_cache(inputs())
    assert distance(found_logits, logits, mask("left")) < CLOSE
    for name in canonical(plain):
        assert distance(found[name], wanted[name], mask("left")) < CLOSE, name


@pytest.mark.parametrize(("family", "backend"), ALL)
def test_a_swap_gives_the_logits_and_the_gradient_of_the_plain_model(family, backend):
    plain, other = mh.wrap(hf(family)), mh.wrap(made(backend, family))
    for name in canonical(plain):
        if name == "embed" or name.startswith("blocks.1"):
            (logits, gradient), (wanted, wanted_gradient) = swapped(other, name), swapped(plain, name)
            assert distance(logits, wanted, mask("left")) < CLOSE, name
            assert distance(gradient, wanted_gradient) < CLOSE, name
            assert wanted_gradient.abs().max() > 1e-3, name
    with torch.no_grad():
        assert distance(wanted, plain.forward(inputs()), mask("left")) > 1e-3


def same_place(handle, name, native):
    """Whether two names read the same and are edited to the same effect."""
    double = [(handle.run_with_hooks(inputs(), [(one, lambda h: 2 * h)])) for one in (name, native)]
    _, read = handle.run_with_cache(inputs(), [name, native])
    return torch.equal(*double) and torch.equal(read[name], read[native])


@pytest.mark.parametrize(
    ("backend", "native"),
    [
        ("bridge", "blocks.1.hook_out"),
        ("bridge", "model.layers.1"),
        ("nnsight", "model.layers.1"),
        ("nnsight-transformers", "model.layers.1"),
        ("peft", "base_model.model.model.layers.1"),
        ("peft", "model.layers.1"),
        ("nnsight-of-peft", "base_model.model.model.layers.1"),
        ("nnsight-of-bridge", "blocks.1.hook_out"),
        ("bridge-of-peft", "model.layers.1"),
    ],
)
def test_the_backends_own_names_mean_the_same_place(backend, native):
    handle = mh.wrap(made(backend, "qwen2"))
    assert native in handle.hook_points()
    with torch.no_grad():
        assert same_place(handle, "blocks.1.hook_resid_post", native)
        assert not same_place(handle, "blocks.0.hook_resid_post", native)


def test_a_models_own_paths_go_on_leading_where_they_did_under_a_bridge_and_adapters():
    """Inside blocks too, where both put modules of their own in between."""
    path, plain = "model.layers.1.mlp.down_proj", mh.wrap(hf())
    with torch.no_grad():
        wanted = plain.run_with_hooks(inputs(), [(path, lambda h: 2 * h)])
        for backend in ("bridge", "peft", "bridge-of-peft", "nnsight-of-bridge"):
            handle = mh.wrap(made(backend, "qwen2"))
            found = handle.run_with_hooks(inputs(), [(path, lambda h: 2 * h)])
            assert distance(found, wanted, mask("left")) < CLOSE, backend
            assert handle.at(path).width == plain.at(path).width == 32, backend


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("compatible", [False, True])
def test_canonical_names_mean_what_transformer_lens_means_by_them(family, compatible):
    model = made("bridge", family)
    if compatible:
        model.enable_compatibility_mode()
    handle = mh.wrap(model)
    with torch.no_grad():
        logits, found = handle.run_with_cache(ids())
        wanted_logits, wanted = model.run_with_cache(ids())
    names = [name for name in canonical(handle) if name != "embed"]
    assert distance(logits, wanted_logits) < CLOSE
    assert len(names) == 3 * 6  # all of them have a stream between attention and mlp
    for name in names:
        assert distance(found[name], wanted[name].reshape(found[name].shape)) < CLOSE, name
    assert distance(found["embed"], wanted["hook_embed"]) < CLOSE


def test_a_bridge_of_a_model_that_transformers_lacks_is_hooked_by_its_own_names():
    model = native_bridge()
    handle = mh.wrap(model)
    with torch.no_grad():
        logits, found = handle.run_with_cache(ids(), ["blocks.1.hook_resid_mid", "blocks.0.hook_mlp_out"])
        wanted_logits, wanted = model.run_with_cache(ids())
    assert distance(logits, wanted_logits) < CLOSE
    assert all(distance(value, wanted[name]) < CLOSE for name, value in found.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_trained_adapters_count_and_equal_the_merged_model(family):
    adapted = lora(hf(family), untrained=False)
    merged = mh.wrap(copy.deepcopy(adapted).merge_and_unload())
    handle = mh.wrap(adapted)
    for name in ("blocks.1.hook_resid_post", "blocks.1.attn.hook_z", "blocks.1.hook_mlp_out"):
        (logits, gradient), (wanted, wanted_gradient) = swapped(handle, name), swapped(merged, name)
        assert distance(logits, wanted, mask("left")) < 5e-5
        assert distance(gradient, wanted_gradient) < 5e-5
    assert distance(logits, swapped(mh.wrap(hf(family)), name)[0], mask("left")) > 1e-2


def test_adapters_that_are_switched_off_while_hooked_are_off():
    adapted = lora(hf(), untrained=False)
    with torch.no_grad(), adapted.disable_adapter():
        assert distance(mh.wrap(adapted).forward(inputs()), mh.wrap(hf()).forward(inputs()), mask("left")) < CLOSE


def test_adapters_may_be_added_to_a_model_that_is_wrapped():
    model = hf()
    handle = mh.wrap(model)
    before = handle.hook_points()
    lora(model, untrained=False)
    with torch.no_grad():
        found = handle.run_with_cache(inputs())[1]["blocks.2.hook_resid_post"]
        wanted = mh.wrap(lora(hf(), untrained=False)).run_with_cache(inputs())[1]["blocks.2.hook_resid_post"]
    assert distance(found, wanted, mask("left")) < CLOSE
    assert handle.hook_points() == before


def test_a_model_may_be_compiled_inside_the_block_of_its_hooks():
    model = hf()
    handle = mh.wrap(model)
    edit = mh.Edit(handle.at("blocks.1.hook_resid_post"), lambda h: -h, WHERE)
    with torch.no_grad():
        wanted = handle.run_with_hooks(ids(), [edit])
        with handle.hooks([edit]):
            torch._dynamo.reset()
            found = torch.compile(model, backend="eager")(input_ids=ids(), use_cache=False).logits
    torch._dynamo.reset()
    assert distance(found, wanted) < CLOSE


def test_other_peoples_hooks_survive_and_see_the_edit():
    model, seen = hf(), []
    theirs = model.model.layers[1].register_forward_hook(lambda _m, _a, out: seen.append(out.detach()))
    handle = mh.wrap(model)
    edit = mh.Edit(handle.at("blocks.1.hook_resid_post"), lambda h: h + 1, WHERE)
    with torch.no_grad():
        handle.run_with_hooks(ids(), [edit])
        handle.forward(ids())
    rows, columns = WHERE.rows, WHERE.columns
    assert distance(seen[0][rows, columns], seen[1][rows, columns] + 1) < CLOSE
    assert list(model.model.layers[1]._forward_hooks) == [theirs.id]
    bridged = made("bridge", "qwen2")
    bridged.add_hook("blocks.1.hook_out", lambda h, hook: 0 * h)
    with torch.no_grad():
        assert mh.wrap(bridged).run_with_cache(ids())[1]["blocks.2.hook_resid_pre"].abs().max() == 0


@pytest.mark.parametrize("backend", ["plain", "peft", "nnsight"])
def test_the_models_own_record_of_hidden_states_shows_the_edit(backend):
    handle = mh.wrap(hf() if backend == "plain" else made(backend, "qwen2"))
    edit = mh.Edit(handle.at("blocks.0.hook_resid_post"), torch.zeros_like, WHERE)
    with torch.no_grad(), handle.hooks([edit]):
        states = handle.module(input_ids=ids(), output_hidden_states=True).hidden_states
    assert WHERE.gather(states[1]).abs().max() == 0
    assert WHERE.gather(states[2]).abs().max() > 0.1


def test_an_nnsight_trace_inside_our_hooks_sees_them_and_ours_come_after_its_own():
    model = envoy(hf())
    handle = mh.wrap(model)
    with torch.no_grad():
        wanted = handle.run_with_hooks(ids(), [("blocks.2.hook_resid_post", lambda h: -h)])
        with handle.hooks([("blocks.2.hook_resid_post", lambda h: -h)]), model.trace(ids()):
            found = model.lm_head.output.save()
        with handle.hooks([("blocks.2.hook_resid_post", lambda h: 2 * h)]), model.trace(ids()):
            model.model.layers[2].output[:] = 1.0
            both = model.model.norm.input.save()
    assert distance(found, wanted) < CLOSE
    assert both.unique().tolist() == [2.0]


def test_the_tokenizer_of_the_backend_is_taken_over():
    model = pipeline_envoy(hf())
    assert mh.wrap(model).encode("the cat")["input_ids"].shape == (1, 4)
    assert mh.wrap(model, tokenizer=(own := copy.deepcopy(model.tokenizer))).tokenizer is own


def test_the_backends_are_what_they_are_called():
    kinds = {name: type(made(name, "qwen2")).__module__.partition(".")[0] for name in BACKENDS}
    wanted = dict.fromkeys(BACKENDS, "nnsight") | {"peft": "peft"}
    assert kinds == wanted | {"bridge": "transformer_lens", "bridge-of-peft": "transformer_lens"}
