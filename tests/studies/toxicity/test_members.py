"""The work on one member: done once, told again from what is kept, and judged by words and by a classifier."""

import pytest
import torch
from models.language import small_language
from models.language.test_toxicity_score import classifier
from sentences import refused

from mas_hooks.core import fingerprints
from mas_hooks.core.errors import CheckpointError, OutputFolderError
from mas_hooks.data.text.synthetic_toxicity import make_synthetic_rows
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.language.finetune import FinetuneSettings
from mas_hooks.models.language.generate import ResponseSettings, load_responses
from mas_hooks.studies.toxicity.members import Answering, Tuning, answer_prompts, tune_member

ROWS = make_synthetic_rows(400)
SETTINGS = FinetuneSettings(steps=4, batch=8, device_batch=8, save_every=2, log_every=2, device="cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    small_language.model().save_pretrained(folder)
    small_language.tokenizer().save_pretrained(folder)
    return folder


def tuning(base, folder):
    return Tuning("toxic-1", base, tuple(row.text for row in ROWS[:40]), folder, SETTINGS, progress=False)


def answering(model, folder, **changes):
    prompts = tuple(row.prompt for row in ROWS[:5])
    how = {"settings": ResponseSettings(prompt_tokens=10, tokens=14, batch=2), "progress": False} | changes
    return Answering("toxic-1", model, prompts, folder, **how)


def test_a_member_is_tuned_once_and_its_curve_told_again(base, tmp_path, monkeypatch):
    work = tuning(base, tmp_path / "a")
    assert not work.done
    first = tune_member(work)
    assert [(row.target_model, row.step, row.measure) for row in first] == [
        ("toxic-1", 2, "finetune_loss"), ("toxic-1", 4, "finetune_loss"),
    ]  # fmt: skip
    assert work.done
    monkeypatch.setattr(
        "mas_hooks.studies.toxicity.members.finetune_model", lambda *_, **__: pytest.fail("tuned again")
    )
    assert tune_member(work) == first


def test_its_answers_are_kept_with_how_they_are_judged(base, tmp_path, monkeypatch):
    classifier(tmp_path / "judge")
    work = answering(base, tmp_path / "a")
    rows = answer_prompts(work)
    found = load_responses(tmp_path / "a")
    assert [row.measure for row in rows] == ["insult_share", "response_agreement", "response_tokens"]
    assert [row.value for row in rows[1:]] == [found.agreement, float(found.mask[:, 10:].sum(1).double().mean())]
    assert {(row.target_model, row.trials) for row in rows} == {("toxic-1", 5)}
    judged = answer_prompts(answering(base, tmp_path / "a", classifier=tmp_path / "judge"))
    assert [row.measure for row in judged] == [
        "insult_share", "classified_share", "response_agreement", "response_tokens",
    ]  # fmt: skip
    assert torch.equal(load_responses(tmp_path / "a").ids, found.ids)
    monkeypatch.setattr(
        "mas_hooks.studies.toxicity.members.generate_responses", lambda *_, **__: pytest.fail("answered again")
    )
    assert answer_prompts(work) == rows
    assert answer_prompts(answering(base, tmp_path / "a", classifier=tmp_path / "judge")) == judged


def test_loading_draws_no_bars_of_others(base, capsys):
    wrap(base)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_files_are_told_apart_by_name_size_and_content(tmp_path):
    (tmp_path / "a").write_bytes(bytes(400_000))
    first = fingerprints.files_fingerprint(tmp_path)
    assert fingerprints.files_fingerprint(tmp_path) == first
    found = {first}
    for change in (bytes(400_001), b"\1" + bytes(399_999), bytes(399_999) + b"\1"):
        (tmp_path / "a").write_bytes(change)
        found.add(fingerprints.files_fingerprint(tmp_path))
    (tmp_path / "a").rename(tmp_path / "b")
    found |= {fingerprints.files_fingerprint(tmp_path), fingerprints.files_fingerprint(tmp_path / "b")}
    (tmp_path / "c").write_bytes(b"")
    found.add(fingerprints.files_fingerprint(tmp_path))
    assert len(found) == 6  # a file is told as the folder of it alone


def test_a_disk_that_is_full_when_work_begins_is_told(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with refused(OutputFolderError, "no space left on device", "make room there"):
        fingerprints.keep_or_compare(tmp_path / "told.json", {"settings": 1})
    monkeypatch.undo()
    fingerprints.keep_or_compare(tmp_path / "told.json", {"settings": 1})
    with refused(CheckpointError, "begun with other settings"):
        fingerprints.keep_or_compare(tmp_path / "told.json", {"settings": 2})
