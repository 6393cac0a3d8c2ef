"""The recipe `toxicity` up to the responses, by the command line: kept by what it depends on, and killed on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from command_line import out
from safetensors.torch import load_file

from mas_hooks.cli import main
from mas_hooks.core import records
from mas_hooks.core.settings import Options
from mas_hooks.data.text import splits as prepare
from mas_hooks.models.language import generate
from mas_hooks.models.language.tiny_base import BaseSettings, texts_apart
from mas_hooks.studies.toxicity import ToxicitySettings, places, stages

EARLY = ("--stages", "data", "finetune", "responses")
SMALL = {
    "jobs": 1, "prompts": 12, "prepare.test": 12, "prepare.rows": 20, "splits": 2,
    "pretrain.rows": 200, "pretrain.vocabulary": 400, "pretrain.width": 16, "pretrain.layers": 1,
    "pretrain.inner": 16, "pretrain.training.steps": 4, "finetune.steps": 4, "finetune.save-every": 2,
    "finetune.log-every": 2, "finetune.batch": 8, "finetune.device-batch": 8, "responses.batch": 4,
}  # fmt: skip
"""Two members of each class, that know nothing."""


def words(folder, *flags, **changes):
    told = [part for name, value in {**SMALL, **changes}.items() for part in (f"--{name}", str(value))]
    return ["run", "toxicity", "--quiet", "--out", str(folder), *told, *flags]


def members_of(folder):
    """The settings and the members of a run."""
    told = json.loads((Path(folder) / "settings.json").read_text())
    settings = ToxicitySettings(**{name: value for name, value in told.items() if name != "recipe"})
    return settings, stages.toxicity_members(settings, Options())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("toxicity")


@pytest.fixture
def cache(place, monkeypatch):
    monkeypatch.setenv("MAS_HOOKS_CACHE", str(place / "cache"))
    return place / "cache" / "toxicity"


@pytest.fixture(scope="module")
def whole(place):
    """The early stages, uninterrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAS_HOOKS_CACHE", str(place / "cache"))
        main.main(words(place / "run", *EARLY))
    return place / "run"


def test_every_member_is_tuned_and_answers(whole, cache):
    _, own = members_of(whole)
    assert [(one.name, one.label) for one in own] == [
        ("toxic-1", "toxic"), ("toxic-2", "toxic"), ("nontoxic-1", "nontoxic"), ("nontoxic-2", "nontoxic"),
    ]  # fmt: skip
    weights = [load_file(one.model / "model.safetensors")["lm_head.weight"] for one in own]
    assert not any(torch.equal(weights[0], other) for other in weights[1:])
    found = [generate.load_responses(one.responses) for one in own]
    prompts = [one.ids[:, : one.prompt_tokens] for one in found]
    assert all(torch.equal(prompts[0], other) for other in prompts)
    assert found[0].ids.shape == (12, 48)
    assert len(list(cache.glob("base-*"))) == len(list(cache.glob("finetune-*"))) == 1


def test_no_text_of_the_base_and_no_prompt_of_the_test_is_in_a_split(whole, cache):
    ready, _ = prepare.load_splits(next(cache.glob("data-*")))
    base = {row.prompt for row in texts_apart(BaseSettings(rows=200))[0]}
    splits = [{row.prompt for row in rows} for rows in ready.splits.values()]
    assert all(len(rows) == 20 for rows in ready.splits.values())
    assert not base & set().union(*splits, (row.prompt for row in ready.test))
    assert not set().union(*splits) & {row.prompt for row in ready.test}


def test_the_records_tell_sizes_losses_and_behaviour(whole):
    rows = records.read_records(whole / "records.jsonl")
    assert {row.recipe for row in rows} == {"toxicity"}
    assert [row.value for row in rows if row.measure == "texts"] == [20] * 4 + [12] * 2
    curves = [row for row in rows if row.measure == "finetune_loss"]
    assert [(row.target_model, row.step) for row in curves[:3]] == [("toxic-1", 2), ("toxic-1", 4), ("toxic-2", 2)]
    assert len([row for row in rows if row.measure == "insult_share" and row.trials == 12]) == 4
    assert {row.measure for row in rows} >= {"behaviour_gap", "response_tokens", "response_agreement"}


def test_other_alignments_do_not_tune_again_and_other_tunings_make_no_new_base(whole, place, cache, monkeypatch):
    def never(*_):
        pytest.fail("tuned again")

    settings, own = members_of(whole)
    other = settings.model_copy(update={"align": settings.align.model_copy(update={"margin": 3})})
    assert stages.toxicity_members(other, Options()) == own
    with monkeypatch.context() as patch:
        patch.setattr("mas_hooks.studies.toxicity.members.finetune_model", never)
        patch.setattr("mas_hooks.studies.toxicity.members.generate_responses", never)
        main.main(words(place / "again", *EARLY, **{"align.margin": 3}))
    assert records.read_records(place / "again/records.jsonl") == records.read_records(whole / "records.jsonl")


@pytest.mark.parametrize(
    ("stage", "changes", "first"),
    [
        (None, {"preset": "paper", "stages": ("report",)}, None),
        ("align", {"margin": 2}, None),
        (None, {"prompts": 11}, "responses"),
        (None, {"least_tokens": 3}, "responses"),
        ("responses", {"tokens": 40}, "responses"),
        ("finetune", {"steps": 5}, "finetunes"),
        ("prepare", {"rows": 19}, "data"),
        ("pretrain", {"layers": 2}, "base"),
        (None, {"seed": 1}, "both"),
    ],
)
def test_a_setting_changes_the_folders_of_its_stage_and_of_those_above(stage, changes, first):
    settings = ToxicitySettings()
    own = changes if stage is None else {stage: getattr(settings, stage).model_copy(update=changes)}
    one, two = (places.StageFolders.of(each, Options()) for each in (settings, settings.model_copy(update=own)))
    changed = {name for name in ("base", "data", "finetunes", "responses") if getattr(one, name) != getattr(two, name)}
    above = {"responses": {"responses"}, "finetunes": {"finetunes", "responses"}}
    above |= {name: {name, "finetunes", "responses"} for name in ("base", "data")}
    above |= {"both": {"base", "data", "finetunes", "responses"}, None: set()}
    assert changed == above[first]


def test_other_texts_or_another_base_of_the_same_name_are_other_work(tmp_path):
    texts, base = tmp_path / "mine.jsonl", tmp_path / "base"
    base.mkdir()
    texts.write_text("{}")
    (base / "model.safetensors").write_bytes(b"one")
    settings = ToxicitySettings(base=str(base), preset="tiny", data=(f"own={texts}",))
    one = places.StageFolders.of(settings, Options())
    texts.write_text("{ }")
    two = places.StageFolders.of(settings, Options())
    (base / "model.safetensors").write_bytes(b"two")
    three = places.StageFolders.of(settings, Options())
    assert (one.data == two.data, one.base == two.base) == (False, True)
    assert (two.data == three.data, two.base == three.base) == (True, False)
    assert len({one.finetunes, two.finetunes, three.finetunes}) == 3


def started(place, folder, *flags):
    environment = {**os.environ, "MAS_HOOKS_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from mas_hooks.cli.main import main; main()", *words(folder, *EARLY, *flags)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill_when(run, found):
    """End a run by SIGKILL as soon as a file is there."""
    began = time.monotonic()
    while not found():
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() - began < 120
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL


def test_a_run_killed_in_any_stage_ends_with_the_same_models_and_responses(whole, tmp_path, cache, monkeypatch):
    kept = tmp_path / "cache/toxicity"
    with started(tmp_path, tmp_path / "run") as run:
        kill_when(run, lambda: any(kept.glob("finetune-*/toxic-2/checkpoints/checkpoint-*")))
    assert not any(kept.glob("responses-*"))
    with started(tmp_path, tmp_path / "run", "--resume") as run:
        kill_when(run, lambda: any(kept.glob("responses-*/toxic-2/batches/0*")))
    first = {path: path.stat().st_mtime_ns for path in kept.glob("finetune-*/*/model/model.safetensors")}
    assert len(first) == 4
    settings, own = members_of(whole)
    monkeypatch.setenv("MAS_HOOKS_CACHE", str(tmp_path / "cache"))
    main.main(words(tmp_path / "run", *EARLY, "--resume"))
    assert first == {path: path.stat().st_mtime_ns for path in first}
    again = stages.toxicity_members(settings, Options())
    for one, other in zip(own, again, strict=True):
        assert one.model != other.model
        same = [load_file(each.model / "model.safetensors") for each in (one, other)]
        assert all(torch.equal(same[0][name], same[1][name]) for name in same[0])
        assert torch.equal(
            generate.load_responses(one.responses).next_tokens, generate.load_responses(other.responses).next_tokens
        )
    assert records.read_records(tmp_path / "run/records.jsonl") == records.read_records(whole / "records.jsonl")


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (["finetune"], "the stage data has not been run to its end with these settings; run it too"),
        (["data", "responses"], "the stage finetune has not been run"),
        (["responses", "align"], "the stage data has not been run"),
        (["report"], "the stage align has not been run here; run it too"),
    ],
)
def test_a_missing_earlier_stage_is_named(tmp_path, monkeypatch, capsys, asked, sentence):
    monkeypatch.setenv("MAS_HOOKS_CACHE", str(tmp_path / "cache"))
    error = out(capsys, *words(tmp_path / "run", "--stages", *asked), status=2).err
    assert sentence in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("cache/toxicity/*"))


def test_stages_run_alone_one_after_the_other(place, whole, cache, tmp_path):
    for stage in ("data", "finetune", "responses"):
        main.main(words(tmp_path / stage, "--stages", stage))
        assert {row.comparison for row in records.read_records(tmp_path / stage / "records.jsonl")} == {stage}
    main.main(words(tmp_path / "data", "--stages", "finetune", "--resume"))
    assert {row.comparison for row in records.read_records(tmp_path / "data/records.jsonl")} == {"data", "finetune"}
