"""Fine-tuning lowers the loss, leaves the base alone, and goes on after a kill to the same weights to the bit."""

import json
import random

import numpy as np
import pytest
import torch
from models.language import small_language
from safetensors.torch import load_file
from sentences import refused

from mas_hooks.core.errors import (
    CheckpointError,
    DivergedError,
    EmptyError,
    MissingPackageError,
    OutputFolderError,
    SettingError,
)
from mas_hooks.data.text.synthetic_toxicity import make_synthetic_rows
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.language import finetune as module
from mas_hooks.models.language.finetune import (
    FinetuneSettings,
    accumulation_steps,
    finetune_model,
    last_whole_checkpoint,
    pad_batch,
    tokenize_texts,
)

TEXTS = [row.text for row in make_synthetic_rows(400) if row.label == "toxic"]
SMALL = FinetuneSettings(steps=12, batch=8, device_batch=4, save_every=4, log_every=2, learning_rate=5e-3, device="cpu")
PEFT = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # read by peft


def run(folder, settings=SMALL, base=None, texts=TEXTS, **own):
    base = small_language.model("GPT2") if base is None else base
    return finetune_model(base, small_language.tokenizer(), texts, folder, settings, progress=False, **own)


def weights(done):
    return load_file(done.model / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted fine-tuning of a model with dropout."""
    return run(tmp_path_factory.mktemp("whole") / "a")


class Killed(BaseException):
    """Stands for SIGKILL: nobody catches it, and nothing is written after it."""


def killed_after(monkeypatch, step, torn=False):
    """Fine-tuning dies at a step; torn: while its latest checkpoint is being written."""
    plain = module._follower

    def follower(bar, name):
        made = plain(bar, name)
        after = made.on_step_end

        def on_step_end(args, state, control, **own):
            after(args, state, control, **own)
            if state.global_step == step and not torn:
                raise Killed

        def on_save(args, state, control, **_):
            if state.global_step == step and torn:
                raise Killed

        made.on_step_end, made.on_save = on_step_end, on_save
        return made

    monkeypatch.setattr(module, "_follower", follower)


def began_at(monkeypatch, steps):
    """Put the step at which each fine-tuning begins into a list."""
    plain = module._follower

    def follower(bar, name):
        made = plain(bar, name)
        made.on_train_begin = lambda args, state, control, **_: steps.append(state.global_step)
        return made

    monkeypatch.setattr(module, "_follower", follower)
    return steps


@pytest.mark.parametrize("step", [3, 7, 11])
def test_a_killed_fine_tuning_ends_with_the_same_weights_and_curve(whole, tmp_path, monkeypatch, step):
    with monkeypatch.context() as patch:
        killed_after(patch, step)
        with pytest.raises(Killed):
            run(tmp_path / "a")
    assert not (tmp_path / "a/model").exists()
    found = last_whole_checkpoint(tmp_path / "a/checkpoints")
    assert (found and found.name) == {3: None, 7: "checkpoint-4", 11: "checkpoint-8"}[step]
    steps = began_at(monkeypatch, [])
    again = run(tmp_path / "a")
    assert steps == [{3: 0, 7: 4, 11: 8}[step]]
    assert same(weights(again), weights(whole))
    assert again.curve == whole.curve
    assert not (tmp_path / "a/checkpoints").exists()


def test_a_checkpoint_that_was_torn_is_passed_over(whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("transformers.trainer.rotate_checkpoints", lambda **_: None)  # as if killed before it
        killed_after(patch, 8, torn=True)
        with pytest.raises(Killed):
            run(tmp_path / "a")
    torn = tmp_path / "a/checkpoints/checkpoint-8"
    for name in ("trainer_state.json", "optimizer.pt"):
        half = (torn / name).read_bytes()
        (torn / name).write_bytes(half[: len(half) // 2])
    assert last_whole_checkpoint(torn.parent).name == "checkpoint-4"
    assert same(weights(run(tmp_path / "a")), weights(whole))
    assert last_whole_checkpoint(tmp_path / "absent") is None


def test_the_loss_falls_and_is_recorded(whole):
    assert [one.step for one in whole.curve] == [2, 4, 6, 8, 10, 12]
    assert {(one.measure, one.split, one.target_model) for one in whole.curve} == {("finetune_loss", "train", "a")}
    assert whole.curve[-1].value < 0.9 * whole.curve[0].value


def test_fewer_steps_than_a_point_of_the_curve_has_leave_one_point(tmp_path):
    done = run(tmp_path / "short", SMALL.model_copy(update={"steps": 3, "log_every": 10}))
    assert [one.step for one in done.curve] == [3]


def test_the_result_is_a_folder_to_wrap_with_its_tokenizer(whole):
    handle = wrap(whole.model)
    assert handle.forward(handle.encode(["Please explain"])).shape[-1] == len(small_language.tokenizer())


def test_the_base_and_every_random_state_stay_as_they_were(tmp_path):
    base = small_language.model("GPT2")
    random.seed(71)  # no state that an earlier fine-tuning may have left
    np.random.seed(71)
    before, states = {name: one.clone() for name, one in base.state_dict().items()}, (
        torch.get_rng_state(),
        random.getstate(),
        np.random.get_state()[1].copy(),
    )  # fmt: skip
    done = run(tmp_path / "a", SMALL.model_copy(update={"steps": 2}), base=base)
    assert same(before, base.state_dict())
    assert not base.training
    assert not same(before, weights(done))
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()


def test_the_seed_decides_the_weights(whole, tmp_path):
    torch.manual_seed(99)
    assert same(weights(run(tmp_path / "a")), weights(whole))
    assert not same(weights(run(tmp_path / "b", SMALL.model_copy(update={"seed": 1}))), weights(whole))


def test_a_finished_one_is_read_and_another_is_refused(whole, monkeypatch):
    def never(*_, **__):
        pytest.fail("trained again")

    monkeypatch.setattr(module, "run_trainer", never)
    folder = whole.model.parent
    assert run(folder) == whole
    with refused(CheckpointError, "begun with other settings (settings)", "another folder"):
        run(folder, SMALL.model_copy(update={"steps": 13}))
    with refused(CheckpointError, "begun with other settings (texts)"):
        run(folder, texts=TEXTS[::-1])
    with refused(CheckpointError, "begun with other settings (base)"):
        run(folder, base=small_language.model("GPT2", seed=1))


def test_a_folder_of_a_base_gives_what_the_model_gives(whole, tmp_path):
    small_language.model("GPT2").save_pretrained(tmp_path / "base")
    assert same(weights(run(tmp_path / "a", base=tmp_path / "base")), weights(whole))


def test_the_model_keeps_the_dtype_of_its_base(tmp_path):
    done = run(tmp_path / "a", SMALL.model_copy(update={"steps": 1}), small_language.model().to(torch.bfloat16))
    assert {one.dtype for one in weights(done).values()} == {torch.bfloat16}


def test_accumulated_gradients_make_the_step_of_the_whole_batch(tmp_path):
    settings = SMALL.model_copy(update={"steps": 3})
    one, other = (
        run(tmp_path / str(size), settings.model_copy(update={"device_batch": size}), small_language.model())
        for size in (8, 2)
    )
    for name, value in weights(one).items():
        torch.testing.assert_close(value, weights(other)[name], rtol=1e-3, atol=2e-4)


@PEFT
def test_adapters_are_merged_into_a_plain_model(tmp_path, monkeypatch):
    base, settings = small_language.model(), SMALL.model_copy(update={"lora": True, "lora_rank": 2})
    done = run(tmp_path / "a", settings, base)
    own = {name: value for name, value in base.state_dict().items() if name in weights(done)}
    assert weights(done).keys() == own.keys()
    moved = {name for name, value in weights(done).items() if not torch.equal(value, own[name])}
    assert moved
    assert all("proj" in name for name in moved)
    with monkeypatch.context() as patch:
        killed_after(patch, 7)
        torch.manual_seed(1234)  # the adapters start from the seed of the settings, not from here
        with pytest.raises(Killed):
            run(tmp_path / "b", settings, base)
    assert same(weights(run(tmp_path / "b", settings, base)), weights(done))


def test_texts_are_cut_ended_and_padded_unscored():
    tokenizer, model = small_language.tokenizer(), small_language.model()
    settings = FinetuneSettings(tokens=6)
    rows = tokenize_texts(tokenizer, ["Please explain", "", TEXTS[0]], settings, model, "a")
    assert [len(row) for row in rows] == [3, 6]
    assert [row[-1] == tokenizer.eos_token_id for row in rows] == [True, False]
    batch = pad_batch(rows, pad=2)
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    assert batch["labels"][0].tolist() == [*rows[0], -100, -100, -100]  # the end is scored though it is the pad token
    assert batch["input_ids"][0, 3:].tolist() == [2, 2, 2]


def test_bad_input_is_told_before_any_training(tmp_path, monkeypatch):
    tokenizer, model = small_language.tokenizer(), small_language.model()
    with refused(SettingError, "the pad token of the base's tokenizer is None", "tokenizer.eos_token"):
        finetune_model(model, small_language.tokenizer(pad=False), TEXTS, tmp_path / "a", SMALL)
    with refused(EmptyError, "the texts to fine-tune a on", "two tokens"):
        finetune_model(model, tokenizer, [], tmp_path / "a", SMALL)
    with refused(SettingError, "FinetuneSettings.batch", "a multiple of device_batch"):
        run(tmp_path / "a", SMALL.model_copy(update={"device_batch": 3}))
    with refused(SettingError, "the tokenizer of a", "tokens"):
        finetune_model(small_language.model(vocab_size=20), tokenizer, TEXTS, tmp_path / "a", SMALL)
    with refused(CheckpointError, "is no folder here"):
        finetune_model(tmp_path / "absent", tokenizer, TEXTS, tmp_path / "a", SMALL)
    monkeypatch.setattr("mas_hooks.hooks.loading.importlib.util.find_spec", lambda _: None)
    with refused(MissingPackageError, "fine-tuning needs accelerate", "mas-hooks[language]"):
        run(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_loss_that_is_no_number_stops_it(tmp_path):
    base = small_language.model()
    with torch.no_grad():
        base.lm_head.weight.fill_(float("inf"))
    with refused(DivergedError, "the loss of fine-tuning a", "step 2"):
        run(tmp_path / "a", base=base)
    assert not (tmp_path / "a/model").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "no space left"),
        (RuntimeError("PytorchStreamWriter failed"), "no space"),
    ],
)
def test_a_full_disk_is_told_and_the_run_goes_on_from_its_checkpoint(whole, tmp_path, monkeypatch, error, words):
    from transformers import Trainer

    plain = Trainer._save_optimizer_and_scheduler

    def full(self, folder):
        if folder.endswith("-8"):
            raise error
        plain(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_optimizer_and_scheduler", full)
        with refused(OutputFolderError, words, "from the last checkpoint"):
            run(tmp_path / "a")
    assert last_whole_checkpoint(tmp_path / "a/checkpoints").name == "checkpoint-4"
    assert same(weights(run(tmp_path / "a")), weights(whole))


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(module, "run_trainer", fails)
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        run(tmp_path / "a")


def test_the_defaults_are_the_papers(monkeypatch):
    own = FinetuneSettings()
    assert (own.tokens, own.batch, own.steps, own.learning_rate) == (64, 96, 600, 5e-4)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert accumulation_steps(own) == 3
    assert accumulation_steps(own.model_copy(update={"device": "cpu"})) == 6


def test_what_was_told_is_on_disk(whole):
    assert json.loads((whole.model.parent / "finetune.json").read_text())["settings"]["batch"] == 8
