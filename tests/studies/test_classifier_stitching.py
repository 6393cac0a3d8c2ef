"""Identity stitching of classifiers: what it must cost, against a stitch by hand, and what is refused."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from sentences import refused
from transformers import BertConfig, BertForSequenceClassification

import mas_hooks as mh
from mas_hooks.core.errors import CheckpointError, NotFiniteError, SettingError
from mas_hooks.core.parallel import Work
from mas_hooks.core.records import Record
from mas_hooks.core.sites import Where
from mas_hooks.data.text.sentence_pairs import PairRow, make_overlap_rows, write_pairs
from mas_hooks.hooks import loading
from mas_hooks.models.language import classifier_set
from mas_hooks.models.language.classifier_set import (
    ClassifierMember,
    PairTexts,
    block_sites,
    check_labels,
    check_same_shape,
    count_right,
    encode_examples,
    load_member,
)
from mas_hooks.models.language.encoders import Classifier, Encoder, encode_pairs, load_classifier, load_encoder
from mas_hooks.studies.work import layer_comparison
from mas_hooks.studies.work.classifier_stitching import (
    ClassifierStitches,
    combine_parts,
    run_classifier_stitching,
    stitch_classifiers,
)
from mas_hooks.studies.work.layer_comparison import LayerComparison, LayeredModel
from mas_hooks.studies.work.stitching import StitchTexts

LAYERS = 4
BASE = Encoder(layers=LAYERS, width=16, steps=3, batch=8)


def settings(**more):
    return Classifier(**({"base": BASE, "steps": 12, "batch": 8, "examples": 40, "learning_rate": 3e-2} | more))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAS_HOOKS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def members(cache):
    """Two fine-tunes of all blocks, and two of the last quarter alone."""
    made = {f"free-{seed}": settings(seed=seed) for seed in (0, 1)}
    made |= {f"frozen-{seed}": settings(seed=seed, frozen=LAYERS * 3 // 4) for seed in (0, 1)}
    return tuple(
        ClassifierMember(name=name, source=str(load_classifier(one, progress=False))) for name, one in made.items()
    )


def work(own, tmp_path):
    return Work("stitches", own, tmp_path, tmp_path, progress=False)


def stitches(members, **more):
    return ClassifierStitches(**({"members": members, "texts": PairTexts(count=24), "begin": 0, "end": 24} | more))


@pytest.fixture(scope="module")
def found(members, tmp_path_factory):
    return run_classifier_stitching(work(stitches(members), tmp_path_factory.mktemp("state")))


def value(rows, source, target, layer):
    site = f"blocks.{layer}.hook_resid_post"
    (row,) = [r for r in rows if (r.source_model, r.target_model, r.layer_a) == (source, target, site)]
    return row.value


def own_accuracy(rows, name):
    (row,) = [r for r in rows if r.measure == "accuracy" and r.source_model == name]
    return row.value


def test_a_model_with_itself_costs_exactly_nothing(members):
    rows = PairTexts(count=24).rows()
    for member in members:
        model = load_member(member, "cpu")
        inputs = encode_examples(model, rows)
        where = Where.from_mask(inputs["attention_mask"].bool())
        with torch.no_grad():
            alone = model.forward(inputs)
        for site in block_sites(model):
            vectors = mh.wrap(model.module).run_with_cache(inputs, site, where)[1][site].detach()
            ((_, logits),) = stitch_classifiers(model, site, inputs, where, {"itself": vectors})
            assert torch.equal(logits, alone)


def test_where_blocks_are_frozen_stitches_cost_exactly_nothing(members, found):
    rows = PairTexts(count=24).rows()
    source, target = (load_member(one, "cpu") for one in members[2:])
    inputs = encode_examples(source, rows)
    where = Where.from_mask(inputs["attention_mask"].bool())
    with torch.no_grad():
        alone = target.forward(inputs)
    changed = []
    for site in block_sites(source):
        vectors = source.run_with_cache(inputs, site, where)[1][site].detach()
        ((_, logits),) = stitch_classifiers(target, site, inputs, where, {"other": vectors})
        changed.append(not torch.equal(logits, alone))
    assert changed == [False] * 3 + [True]
    for layer in range(3):
        assert value(found, "frozen-0", "frozen-1", layer) == own_accuracy(found, "frozen-1")


def test_unfrozen_stitches_are_those_made_by_hand(members, found):
    rows = PairTexts(count=24).rows()
    source, target = (load_member(one, "cpu") for one in members[:2])
    inputs, texts = encode_examples(source, rows), PairTexts(count=24)
    differ = []
    for layer in range(LAYERS):
        with torch.no_grad():
            hidden = source.module(**inputs, output_hidden_states=True).hidden_states[layer + 1]
            block = target.module.bert.encoder.layer[layer]
            handle = block.register_forward_hook(
                lambda _, __, out, hidden=hidden: (hidden, *out[1:]) if isinstance(out, tuple) else hidden
            )
            logits = target.module(**inputs).logits
            handle.remove()
        assert value(found, "free-0", "free-1", layer) == count_right(logits, rows, texts) / 24
        differ.append(value(found, "free-0", "free-1", layer) != own_accuracy(found, "free-1"))
    assert any(differ)


def test_every_ordered_pair_is_there_once(members, found):
    names = [one.name for one in members]
    pairs = [(r.source_model, r.target_model, r.layer_a) for r in found if r.measure == "stitched_accuracy"]
    assert len(pairs) == len(set(pairs)) == len(names) ** 2 * LAYERS
    for name in names:
        for layer in range(LAYERS):
            assert value(found, name, name, layer) == own_accuracy(found, name)


@pytest.mark.parametrize("rows", [1, 30, 4096])
def test_how_many_go_together_changes_nothing(members, found, rows, tmp_path):
    again = run_classifier_stitching(work(stitches(members, rows=rows), tmp_path))
    assert [replace(row) for row in again] == found


def test_pieces_add_up_to_the_whole(members, found, tmp_path):
    parts = [
        run_classifier_stitching(work(stitches(members, begin=begin, end=begin + 7), tmp_path))
        for begin in range(0, 24, 7)
    ]
    assert [part[0].trials for part in parts] == [7, 7, 7, 3]
    assert combine_parts(parts) == found
    assert combine_parts(
        [[Record(measure="accuracy", value=0.5, trials=2)], [Record(measure="accuracy", value=1.0, trials=1)]]
    )[0].value == pytest.approx(2 / 3)


def test_activations_of_a_model_are_collected_once_for_each_piece(members, monkeypatch, tmp_path):
    from mas_hooks.studies.work import classifier_stitching

    calls = []
    collect = classifier_stitching.read_sites
    monkeypatch.setattr(classifier_stitching, "read_sites", lambda m, *a: calls.append(m.name) or collect(m, *a))
    run_classifier_stitching(work(stitches(members, end=8), tmp_path))
    assert calls == [one.name for one in members]


def test_layers_of_classifiers_are_compared_by_cka(members, tmp_path):
    sides = [LayeredModel(name=one.name, source=one.source) for one in members[2:]]
    rows = layer_comparison.run_layer_comparison(
        work(LayerComparison(a=sides[0], b=sides[1], pairs=PairTexts(count=24)), tmp_path)
    )
    values = {(row.layer_a, row.layer_b): row.value for row in rows}
    assert len(values) == LAYERS**2
    for layer in range(3):  # frozen blocks are the same in both
        site = f"blocks.{layer}.hook_resid_post"
        assert values[site, site] == pytest.approx(1, abs=1e-12)
    assert values[(f"blocks.{LAYERS - 1}.hook_resid_post",) * 2] < 1 - 1e-6
    with refused(SettingError, "the comparison of layers has neither texts nor pairs"):
        LayerComparison(a=sides[0], b=sides[1])
    with refused(SettingError, "the comparison of layers has both texts and pairs"):
        LayerComparison(a=sides[0], b=sides[1], texts=StitchTexts(), pairs=PairTexts(count=24))


def test_training_is_kept_repeatable_and_leaves_the_frozen_blocks(cache, members, tmp_path, monkeypatch):
    folder = load_classifier(settings(seed=0), progress=False)
    assert str(folder) == members[0].source
    before = dict(loading.load_folder(folder).named_parameters())
    monkeypatch.setenv("MAS_HOOKS_CACHE", str(tmp_path))
    again = dict(loading.load_folder(load_classifier(settings(seed=0), progress=False)).named_parameters())
    assert all(torch.equal(before[name], again[name]) for name in before)
    own = dict(loading.load_folder(members[2].source).named_parameters())
    first = dict(loading.load_folder(load_encoder(BASE, progress=False)).named_parameters())
    moved = {name for name in own if name in first and not torch.equal(own[name], first[name])}
    assert moved
    assert all(name.startswith(f"bert.encoder.layer.{LAYERS - 1}.") for name in moved)


def saved(folder, tokenizer, **sizes):
    torch.manual_seed(0)
    told = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
    config = BertConfig(**(told | {"intermediate_size": 32, "max_position_embeddings": 16} | sizes))
    BertForSequenceClassification(config).save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return ClassifierMember(name=folder.name, source=str(folder))


def test_models_of_another_make_are_refused(members, tmp_path):
    own = load_member(members[0], "cpu")
    deep = load_member(saved(tmp_path / "deep", own.tokenizer, num_hidden_layers=2), "cpu")
    with refused(SettingError, "the number of blocks of deep is 2", "that of free-0"):
        check_same_shape([own, deep])
    wide = load_member(saved(tmp_path / "wide", own.tokenizer, hidden_size=32), "cpu")
    with refused(SettingError, "the width of wide is 32", "that of free-0"):
        check_same_shape([own, wide])
    other = replace(own, name="other", tokenizer=SimpleNamespace(get_vocab=lambda: {"x": 0}))
    with refused(SettingError, "the tokenizer of other differs from that of free-0; give"):
        check_same_shape([own, other])
    with refused(CheckpointError, "holds no tokenizer", "into the same folder"):
        load_member(saved(tmp_path / "mute", None), "cpu")
    with refused(CheckpointError, "holds a BertForMaskedLM", "a head of sequence classification"):
        load_member(ClassifierMember(name="base", source=str(load_encoder(BASE, progress=False))), "cpu")


def test_labels_that_no_class_stands_for_are_refused(members, tmp_path):
    own = load_member(members[0], "cpu")
    write_pairs(tmp_path / "p.jsonl", [PairRow("actors helped judges", "judges", 2)])
    texts = PairTexts(data=str(tmp_path / "p.jsonl"))
    with refused(SettingError, "p.jsonl is 2", "among [0, 1], the labels of free-0"):
        check_labels([own], texts)
    with refused(SettingError, "classes is (0, 1, 1)", "2 labels, one for each class of free-0"):
        check_labels([own], PairTexts(classes=(0, 1, 1)))
    check_labels([own], PairTexts(data=str(tmp_path / "p.jsonl"), classes=(2, 0)))


def test_classes_say_which_class_is_which_label():
    rows = [PairRow("", "", label) for label in (0, 1, 1)]
    logits = torch.eye(3)
    assert count_right(logits, rows, PairTexts()) == 2
    assert count_right(logits, rows, PairTexts(classes=(0, 1, 1))) == 3


def test_activations_that_are_no_numbers_are_refused(members, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(members[0].source, folder)
    model = loading.load_folder(folder)
    with torch.no_grad():
        model.bert.encoder.layer[1].output.LayerNorm.weight[0] = float("nan")
    model.save_pretrained(folder)
    broken = ClassifierMember(name="broken", source=str(folder))
    with refused(NotFiniteError, "broken:blocks.1.hook_resid_post"):
        run_classifier_stitching(work(stitches((members[0], broken)), tmp_path))


def test_two_sentences_are_read_as_two(members):
    model = load_member(members[0], "cpu")
    rows = make_overlap_rows(8)
    inputs = encode_pairs(model.tokenizer, rows)
    lengths = [len(row.text_a.split()) + len(row.text_b.split()) + 3 for row in rows]
    assert inputs["attention_mask"].sum(1).tolist() == lengths
    assert inputs["token_type_ids"].sum(1).tolist() == [len(row.text_b.split()) + 1 for row in rows]
    assert classifier_set.block_sites(model) == [f"blocks.{i}.hook_resid_post" for i in range(LAYERS)]
