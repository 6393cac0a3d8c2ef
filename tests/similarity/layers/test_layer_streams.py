import gc
import weakref

import numpy as np
import pytest
import torch
from sentences import refused
from torch import nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, Qwen2Config, Qwen2ForCausalLM

import mas_hooks as mh
from mas_hooks.core.errors import (
    EmptyError,
    NotFiniteError,
    SettingError,
    ShapeError,
    UnknownNameError,
    UnsupportedError,
)
from mas_hooks.models.toys.recurrent import RecurrentModel
from mas_hooks.similarity import arccos_distance, cka
from mas_hooks.similarity.layers import compare
from mas_hooks.similarity.layers.compare import compare_layers

VOCABULARY = 40


def neox(layers=3, width=16, seed=0, name="neox"):
    torch.manual_seed(seed)
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers}
    config = GPTNeoXConfig(vocab_size=VOCABULARY, num_attention_heads=2, initializer_range=0.3, **sizes)
    return mh.wrap(GPTNeoXForCausalLM(config).eval(), name=name)


def qwen(layers=2, width=24, seed=1, name="qwen"):
    torch.manual_seed(seed)
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = Qwen2Config(vocab_size=VOCABULARY, initializer_range=0.3, **heads, **sizes)
    return mh.wrap(Qwen2ForCausalLM(config).eval(), name=name)


@pytest.fixture(scope="module")
def models():
    return neox(), qwen()


@pytest.fixture
def ids():
    return torch.randint(VOCABULARY, (20, 12), generator=torch.Generator().manual_seed(0))


def rows_of(model, inputs, layer):
    """(batch, position, width) after a block."""
    name = f"blocks.{layer}.hook_resid_post"
    with torch.no_grad():
        return model.run_with_cache(inputs, name)[1][name]


def slow(a, b, inputs, i, j, bounds, average=None):
    """Printed HSIC₁ of two layers, minibatch by minibatch, in float64."""
    x, y = rows_of(a, inputs, i).double(), rows_of(b, inputs, j).double()
    terms = []
    for begin, end in bounds:
        k, other = (side[begin:end].flatten(0, 1) for side in (x, y))
        k, other = k @ k.T, other @ other.T
        terms.append([_hsic_1(k, other), _hsic_1(k, k), _hsic_1(other, other)])
    terms = np.array(terms)
    if average == "ratios":
        return (terms[:, 0] / np.sqrt(terms[:, 1] * terms[:, 2])).mean()
    xy, xx, yy = terms.mean(0)
    return xy / np.sqrt(xx * yy)


def _hsic_1(k, other):
    n = len(k)
    k, other = k - k.diag().diag(), other - other.diag().diag()
    whole = k.sum() * other.sum() / ((n - 1) * (n - 2))
    return float((k * other).sum() + whole - 2 / (n - 2) * (k.sum(0) * other.sum(0)).sum()) / (n * (n - 3))


@pytest.mark.parametrize("average", ["terms", "ratios"])
def test_every_layer_pair_of_unequal_models(models, ids, average):
    a, b = models
    found = compare_layers(a, b, ids, average=average, progress=False)
    bounds = [(0, 8), (8, 20)]  # four sequences are left over: they join the second minibatch
    expected = [[slow(a, b, ids, i, j, bounds, average) for j in range(2)] for i in range(3)]
    assert np.allclose(found.values, expected, rtol=0, atol=2e-5)
    assert np.ptp(found.values) > 0.01
    assert found.layers_a == tuple(f"blocks.{i}.hook_resid_post" for i in range(3))
    assert found.layers_b == tuple(f"blocks.{i}.hook_resid_post" for i in range(2))
    assert (found.model_a, found.model_b, found.rows, found.minibatches) == ("neox", "qwen", 240, 2)


@pytest.mark.parametrize(("size", "bounds"), [(5, [(0, 5), (5, 10), (10, 15), (15, 20)]), (100, [(0, 20)])])
def test_the_size_of_minibatches(models, ids, size, bounds):
    a, b = models
    found = compare_layers(a, b, ids, batch_size=size, progress=False)
    assert found.values[2, 1] == pytest.approx(slow(a, b, ids, 2, 1, bounds), abs=2e-5)
    assert found.minibatches == len(bounds)


def test_one_biased_minibatch_is_plain_cka(models, ids):
    a, b = models
    found = compare_layers(a, b, ids, measure="cka_linear_biased", batch_size=20, progress=False)
    x, y = rows_of(a, ids, 1).flatten(0, 1), rows_of(b, ids, 0).flatten(0, 1)
    assert found.values[1, 0] == pytest.approx(cka(x, y, "linear").value, abs=1e-5)
    found = compare_layers(a, b, ids, measure="cka_cosine_biased", batch_size=20, progress=False)
    assert found.values[1, 0] == pytest.approx(cka(x, y).value, abs=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_left_out(models, ids, side):
    a, b = models
    lengths = torch.randint(5, 13, (20,), generator=torch.Generator().manual_seed(1))
    columns = torch.arange(12)
    mask = columns < lengths[:, None] if side == "right" else columns >= 12 - lengths[:, None]
    found = compare_layers(a, b, {"input_ids": ids, "attention_mask": mask.long()}, batch_size=20, progress=False)
    rows = []
    for model, layer in ((a, 2), (b, 1)):
        alone = [rows_of(model, ids[row : row + 1, mask[row]], layer)[0] for row in range(20)]
        rows.append(torch.cat(alone).double())
    k, other = (x @ x.T for x in rows)
    expected = _hsic_1(k, other) / np.sqrt(_hsic_1(k, k) * _hsic_1(other, other))
    assert found.rows == int(lengths.sum()) < 240
    assert found.values[2, 1] == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(
    "measure",
    ["cka_linear_unbiased", "cka_cosine_unbiased", "cka_linear_biased", "cka_cosine_biased", "rsa_cosine_spearman"],
)
def test_a_model_is_one_with_itself_and_with_its_copy(ids, measure):
    itself, copy = neox(), neox(name="copy")
    found = compare_layers(itself, itself, ids, measure=measure, progress=False)
    assert np.abs(found.values.diagonal() - 1).max() < 1e-12
    assert found.values[0, 2] < 0.99
    assert np.array_equal(compare_layers(itself, copy, ids, measure=measure, progress=False).values, found.values)
    assert arccos_distance(found) < 1e-5
    other = compare_layers(itself, neox(seed=5), ids, measure=measure, progress=False)
    assert other.values.diagonal().max() < 0.99


def test_bf16_models_are_compared_in_float32(ids):
    a, b = neox(), qwen()
    a.module.bfloat16()
    found = compare_layers(a, b, ids, progress=False)
    assert found.values[2, 1] == pytest.approx(slow(a, b, ids, 2, 1, [(0, 8), (8, 20)]), abs=2e-5)


def test_chosen_sites_and_one_model_at_two_of_them(models, ids):
    a, b = models
    whole = compare_layers(a, b, ids, progress=False)
    some = compare_layers(
        a,
        b,
        ids,
        sites_a=["blocks.2.hook_resid_post", a.at("embed")],
        sites_b=["blocks.1.hook_resid_post"],
        progress=False,
    )
    assert some.layers_a == ("blocks.2.hook_resid_post", "embed")
    assert some.values[0, 0] == pytest.approx(whole.values[2, 1], abs=1e-6)
    own = compare_layers(a, a, ids, sites_a=["embed"], progress=False)
    assert own.values.shape == (1, 3)
    assert own.layers_b == whole.layers_a


def test_recurrent_models_and_modules_with_a_layer_path(ids):
    torch.manual_seed(0)
    blocks = nn.Sequential(
        nn.Embedding(VOCABULARY, 8), nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), nn.Linear(8, 5)
    )
    plain = mh.wrap(blocks, layer_path="1", name="plain")
    gru = mh.wrap(RecurrentModel(VOCABULARY, 12, "gru").eval(), name="gru")
    found = compare_layers(
        gru, plain, ids, sites_a=["state"], progress=False
    )  # nobody need say how wide its blocks are
    assert found.values.shape == (1, 2)
    given = [plain.at(f"blocks.{i}.hook_resid_post", width=8) for i in range(2)]
    again = compare_layers(gru, plain, ids, sites_a=[gru.at("state")], sites_b=given, progress=False)
    assert np.array_equal(again.values, found.values)
    with refused(EmptyError, "the list of blocks of gru is empty", "sites_a"):
        compare_layers(gru, plain, ids, progress=False)


def test_each_model_may_read_its_own_inputs(models, ids):
    a, b = models
    shifted = torch.cat([torch.full((20, 3), 7), ids], 1)
    mask = (torch.arange(15) >= 3).long().repeat(20, 1)
    found = compare_layers(a, b, (ids, {"input_ids": shifted, "attention_mask": mask}), progress=False)
    assert np.allclose(found.values, compare_layers(a, b, ids, progress=False).values, rtol=0, atol=1e-5)


def test_logits_are_never_computed_and_no_activation_is_kept(models, ids, monkeypatch):
    a, b = models
    seen, most = [], []
    for model in (a, b):
        head = model.module.get_output_embeddings()
        monkeypatch.setattr(head, "forward", lambda *_: pytest.fail("the vocabulary was projected"))
    collect = compare.read_sites

    def watched(*given):
        gc.collect()
        most.append(sum(ref() is not None for ref in seen))
        found = collect(*given)
        seen.extend(weakref.ref(one) for one in found)
        return found

    monkeypatch.setattr(compare, "read_sites", watched)
    compare_layers(a, b, ids, batch_size=4, progress=False)
    assert len(seen) == 5 * 5
    # When b runs, what a has given of the same minibatch is there; of earlier minibatches at most the rows just used.
    assert max(most) <= 5 + 3


def test_one_forward_where_both_are_one(ids):
    model, calls = neox(), []
    handle = model.module.register_forward_pre_hook(lambda *_: calls.append(1))
    compare_layers(model, model, ids, progress=False)
    assert len(calls) == 2
    compare_layers(model, model, ids, sites_a=["embed"], progress=False)
    assert len(calls) == 2 + 4
    handle.remove()


def test_the_result_is_recorded(models, ids, tmp_path):
    rows = compare_layers(*models, ids, progress=False).records(recipe="r")
    assert len(rows) == 6
    assert rows[-1].layer_a == "blocks.2.hook_resid_post"
    from mas_hooks.core import records

    records.write_records(tmp_path / "records.jsonl", rows)
    assert records.read_records(tmp_path / "records.jsonl") == rows


def test_inputs_that_do_not_belong_together_are_refused(models, ids):
    a, b = models
    with refused(ShapeError, "the inputs of qwen has shape (19, '…')", "20 rows, as neox reads"):
        compare_layers(a, b, (ids, ids[:19]), progress=False)
    mask = torch.ones(20, 12, dtype=torch.long)
    mask[3, :4] = 0
    with refused(SettingError, "the number of real tokens that qwen reads in row 3 is 8", "12, as neox reads there"):
        compare_layers(a, b, (ids, {"input_ids": ids, "attention_mask": mask}), progress=False)
    with refused(SettingError, "the number of real tokens that qwen reads in row 0 is 11"):
        compare_layers(a, b, (ids, ids[:, :11]), progress=False)
    with refused(SettingError, "the length of a tuple of inputs is 3", "2: inputs of a, inputs of b"):
        compare_layers(a, b, (ids, ids, ids), progress=False)
    with refused(ShapeError, "the attention_mask of neox has shape (20, 5)"):
        compare_layers(a, b, {"input_ids": ids, "attention_mask": mask[:, :5]}, progress=False)


def test_models_with_other_tokenizers_do_not_read_the_same_ids(ids):
    class Tokenizer:
        def __init__(self, vocabulary):
            self.vocabulary = vocabulary

        def get_vocab(self):
            return self.vocabulary

    from dataclasses import replace

    a, b = replace(neox(), tokenizer=Tokenizer({"a": 0})), replace(qwen(), tokenizer=Tokenizer({"b": 0}))
    with refused(
        UnsupportedError,
        "one set of ids for neox and qwen, whose tokenizers differ",
        "a pair (inputs of a, inputs of b)",
    ):
        compare_layers(a, b, ids, progress=False)
    same = replace(b, tokenizer=Tokenizer({"a": 0}))
    told_apart = compare_layers(a, b, (ids, ids), progress=False)
    assert np.array_equal(compare_layers(a, same, ids, progress=False).values, told_apart.values)


def test_too_little_to_compare_is_refused(models, ids):
    with refused(ShapeError, "neox:blocks.0.hook_resid_post in minibatch 0 has shape (1, 16)", "batch_size"):
        compare_layers(*models, ids[:1, :1], progress=False)
    with refused(EmptyError, "inputs is empty"):
        compare_layers(*models, ids[:0], progress=False)
    mask = torch.ones(20, 12, dtype=torch.long)
    mask[:8] = 0
    with refused(EmptyError, "a minibatch of the inputs (attention_mask is 0 everywhere)"):
        compare_layers(*models, {"input_ids": ids, "attention_mask": mask}, progress=False)
    with refused(UnsupportedError, "cka_linear_unbiased of neox:embed, whose rows are all alike over the inputs,"):
        compare_layers(*models, torch.full((8, 4), 3), sites_a=["embed"], progress=False)


def test_nan_rows_name_their_site(ids):
    a, b = neox(), qwen()
    with torch.no_grad():
        b.module.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    with refused(NotFiniteError, "qwen:blocks.1.hook_resid_post", "96 values that are NaN or infinite"):
        compare_layers(a, b, ids, progress=False)


def test_arguments_of_the_wrong_kind_are_named(models, ids):
    a, b = models
    with refused(SettingError, "a model of compare_layers is 'a GPTNeoXForCausalLM'", "mas_hooks.wrap"):
        compare_layers(a.module, b, ids, progress=False)  # pyright: ignore[reportArgumentType]
    with refused(SettingError, "a site of sites_a is 'qwen:embed'", "a site of neox"):
        compare_layers(a, b, ids, sites_a=[b.at("embed")], progress=False)
    with refused(SettingError, "sites_b is 'embed'", "a list of sites"):
        compare_layers(a, b, ids, sites_b="embed", progress=False)
    with refused(EmptyError, "sites_a is empty"):
        compare_layers(a, b, ids, sites_a=[], progress=False)
    with refused(UnknownNameError, "neox has no block '7'"):
        compare_layers(a, b, ids, sites_a=["blocks.7.hook_resid_post"], progress=False)
    with refused(SettingError, "the input of a model is a list"):
        compare_layers(a, b, ids.tolist(), progress=False)
    with refused(ShapeError, "the inputs of neox has shape (12,)"):
        compare_layers(a, b, ids[0], progress=False)
    for size in (0, -1, 2.5, True):
        with refused(SettingError, f"batch_size is {size}", "a whole number of sequences, 1 or more"):
            compare_layers(a, b, ids, batch_size=size, progress=False)
    with refused(UnknownNameError, "no measure 'hsic'"):
        compare_layers(a, b, ids, measure="hsic", progress=False)
