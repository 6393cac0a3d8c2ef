"""Stitches of language models: what costs nothing, a penalty by hand, what is kept, what is refused."""

import json
from dataclasses import replace

import pytest
import torch
from sentences import refused
from torch import nn

from mas_hooks.alignment import methods
from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.directions import PatchedDirections
from mas_hooks.alignment.plan import Direction
from mas_hooks.alignment.transports import TransportSpec
from mas_hooks.core.errors import CheckpointError, EmptyError, SettingError
from mas_hooks.core.parallel import Work
from mas_hooks.data.text.corpus import byte_pairs
from mas_hooks.data.text_pairs import shared_text_pairs
from mas_hooks.engine.cache import ActivationCache
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.language.load import load_language_model
from mas_hooks.models.language.small_lm import SmallModel, load_small_lm, pack_texts, untrained_small_lm
from mas_hooks.studies.work import stitching
from mas_hooks.studies.work.stitching import (
    StitchComparison,
    StitchTexts,
    interval_record,
    read_losses,
    sequence_losses,
)
from mas_hooks.training.settings import FitSettings

TINY = SmallModel(layers=2, width=8, heads=2, context=16, vocabulary=300, steps=12, batch=4)
FIT = FitSettings(
    batch_size=4, learning_rate=0.3, steps=6, validate_every=3, patience=9, select_by="loss", optimizer="sgd"
)
TEXTS = StitchTexts(context=16, sizes=(32, 8, 12))


def stitch(**given):
    solu = TINY.model_copy(update={"activation": "solu"})
    return StitchComparison(**{"source": solu, "target": TINY, "layer": 1, "texts": TEXTS, "fit": FIT, **given})


def work(folder, own):
    return Work("stitch", own, folder / "state", folder / "alignment", progress=False)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("kind", ["gelu", "solu"])
def test_a_model_with_itself_at_the_identity_costs_exactly_nothing(kind, layer):
    model = load_language_model(TINY.model_copy(update={"activation": kind}), progress=False)
    site = f"blocks.{layer}.hook_resid_post"
    plan = methods.stitch(accessible=1, kind="affine", init="identity")
    alignment = Alignment.from_plan(plan, [model.at(site), model.at(site)])
    pairs = shared_text_pairs(pack_texts(300, 16).test[:8])
    stitched, alone = sequence_losses(alignment, pairs)
    assert torch.equal(stitched, alone)
    with torch.no_grad():
        alignment.transports["0_1"].weight.mul_(1.5)
    stitched, alone = sequence_losses(alignment, pairs)
    assert (stitched != alone).all()


class Reader(nn.Module):
    """Says the next token from this one alone; its site is as wide as asked for."""

    def __init__(self, width, seed):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.site, self.head = nn.Embedding(9, width), nn.Linear(width, 9)

    def forward(self, input_ids, attention_mask=None, position_ids=None):
        return self.head(self.site(input_ids))


def test_the_penalty_by_hand_between_unequal_widths():
    readers = [Reader(4, 0), Reader(6, 1)]
    sites = [wrap(own.eval(), name=f"reader {own.head.in_features}").at("site") for own in readers]
    alignment = Alignment.from_plan(methods.stitch(accessible=1, kind="affine", layer_norm="after"), sites)
    one = alignment.transports["0_1"]
    ids = torch.randint(9, (5, 6), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[3, 4:] = 0
    stitched, alone = sequence_losses(alignment, shared_text_pairs({"input_ids": ids, "attention_mask": mask}))
    with torch.no_grad():
        h = nn.functional.layer_norm(readers[0].site(ids) @ one.weight.T + one.bias, (6,))
        for found, logits in ((stitched, readers[1].head(h)), (alone, readers[1](ids))):
            each = nn.functional.cross_entropy(logits[:, :-1].mT, ids[:, 1:], reduction="none")
            scored = mask[:, 1:].float()
            torch.testing.assert_close(found.float(), (each * scored).sum(1) / scored.sum(1))


def test_records_and_losses_agree(tmp_path):
    own = work(tmp_path, stitch())
    rows = stitching.run_stitching(own)
    stitched, alone = read_losses(own)
    found = {row.measure: row for row in rows if row.split == "test"}
    assert found["stitched_loss"].value == pytest.approx(float(stitched.mean()))
    assert found["own_loss"].value == pytest.approx(float(alone.mean()))
    penalty = found["stitching_penalty"]
    assert penalty.value == pytest.approx(float((stitched - alone).mean()))
    assert penalty == interval_record(penalty, stitched - alone)
    assert penalty.value_low < penalty.value < penalty.value_high
    assert (penalty.trials, penalty.source_model, penalty.target_model) == (12, "solu-2l", "gelu-2l")
    assert penalty.target_site == "blocks.1.hook_resid_post"
    curve = [row for row in rows if row.split == "valid"]
    assert [row.step for row in curve] == [0, 3, 6]
    assert penalty.step == min(curve, key=lambda row: row.value).step
    assert {row.iia for row in curve} == {None}
    gelu = load_small_lm(TINY, progress=False).module
    logits = gelu(pack_texts(300, 16).test[:12]).logits[:, :-1]
    alone_by_hand = nn.functional.cross_entropy(logits.mT, pack_texts(300, 16).test[:12, 1:], reduction="none").mean(1)
    torch.testing.assert_close(alone.float(), alone_by_hand, rtol=1e-5, atol=1e-5)


def test_a_stitch_goes_on_with_the_same_numbers(tmp_path, monkeypatch):
    whole = stitching.run_stitching(work(tmp_path / "whole", stitch()))
    real = stitching.sequence_losses

    def broken(*_):
        monkeypatch.setattr(stitching, "sequence_losses", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(stitching, "sequence_losses", broken)
    with pytest.raises(KeyboardInterrupt):
        stitching.run_stitching(work(tmp_path / "again", stitch()))
    again = stitching.run_stitching(work(tmp_path / "again", stitch()))
    assert [replace(row, seconds=None) for row in again] == [replace(row, seconds=None) for row in whole]
    with pytest.raises(CheckpointError, match=r"holds a fit with other settings \(seed\)"):
        stitching.run_stitching(work(tmp_path / "again", stitch(seed=1)))


def test_source_and_target_are_not_the_same_thing(tmp_path):
    there, back = stitch(), stitch(source=TINY, target=stitch().source)
    penalties = [
        next(
            row.value
            for row in stitching.run_stitching(work(tmp_path / name, own))
            if row.measure == "stitching_penalty"
        )
        for name, own in (("there", there), ("back", back))
    ]
    assert penalties[0] != penalties[1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"layer": 2}, r"layer is 2, but must be a block of solu-2l, 0 to 1"),
        (
            {"source": TINY.model_copy(update={"vocabulary": 290})},
            r"the tokenizer of gelu-2l differs from that of gelu-2l; give",
        ),
        ({"texts": StitchTexts(context=16, sizes=(1, 0, 1))}, r"sizes is \(1, 0, 1\), but must be three numbers"),
    ],
)
def test_refusals(tmp_path, given, said):
    with pytest.raises(SettingError, match=said):
        stitching.run_stitching(work(tmp_path, stitch(**given)))


def test_activations_that_do_not_fit_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(stitching, "spare_memory", lambda _: 8_000)
    said = r"sizes is \(32, 8, 12\), but must be at most about 15 training rows: 0.0 GiB of activations would not fit"
    with pytest.raises(SettingError, match=said):
        stitching.run_stitching(work(tmp_path, stitch()))


def test_texts_of_ones_own(tmp_path):
    model = load_language_model(TINY, progress=False)
    lines = [
        json.dumps({"text": f"number {index} is followed by {index + 1}, as everyone knows"}) for index in range(40)
    ]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines), "utf-8")
    own = StitchTexts(data=str(tmp_path / "texts.jsonl"), context=16, sizes=(8, 4, 4))
    assert [tuple(part.shape) for part in own.rows(model)] == [(8, 16), (4, 16), (4, 16)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines[:3]), "utf-8")
    with pytest.raises(
        EmptyError, match=r"the .* part of .*, in rows of 500 tokens, is empty; it has \d+ tokens: give more text"
    ):
        StitchTexts(data=str(tmp_path), context=500).rows(model)
    other = wrap(model.module, tokenizer=byte_pairs(["pears and apples, apples and pears"], 270), name="gelu-2l")
    with pytest.raises(SettingError, match=r"data is None, but must be a file or folder of texts: gelu-2l has another"):
        TEXTS.rows(other)


def bare(folder, vocabulary=300):
    """A folder with a config, a tokenizer, and weights that cannot be read."""
    own = TINY.model_copy(update={"vocabulary": vocabulary})
    untrained_small_lm(own).config.save_pretrained(folder)
    pack_texts(vocabulary, 16).tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").touch()
    return str(folder)


def test_what_models_cannot_read_is_told_without_their_weights(tmp_path):
    one, other = bare(tmp_path / "one"), bare(tmp_path / "other", 290)
    TEXTS.check([one, TINY])
    with refused(SettingError, "context is 17, but must be at most 16, what one can read"):
        StitchTexts(context=17).check([TINY.model_copy(update={"context": 17}), one])
    with refused(SettingError, "the tokenizer of other differs from that of one; give"):
        TEXTS.check([one, other])
    with refused(CheckpointError, "is no folder here"):
        TEXTS.check([one, str(tmp_path / "none")])
    (tmp_path / "few.jsonl").write_text("\n".join(json.dumps({"text": word * 40}) for word in "abc"), "utf-8")
    with refused(EmptyError, "the training part of", "few.jsonl, in rows of 500 tokens, is empty; it has"):
        StitchTexts(data=str(tmp_path / "few.jsonl"), context=500).check([TINY.model_copy(update={"context": 500})])
    (tmp_path / "other" / "model.safetensors").unlink()
    with refused(CheckpointError, "other: holds no safetensors weights"):
        TEXTS.check([one, other])
    (tmp_path / one / "tokenizer.json").unlink()
    (tmp_path / one / "tokenizer_config.json").unlink()
    with refused(CheckpointError, "one: holds no tokenizer"):
        TEXTS.check([one])


def test_a_stitch_of_longer_rows_than_a_model_reads_is_refused(tmp_path):
    longer = TEXTS.model_copy(update={"context": 17})
    with refused(SettingError, "context is 17, but must be at most 16, what gelu-2l can read"):
        stitching.run_stitching(work(tmp_path, stitch(source=TINY, texts=longer)))


def test_the_transport_is_that_of_the_paper_by_default():
    assert stitch().transport == TransportSpec(kind="affine", layer_norm="after", init="random")
    assert stitch().plan.method == "affine_stitching"


def test_models_of_transformer_lens_can_be_stitched(monkeypatch):
    """A model of its own kind, as its SoLU repos become, into one of Hugging Face."""
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge.sources import native

    config = TransformerBridgeConfig(
        d_model=12, n_layers=2, n_heads=2, d_head=6, n_ctx=16, d_vocab=300, d_mlp=24, act_fn="solu_ln",
        normalization_type="LN", architecture="TransformerLensNative",
    )  # fmt: skip
    solu = wrap(native.boot(config).eval(), name="solu")
    gelu = load_language_model(TINY, progress=False)
    pairs, site = shared_text_pairs(pack_texts(300, 16).test[:4]), "blocks.0.hook_resid_post"
    for models in ((solu, gelu), (gelu, solu)):
        plan = methods.stitch(accessible=1, kind="affine", layer_norm="after")
        alignment = Alignment.from_plan(plan, [model.at(site) for model in models])
        swaps = PatchedDirections(
            alignment, pairs, [Direction(0, 1)], ActivationCache(alignment.sites, alignment.models)
        )
        monkeypatch.setattr(
            "mas_hooks.alignment.directions.LOGITS", 3 * 300 * 16
        )  # the vocabulary is known of both kinds
        assert swaps._rows(Direction(0, 1)) == 3
        stitched, alone = sequence_losses(alignment, pairs)
        own = models[1].forward(pack_texts(300, 16).test[:4])[:, :-1]
        by_hand = nn.functional.cross_entropy(own.mT, pack_texts(300, 16).test[:4, 1:], reduction="none").mean(1)
        torch.testing.assert_close(alone.float(), by_hand, rtol=1e-5, atol=1e-5)
        assert (stitched != alone).all()
    same = Alignment.from_plan(methods.stitch(1, kind="affine", init="identity"), [solu.at(site), solu.at(site)])
    assert torch.equal(*sequence_losses(same, pairs))
