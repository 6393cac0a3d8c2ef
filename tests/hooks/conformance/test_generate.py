"""Edits under `generate` are those of a whole recompute at every step, however generation goes about it."""

import pytest
import torch
from hooks.conformance.batches import distance
from hooks.conformance.generating import (
    CELLS,
    FAMILIES,
    LENGTH,
    MODES,
    POST,
    STEPS,
    WHERE,
    Plan,
    generated,
    greedy,
    hooks_of,
    model,
    prompts,
)
from hooks.conformance.tiny import TINY, build
from transformers.generation import CompileConfig

import mas_hooks as mh
from mas_hooks.core.errors import PositionError, SettingError, UnreachedSiteError, UnsupportedError
from mas_hooks.hooks import generation

CLOSE = 1e-4
SITES = ["embed", "blocks.1.attn.hook_z[1]", "blocks.1.hook_attn_out", "blocks.0.hook_resid_mid", POST]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def assert_as_recomputed(own, plan, inputs, **settings):
    """The tokens and the logits of every step; and that the edit did something."""
    found = generated(own, plan, inputs, return_dict_in_generate=True, output_logits=True, **settings)
    ids, logits = greedy(own, plan, inputs)
    assert torch.equal(found.sequences, ids)
    assert distance(torch.stack(found.logits, 1), logits) < CLOSE
    assert distance(logits, greedy(own, None, inputs)[1]) > 1e-2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("where", WHERE, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_is_the_recompute(family, where, mode):
    assert_as_recomputed(mh.wrap(model(family)), Plan(POST, where), prompts(), **MODES[mode])


@pytest.mark.parametrize("mode", ["cache", "no cache"])
@pytest.mark.parametrize("name", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_is_the_recompute_at_every_kind_of_site(family, name, mode):
    assert_as_recomputed(mh.wrap(model(family)), Plan(name, CELLS), prompts(), **MODES[mode])


@pytest.mark.parametrize("family", [family for family in TINY if family != "bert"])
def test_greedy_is_the_recompute_in_every_family(family):
    assert_as_recomputed(mh.wrap(model(family)), Plan(POST, CELLS), prompts())


@pytest.mark.parametrize("where", [[(0, LENGTH)], "generated"], ids=str)
def test_an_edit_of_what_is_written_leaves_the_first_written_token(where):
    own, inputs = mh.wrap(model("gpt2")), prompts()
    plain, edited = (generated(own, plan, inputs) for plan in (None, Plan(POST, where)))
    assert torch.equal(edited[:, : LENGTH + 1], plain[:, : LENGTH + 1])
    assert not torch.equal(edited[0], plain[0])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("repeats", [1, 3])
def test_an_edit_of_a_scope_sees_all_its_positions_once_and_no_padding(repeats, mode):
    """Each step shows what it runs: the new position, or without a cache all of them anew."""
    own, inputs = mh.wrap(model("gpt2")), prompts()
    real, steps = int(inputs["attention_mask"].sum()), STEPS - 1
    anew = mode == "no cache"
    written = 2 * sum(range(STEPS)) if anew else 2 * steps
    wanted = {"prompt": real * STEPS if anew else real, "generated": written}
    wanted["every"] = sum(wanted.values())
    for scope, count in wanted.items():
        seen = []
        plan = Plan(POST, scope, lambda h, seen=seen: seen.append(len(h)) or h)
        generated(own, plan, inputs, num_beams=repeats, **MODES[mode])
        assert sum(seen) == count * repeats


def test_edits_at_several_sites_go_together_and_a_block_may_generate_twice():
    own, inputs = mh.wrap(model("gpt2")), prompts()
    edits = [Plan(name, CELLS).edit(own) for name in SITES]
    with own.hooks(edits):
        first, second, slow = (
            own.generate(inputs, max_new_tokens=STEPS, do_sample=False, **settings)
            for settings in ({}, {}, MODES["no cache"])
        )
    assert torch.equal(first, second)
    assert torch.equal(first, slow)
    assert not torch.equal(first, generated(own, Plan(POST, CELLS), inputs))


def test_a_bare_tensor_has_no_padding_and_position_ids_are_made_anew():
    own, inputs = mh.wrap(model("gpt2")), prompts()
    bare = inputs["input_ids"].clamp(min=1)
    full = {"input_ids": bare, "attention_mask": torch.ones_like(bare)}
    plan = Plan(POST, CELLS)
    assert torch.equal(generated(own, plan, bare), greedy(own, plan, full)[0])
    stale = inputs | {"position_ids": torch.zeros_like(bare)}
    assert torch.equal(generated(own, plan, stale), generated(own, plan, inputs))


@pytest.mark.parametrize("mode", MODES)
def test_a_column_that_is_never_run_is_told(mode):
    """The last written token is not run itself, so nothing can be edited there."""
    own = mh.wrap(model("gpt2"))
    end = LENGTH + STEPS - 1
    detail = f"{end} positions passed its module, and the edit asks for position {end}"
    sentence = rf"{POST}' was never reached at 1 of .*: {detail}\."
    with pytest.raises(UnreachedSiteError, match=sentence):
        generated(own, Plan(POST, [(0, 3), (1, end)]), prompts(), **MODES[mode])
    one = generated(own, Plan(POST, "generated"), prompts(), max_new_tokens=1, **MODES[mode])
    assert one.shape[1] == LENGTH + 1  # the prompt wrote it: no generated position was run, which is no mistake


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2, "num_return_sequences": 2}, MODES["no cache"]], ids=str)
def test_cells_outside_the_prompts_or_in_their_padding_are_refused(settings):
    own, before = mh.wrap(model("gpt2")), hooks_of(mh.wrap(model("gpt2")))
    with pytest.raises(PositionError, match=r"position 2 of row 0 is not in the inputs at .*: that cell is padding"):
        generated(own, Plan(POST, [(1, 1), (0, 2)]), prompts(), **settings)
    with pytest.raises(PositionError, match=r"position 5 of row 2 is not in the batch at .*: rows run 0 to 1"):
        generated(own, Plan(POST, [(2, 5)]), prompts(), **settings)
    with pytest.raises(PositionError, match=rf"position {LENGTH} of row 2 is not in the batch at .*: rows run 0 to 1"):
        generated(own, Plan(POST, [(2, LENGTH)]), prompts(), **settings)
    assert hooks_of(own) == before
    assert generation.current_call() is None


def test_written_positions_need_generate():
    own, inputs = mh.wrap(model("gpt2")), prompts()
    with pytest.raises(UnreachedSiteError, match="no position of 'generated' passed its module"):
        own.run_with_hooks(inputs, Plan(POST, "generated").edit(own))
    sentence = r"is 'generated', but must be 'every' or a Where in a direct call of the model; use \.generate"
    with pytest.raises(SettingError, match=sentence), own.hooks(Plan(POST, "generated").edit(own)):
        own.module(**inputs)
    with pytest.raises(SettingError, match=sentence), own.hooks(Plan(POST, "generated").edit(own)):
        own.module.generate(**inputs, max_new_tokens=2)
    with pytest.raises(UnsupportedError, match="generating with Linear is not supported; wrap a Hugging Face"):
        mh.wrap(torch.nn.Linear(3, 3)).generate(inputs)


def test_the_models_own_generate_takes_explicit_cells():
    own, inputs, plan = mh.wrap(model("qwen2")), prompts(), Plan(POST, CELLS)
    with own.hooks(plan.edit(own)):
        found = own.module.generate(**inputs, max_new_tokens=STEPS, do_sample=False)
    assert torch.equal(found, greedy(own, plan, inputs)[0])


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # read by peft
def test_generate_of_a_model_with_adapters():
    import peft

    settings = peft.LoraConfig(target_modules=["q_proj", "v_proj", "o_proj"], init_lora_weights=False, r=4)
    adapted = peft.get_peft_model(build("qwen2", eos_token_id=None), settings).eval()
    own, inputs = mh.wrap(adapted), prompts()
    for name in (POST, "blocks.1.attn.hook_z[1]", "blocks.0.hook_resid_mid"):
        assert_as_recomputed(own, Plan(name, "every"), inputs)
        plan = Plan(name, CELLS)
        assert_as_recomputed(own, plan, inputs)
        with own.hooks(plan.edit(own)):
            direct = adapted.generate(**inputs, max_new_tokens=STEPS, do_sample=False)
        assert torch.equal(direct, greedy(own, plan, inputs)[0])
    plain = mh.wrap(model("qwen2"))
    assert not torch.equal(greedy(own, None, inputs)[1], greedy(plain, None, inputs)[1])


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2}, MODES["no cache"]], ids=str)
def test_an_error_inside_an_edit_leaves_no_hook(settings):
    own, inputs, seen = mh.wrap(model("gpt2")), prompts(), []
    before, plain = hooks_of(own), generated(own, None, inputs)

    def fails_later(h):
        seen.append(h)
        if len(seen) == 3:
            raise ArithmeticError("mine")
        return h

    with pytest.raises(ArithmeticError, match="mine"):
        generated(own, Plan(POST, "every", fails_later), inputs, **settings)
    assert len(seen) == 3
    assert hooks_of(own) == before
    assert generation.current_call() is None
    assert torch.equal(generated(own, None, inputs), plain)


def compiling():
    """Settings under which transformers compiles the steps after the prompt, as it does by itself on a GPU."""
    compiled = CompileConfig(backend="eager")
    compiled._compile_all_devices = True
    return {"cache_implementation": "static", "compile_config": compiled}


def test_steps_that_transformers_would_compile_see_the_edit():
    """A compiled step ignores hooks that came after its first run, so nothing is compiled under the handle."""
    own, inputs = mh.wrap(build("qwen2", eos_token_id=None)), prompts()
    generated(own, None, inputs, **compiling())
    for where in WHERE:
        assert_as_recomputed(own, Plan(POST, where), inputs, **compiling())


def test_prompts_that_are_padded_on_the_right_are_refused():
    own = mh.wrap(model("gpt2"))
    inputs = {name: value.flip(1) for name, value in prompts().items()}
    sentence = r"padding of the prompts of GPT2LMHeadModel is 'right', but must be 'left' to generate"
    with pytest.raises(SettingError, match=sentence):
        generated(own, None, inputs)
