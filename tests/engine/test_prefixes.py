"""Decoders keep one vector for equal tokens read: the same numbers, and as many vectors as there are prefixes."""

import pytest
import torch
from transformers import BertConfig, BertModel, Qwen2Config, Qwen2ForCausalLM

import mas_hooks as mh
from mas_hooks.core.inputs import prefix_keys
from mas_hooks.core.sites import Where
from mas_hooks.data.text_pairs import ResponseTokens
from mas_hooks.engine import prefixes
from mas_hooks.engine.cache import ActivationCache, SharedActivations, gather_site, share_activations
from mas_hooks.engine.prefixes import Prefixes, suits_prefixes

VOCABULARY, N, LENGTH = 60, 30, 14


def decoder(seed=0, dtype=torch.float32):
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3}
    torch.manual_seed(seed)
    made = Qwen2ForCausalLM(Qwen2Config(vocab_size=VOCABULARY, num_attention_heads=2, num_key_value_heads=1, **sizes))
    return mh.wrap(made.eval().to(dtype), name=f"qwen-{seed}")


def written(count, seed=0):
    """What models wrote; all begin with the same five tokens."""
    generator = torch.Generator().manual_seed(seed)
    ids = [torch.randint(1, VOCABULARY, (N, LENGTH), generator=generator) for _ in range(count)]
    ids = [torch.cat([ids[0][:, :5], own[:, 5:]], 1) for own in ids]
    return [ResponseTokens(own, own.roll(-1, 1), VOCABULARY) for own in ids]


@pytest.mark.parametrize("name", ["embed", "blocks.1.hook_resid_post", "blocks.1.attn.hook_z"])
def test_every_cell_is_what_the_whole_row_gives(name):
    model = decoder()
    pairs = mh.text_pairs(written(1), (40, 5, 5), margin=2)[0][0, 0]
    cache = ActivationCache([model.at(name)], [model])
    for found, ids, where in (
        (cache.source(0, pairs), pairs.source_inputs, pairs.source_where),
        (cache.target(0, pairs), pairs.target_inputs, pairs.target_where),
    ):
        expected = gather_site(model, model.at(name), ids, where)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    some = torch.tensor([7, 0, 7, 31])
    torch.testing.assert_close(cache.target(0, pairs, some), found[some])


def test_as_many_vectors_as_prefixes_over_all_directions_roles_and_splits():
    """Three models, nine directions, three splits: each model holds its own texts, once."""
    models, texts = [decoder(seed) for seed in range(3)], written(3)
    splits = mh.text_pairs(texts, (200, 30, 60), margin=2)
    kept, sites = SharedActivations(), [model.at("blocks.0.hook_resid_post") for model in models]
    cells = 0
    with share_activations(kept):
        cache = ActivationCache(sites, models)
        for made in splits:
            for (source, target), pairs in made.items():
                cache.source(source, pairs), cache.target(target, pairs)
                cells += 2 * len(pairs.target_where)
    for site, own in zip(sites, texts, strict=True):
        held = kept.prefixes[id(site)].vectors
        most = {tuple(row[: end + 1]) for row in own.ids.tolist() for end in range(LENGTH - 2)}
        assert len(held) <= len(most)
        assert len(held) > 0.9 * len(most)
    assert 3 * len(most) < cells / 30


def test_nothing_is_run_twice(monkeypatch):
    model, runs = decoder(), []
    collect = prefixes.read_site
    monkeypatch.setattr(prefixes, "read_site", lambda *args: runs.append(args[2]) or collect(*args))
    own = Prefixes(model, model.at("embed"))
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 9, 4], [1, 2, 3, 4]])
    first = own.find_places(ids, Where([0, 1, 2, 2], [2, 2, 2, 0]))
    assert first[0] == first[2]
    assert len(own.vectors) == 3
    again = own.find_places(ids, Where([2, 1], [2, 2]))
    assert torch.equal(again, first[[0, 1]])
    assert len(runs) == 1
    own.find_places(ids, Where([0], [3]))
    assert len(runs) == 2
    assert len(own.vectors) == 4
    assert torch.equal(own.vectors[first[3]], own.vectors[own.find_places(ids, Where([1], [0]))[0]])


def test_the_row_with_the_most_cells_is_run_for_all_that_begin_alike(monkeypatch):
    model, runs = decoder(), []
    collect = prefixes.read_site
    monkeypatch.setattr(prefixes, "read_site", lambda *args: runs.append(len(args[2])) or collect(*args))
    ids = torch.tensor([[5, 6, 7, 8]]).repeat(6, 1)
    mask = torch.arange(4) <= torch.tensor([0, 1, 3, 2, 1, 0])[:, None]
    Prefixes(model, model.at("embed")).find_places(ids, Where.from_mask(mask))
    assert runs == [1]


def test_vectors_have_the_dtype_of_the_model_and_are_given_in_float32():
    model = decoder(dtype=torch.bfloat16)
    pairs = mh.text_pairs(written(1), (20, 5, 5), margin=2)[0][0, 0]
    kept, site = SharedActivations(), model.at("blocks.1.hook_resid_post")
    with share_activations(kept):
        found = ActivationCache([site], [model]).source(0, pairs)
    assert kept.prefixes[id(site)].vectors.dtype == torch.bfloat16
    assert found.dtype == torch.float32


def test_only_plain_ids_of_a_causal_model_are_suited():
    model = decoder()
    site, ids = model.at("embed"), torch.randint(1, VOCABULARY, (2, 6))
    assert suits_prefixes(model, site, ids)
    assert not suits_prefixes(model, site, {"input_ids": ids})
    assert not suits_prefixes(model, site, ids.float())
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    bert = mh.wrap(BertModel(BertConfig(vocab_size=VOCABULARY, **sizes)).eval())
    assert not suits_prefixes(bert, bert.at("blocks.0.hook_resid_post"), ids)


def test_a_decoder_that_looks_ahead_is_found_out():
    """A family that is known as causal, made to read backwards: tried on a row, and refused."""
    model = decoder()
    model.module.model.layers[0].register_forward_hook(lambda _m, _a, out: out.flip(1))
    ids = torch.randint(1, VOCABULARY, (2, 6))
    assert suits_prefixes(model, model.at("embed"), ids)
    assert not suits_prefixes(model, model.at("blocks.1.hook_resid_post"), ids)
    pairs = mh.text_pairs(written(1), (10, 5, 5), margin=2)[0][0, 0]
    site = model.at("blocks.1.hook_resid_post")
    found = ActivationCache([site], [model]).target(0, pairs)
    expected = gather_site(model, site, pairs.target_inputs, pairs.target_where)
    torch.testing.assert_close(found, expected)


def test_forgotten_sites_hold_nothing():
    model, kept = decoder(), SharedActivations()
    pairs = mh.text_pairs(written(1), (10, 5, 5), margin=2)[0][0, 0]
    sites = [model.at("embed"), model.at("blocks.1.hook_resid_post")]
    with share_activations(kept):
        for index in (0, 1):
            ActivationCache(sites, [model, model]).source(index, pairs)
    kept.forget(sites[0])
    assert set(kept.prefixes) == {id(sites[1])} == {key[0] for key in kept.held}


def test_keys_tell_prefixes_apart():
    ids = torch.tensor([[0, 0, 1], [0, 1, 1], [1, 0, 1], [0, 0, 1]])
    keys = prefix_keys(ids)
    assert torch.equal(keys[0], keys[3])
    assert keys[0, 0] == keys[1, 0] != keys[2, 0]
    assert len(keys[:3].unique()) == 8
    assert torch.equal(prefix_keys(ids[:, :2]), keys[:, :2])
