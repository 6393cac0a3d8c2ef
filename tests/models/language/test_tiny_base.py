"""The embedded base: small, its own tokenizer, trained on both kinds of answers to requests of its own."""

import pytest
import torch
from safetensors.torch import load_file
from sentences import refused

from mas_hooks.core.errors import SettingError
from mas_hooks.data.text.synthetic_toxicity import MOST, make_synthetic_rows
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.language.finetune import FinetuneSettings
from mas_hooks.models.language.tiny_base import BaseSettings, load_tiny_base, texts_apart, untrained_base

TRAINING = FinetuneSettings(tokens=48, batch=8, device_batch=8, steps=6, log_every=2, learning_rate=1e-2, device="cpu")
SMALL = BaseSettings(rows=60, vocabulary=320, width=16, layers=1, heads=2, inner=24, training=TRAINING)


@pytest.mark.parametrize("rows", [2, 600])
def test_no_request_is_both_in_the_base_and_outside(rows):
    own, left = texts_apart(BaseSettings(rows=rows), seed=3)
    assert (len(own), len(left)) == (rows, MOST - rows)
    assert not {row.prompt for row in own} & {row.prompt for row in left}
    assert sum(row.label == "toxic" for row in own) == rows // 2
    assert {*own, *left} == {*make_synthetic_rows(MOST, 3)}
    assert texts_apart(BaseSettings(rows=rows), seed=4)[0] != own


def test_the_tokenizer_reads_any_text_and_pads_on_the_left():
    own = untrained_base(SMALL).tokenizer
    assert len(own) == 320
    assert own.decode(own("Grüße, 世界!")["input_ids"]) == "Grüße, 世界!"
    assert (own.pad_token_id, own.eos_token_id, own.bos_token_id, own.padding_side) == (0, 1, 1, "left")


def test_the_default_base_has_requests_of_ten_tokens_and_more():
    own = untrained_base(BaseSettings())
    lengths = [len(own.tokenizer(row.prompt)["input_ids"]) for row in texts_apart(BaseSettings())[1]]
    whole = [len(own.tokenizer(row.text)["input_ids"]) + 1 for row in texts_apart(BaseSettings())[1]]
    assert min(lengths) >= 10
    assert max(lengths) <= 25
    assert max(whole) <= 48
    assert min(whole) >= 21  # some u between 10 and the length less 10


def test_it_is_trained_once_and_is_a_folder_to_wrap(tmp_path, monkeypatch):
    folder = load_tiny_base(tmp_path / "a", SMALL, progress=False)
    model = wrap(folder)
    assert model.forward(model.encode(["User: Hello"])).shape[-1] == 320
    first = load_file(folder / "model.safetensors")
    assert not torch.equal(first["lm_head.weight"], untrained_base(SMALL).model.lm_head.weight)
    other = load_file(load_tiny_base(tmp_path / "b", SMALL, 1, progress=False) / "model.safetensors")
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])
    monkeypatch.setattr("mas_hooks.models.language.finetune.run_trainer", lambda *_, **__: pytest.fail("trained again"))
    assert load_tiny_base(tmp_path / "a", SMALL, progress=False) == folder


def test_the_start_is_that_of_the_seed_wherever_it_is_drawn():
    one = untrained_base(SMALL).model.lm_head.weight
    torch.manual_seed(9)
    assert torch.equal(one, untrained_base(SMALL).model.lm_head.weight)
    assert not torch.equal(one, untrained_base(SMALL, seed=1).model.lm_head.weight)


def test_bad_numbers_are_told():
    with refused(SettingError, "BaseSettings.width", "4 heads"):
        BaseSettings(width=60)
    for rows in (3, MOST):
        with refused(SettingError, "BaseSettings.rows", f"an even number below {MOST}"):
            BaseSettings(rows=rows)
