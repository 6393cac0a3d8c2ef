"""The models written by hand give what transformers gives, so that they may stand as the reference for the hooks."""

import copy

import pytest
import torch
from hooks.conformance.batches import PADDINGS, distance, ids, mask, moved
from hooks.conformance.hand import EMBED, hand_model, hand_run, positions_of
from hooks.conformance.hand_attention import linear
from hooks.conformance.hand_blocks import LAYOUTS, base
from hooks.conformance.tiny import LAYERS, TINY, build

CLOSE = 1e-5
# A setting that a family is known for, and what switches it off: if the tiny model did not use it, no test here would.
FEATURES = [
    ("qwen2-sliding", {"use_sliding_window": False}),
    ("mistral-sliding", {"sliding_window": None}),
    ("gemma2-sliding", {"sliding_window": 64}),
    ("gemma3-sliding", {"sliding_window": 64}),
    ("gemma2", {"attn_logit_softcapping": None}),
    ("gemma2", {"final_logit_softcapping": None}),
    ("gemma3", {"query_pre_attn_scalar": 16}),
    ("phi", {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}}),
    ("gptj", {"rotary_dim": 8}),
    ("gpt_neo", {"window_size": 64}),
    ("gpt_neox", {"use_parallel_residual": False}),
    ("mixtral", {"num_experts_per_tok": 1}),
    ("falcon-alibi-serial", {"alibi": False}),
]


@pytest.fixture(scope="module")
def models():
    return {family: build() for family, build in TINY.items()}


def own(model, padding="none", **wanted):
    kept = mask(padding)
    with torch.no_grad():
        return model(ids(), attention_mask=kept, position_ids=positions_of(kept), **wanted)


def by_hand(family, model, edits=None, padding="left"):
    with torch.no_grad():
        return hand_run(family, model, ids(), mask(padding), edits)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("family", TINY)
def test_the_forward_by_hand_gives_the_logits_of_transformers(models, family, padding):
    hand = by_hand(family, models[family], padding=padding)
    assert distance(hand.logits, own(models[family], padding).logits, mask(padding)) < CLOSE


@pytest.mark.parametrize("family", TINY)
def test_no_mask_is_a_mask_of_ones(models, family):
    with torch.no_grad():
        assert torch.equal(
            hand_model(family, models[family], ids()), by_hand(family, models[family], padding="none").logits
        )


@pytest.mark.parametrize("family", TINY)
def test_the_stream_between_blocks_is_that_of_transformers(models, family):
    states = own(models[family], output_hidden_states=True).hidden_states
    cache = by_hand(family, models[family], padding="none").cache
    for layer in range(LAYERS):
        assert distance(cache[layer, "resid_pre"], states[layer]) < CLOSE


@pytest.mark.parametrize("family", TINY)
def test_a_float64_copy_gives_a_float64_reference(models, family):
    double = copy.deepcopy(models[family]).double()
    fine, coarse = by_hand(family, double), by_hand(family, models[family])
    assert fine.logits.dtype == torch.float64
    assert 0 < distance(coarse.logits, fine.logits, mask("left")) < CLOSE


@pytest.mark.parametrize("family", TINY)
def test_the_input_of_the_output_projection_is_z(models, family):
    """Against a plain torch hook on the one module that every family has at this place."""
    row, taken = LAYOUTS[base(family)], []
    blocks = next(part for part in models[family].modules() if isinstance(part, torch.nn.ModuleList))
    hook = blocks[1].get_submodule(row.project).register_forward_hook(lambda _m, args, out: taken.extend([*args, out]))
    own(models[family])
    hook.remove()
    cache = by_hand(family, models[family], padding="none").cache
    assert distance(cache[1, "z"], taken[0]) < CLOSE
    assert distance(cache[1, "attn_inner" if (1, "attn_inner") in cache else "attn_out"], taken[1]) < CLOSE


@pytest.mark.parametrize("family", TINY)
def test_the_stream_is_the_sum_of_its_terms(models, family):
    cache = by_hand(family, models[family]).cache
    x, a, m, out = (cache[1, name] for name in ("resid_pre", "attn_out", "mlp_out", "resid_post"))
    if family in ("bert", "opt-post", "bloom-post"):
        assert distance(x + a + m, out) > 1e-2  # norms lie between
    else:
        assert distance(x + a + m, out, mask("left")) < CLOSE
    if (1, "resid_mid") in cache:
        assert distance(x + a, cache[1, "resid_mid"], mask("left")) < CLOSE


@pytest.mark.parametrize("family", TINY)
def test_edits_of_one_thing_at_two_places_agree(models, family):
    """The end of a block is the start of the next; a move of z is the same move, projected, of the attention."""
    model, module = models[family], LAYOUTS[base(family)].project
    blocks = next(part for part in model.modules() if isinstance(part, torch.nn.ModuleList))
    first = by_hand(family, model, {(0, "resid_post"): moved}).logits
    assert torch.equal(first, by_hand(family, model, {(1, "resid_pre"): moved}).logits)
    assert distance(first, by_hand(family, model).logits) > 1e-2

    def projected(z):
        project = blocks[1].get_submodule(module)
        return linear(project, moved(z)) - linear(project, z)

    cache = by_hand(family, model).cache
    name = "attn_inner" if (1, "attn_inner") in cache else "attn_out"
    with torch.no_grad():
        step = projected(cache[1, "z"])
    through_z = by_hand(family, model, {(1, "z"): moved}).logits
    assert distance(by_hand(family, model, {(1, name): lambda h: h + step}).logits, through_z, mask("left")) < CLOSE
    assert distance(through_z, by_hand(family, model).logits, mask("left")) > 1e-2


@pytest.mark.parametrize("family", TINY)
def test_every_name_can_be_edited_and_the_edit_goes_on(models, family):
    plain = by_hand(family, models[family])
    for key in [EMBED, *(key for key in plain.cache if key[0] == 1)]:
        edited = by_hand(family, models[family], {key: moved})
        assert torch.equal(edited.cache[key], moved(plain.cache[key])), key
        assert distance(edited.logits, plain.logits, mask("left")) > 1e-2, key


@pytest.mark.parametrize(("family", "switched"), FEATURES, ids=str)
def test_the_tiny_models_use_what_their_family_is_known_for(models, family, switched):
    other = build(family, **switched)
    other.load_state_dict(models[family].state_dict(), strict=False)
    assert distance(own(other).logits, own(models[family]).logits) > 1e-3


def test_a_tiny_model_is_the_same_every_time_and_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    first, second = TINY["llama"](), TINY["llama"]()
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), second.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert not first.training
