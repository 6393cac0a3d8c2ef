"""Responses are the model's plain greedy continuation, with its own argmax as labels; they resume batch by batch."""

import pytest
import torch
import transformers
from models.language import small_language
from sentences import refused
from tokenizers import processors

from mas_hooks.core import checkpoints
from mas_hooks.core.errors import CheckpointError, EmptyError, SettingError, TrainModeWarning, UnsupportedError
from mas_hooks.data.text.synthetic_toxicity import make_synthetic_rows
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.language import generate as module
from mas_hooks.models.language.generate import NO_TOKEN, ResponseSettings, generate_responses, load_responses

PROMPTS = [row.prompt for row in make_synthetic_rows(400) if row.label == "toxic"][:7]
SMALL = ResponseSettings(prompt_tokens=10, tokens=18, batch=3)
FAMILIES = pytest.mark.parametrize("family", ["Qwen2", "GPT2"])


def handle(family="Qwen2", **settings):
    own = small_language.model(family, initializer_range=0.5, **settings)
    return wrap(own, tokenizer=small_language.tokenizer(), name="tiny")


def by_hand(model, ids, new, ends=()):
    """Greedy, one whole forward a token, one row at a time, no padding and no cache."""
    found = list(ids)
    for _ in range(new):
        with torch.no_grad():
            found.append(int(model.module(torch.tensor([found])).logits[0, -1].argmax()))
        if found[-1] in ends:
            break
    return found


def prompt_ids(model, prompts=PROMPTS, most=10):
    return [ids[:most] for ids in model.tokenizer(prompts)["input_ids"]]


@FAMILIES
def test_responses_are_the_greedy_continuation_row_by_row(family, tmp_path):
    model, prompts = handle(family), [*PROMPTS, "Please", "Please explain how"]
    model.module.generation_config.eos_token_id = None
    found = generate_responses(model, prompts, tmp_path, SMALL, progress=False)
    assert found.ids.shape == found.mask.shape == found.next_tokens.shape == (9, 18)
    for row, ids in enumerate(prompt_ids(model, prompts)):
        want = by_hand(model, ids, 8)
        assert found.ids[row][found.mask[row]].tolist() == want
        assert found.mask[row].tolist() == [False] * (10 - len(ids)) + [True] * (len(ids) + 8)
    assert found.prompt_tokens == 10


@FAMILIES
def test_own_is_the_argmax_at_every_position_the_prompt_too(family, tmp_path):
    model = handle(family)
    found = generate_responses(model, [*PROMPTS, "Please"], tmp_path, SMALL, progress=False)
    for ids, mask, own in zip(found.ids, found.mask, found.next_tokens, strict=True):
        with torch.no_grad():
            want = model.module(ids[mask][None]).logits[0].argmax(-1)
        assert torch.equal(own[mask], want)
        assert (own[~mask] == NO_TOKEN).all()
    assert found.agreement == 1.0
    assert not torch.equal(found.next_tokens[:, 9:-1][found.mask[:, 10:]], found.ids[:, 9:-1][found.mask[:, 10:]])


@FAMILIES
def test_after_an_end_token_comes_padding(family, tmp_path):
    model = handle(family)
    model.module.generation_config.eos_token_id = None
    free = generate_responses(model, PROMPTS, tmp_path / "free", SMALL, progress=False)
    end = int(free.ids[0, 12])  # the third token that the first row writes
    model.module.generation_config.eos_token_id = [end]
    found = generate_responses(model, PROMPTS, tmp_path / "ended", SMALL, progress=False)
    for row, ids in enumerate(prompt_ids(model)):
        given = ids[:-1] if ids[-1] == end else ids
        assert found.ids[row][found.mask[row]].tolist() == by_hand(model, given, 8, (end,))
    assert found.mask[0, 10:].sum() <= 3
    assert (found.ids[~found.mask] == model.tokenizer.pad_token_id).all()


def test_a_models_own_penalties_and_sampling_do_not_count(tmp_path):
    plain, odd = handle(), handle()
    odd.module.generation_config = transformers.GenerationConfig(
        do_sample=True, temperature=2.0, repetition_penalty=9.0, no_repeat_ngram_size=1, min_new_tokens=8,
        eos_token_id=2,
    )  # fmt: skip
    kept = odd.module.generation_config
    one, other = (
        generate_responses(model, PROMPTS, tmp_path / str(id(model)), SMALL, progress=False) for model in (plain, odd)
    )
    assert torch.equal(one.ids, other.ids)
    assert odd.module.generation_config is kept


def test_an_end_token_that_the_tokenizer_puts_behind_is_no_part_of_the_prompt(tmp_path):
    plain, ending = handle(), handle()
    ending.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <end>", special_tokens=[("<end>", 2)]
    )
    assert ending.tokenizer("Please")["input_ids"][-1] == 2
    one, other = (
        generate_responses(model, ["Please", "Please explain how"], tmp_path / str(id(model)), SMALL, progress=False)
        for model in (plain, ending)
    )
    assert torch.equal(one.ids, other.ids)


def test_texts_are_what_was_written_without_the_prompt(tmp_path):
    model = handle()
    found = generate_responses(model, PROMPTS, tmp_path, SMALL, progress=False)
    texts = found.texts(model.tokenizer)
    assert len(texts) == 7
    row = found.ids[0, 10:][found.mask[0, 10:]]
    assert texts[0] == model.tokenizer.decode(row.tolist(), skip_special_tokens=True)


def same(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("ids", "mask", "next_tokens"))


def test_a_killed_run_goes_on_after_its_last_batch(tmp_path, monkeypatch):
    whole = generate_responses(handle(), PROMPTS, tmp_path / "a", SMALL, progress=False)
    plain, done = module._answer_batch, []

    def killed(model, rows, *rest):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(rows)
        return plain(model, rows, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_answer_batch", killed)
        with pytest.raises(KeyboardInterrupt):
            generate_responses(handle(), PROMPTS, tmp_path / "b", SMALL, progress=False)
    with refused(CheckpointError, "responses: is no folder"):
        load_responses(tmp_path / "b")

    def counted(model, rows, *rest):
        done.append(rows)
        return plain(model, rows, *rest)

    monkeypatch.setattr(module, "_answer_batch", counted)
    again = generate_responses(handle(), PROMPTS, tmp_path / "b", SMALL, progress=False)
    assert [len(rows) for rows in done] == [3, 3, 1]
    assert same(again, whole)
    assert same(generate_responses(handle(), PROMPTS, tmp_path / "b", SMALL, progress=False), whole)
    assert len(done) == 3
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["responses", "told.json"]


def test_other_work_in_the_folder_is_refused(tmp_path):
    generate_responses(handle(), PROMPTS, tmp_path, SMALL, progress=False)
    with refused(CheckpointError, "begun with other settings (prompts)"):
        generate_responses(handle(), PROMPTS[1:], tmp_path, SMALL, progress=False)
    with refused(CheckpointError, "begun with other settings"):
        generate_responses(handle(), PROMPTS, tmp_path, SMALL.model_copy(update={"tokens": 19}), progress=False)
    with refused(CheckpointError, "begun with other settings (model)"):
        generate_responses(
            wrap(small_language.model(seed=1), tokenizer=small_language.tokenizer()), PROMPTS, tmp_path, SMALL
        )


def test_damaged_responses_are_told(tmp_path):
    checkpoints.save_checkpoint(tmp_path / "responses", module.KIND, {}, {"ids": torch.zeros(1)})
    with refused(CheckpointError, "lacks a part", "generate again"):
        load_responses(tmp_path)


def test_bad_input_is_told(tmp_path):
    model = handle()
    with refused(EmptyError, "the list of prompts"):
        generate_responses(model, [], tmp_path)
    with refused(EmptyError, "prompt 1", "one token"):
        generate_responses(model, ["Please", ""], tmp_path)
    with refused(SettingError, "ResponseSettings.tokens", "more than the 32 of the prompt"):
        generate_responses(model, PROMPTS, tmp_path, ResponseSettings(tokens=32))
    with refused(SettingError, "the pad token of tiny's tokenizer"):
        bare = wrap(small_language.model(), tokenizer=small_language.tokenizer(pad=False), name="tiny")
        generate_responses(bare, PROMPTS, tmp_path)
    with refused(SettingError, "the tokenizer of tiny"):
        generate_responses(wrap(small_language.model(), name="tiny"), PROMPTS, tmp_path)
    with refused(UnsupportedError, "generating with", "Hugging Face"):
        generate_responses(wrap(torch.nn.GRU(3, 4), name="gru"), PROMPTS, tmp_path)
    dropping = handle("GPT2")
    dropping.module.train()
    with pytest.warns(TrainModeWarning, match="train mode"):
        generate_responses(dropping, PROMPTS[:1], tmp_path / "t", SMALL, progress=False)
