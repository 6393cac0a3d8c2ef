"""The recipe `stitching-penalty`: a small run by the command line, its page from records alone, its claims by rule."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from sentences import refused

from mas_hooks.core import records
from mas_hooks.core.errors import EmptyError, SettingError, UnknownNameError
from mas_hooks.core.records import Record
from mas_hooks.core.settings import Options
from mas_hooks.models.language.small_lm import SmallModel, pack_texts, untrained_small_lm
from mas_hooks.studies.stitching_penalty import StitchingPenaltySettings, claims, models, page
from mas_hooks.training.settings import FitSettings

COMMAND = [sys.executable, "-c", "from mas_hooks.cli.main import main; main()"]
Settings = StitchingPenaltySettings
SMALL = [
    "--small.steps=6", "--small.layers=2", "--small.width=8", "--small.heads=2", "--small.vocabulary=300",
    "--small.batch=4", "--context=16", "--seeds=2", "--fit.steps=4", "--fit.warmup-steps=1", "--fit.validate-every=2",
    "--sizes", "16", "8", "16",
]  # fmt: skip
FIGURES = ["cka_layers.png", "loss_curves.png", "penalties.png"]


def run(place, *arguments):
    environment = {**os.environ, "MAS_HOOKS_CACHE": str(place / "cache")}
    return subprocess.run(
        [*COMMAND, *arguments], check=False, env=environment, capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of both kinds of models, all directions, two layers and two seeds."""
    place = tmp_path_factory.mktemp("stitching")
    done = run(place, "run", "stitching-penalty", "--quiet", "--jobs", "1", "--out", str(place / "run"), *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "run", done.stdout


@pytest.fixture
def rows(whole):
    return records.read_records(whole[0] / "records.jsonl")


def test_every_stitch_is_there(rows):
    single = [row for row in rows if row.measure == "stitching_penalty" and row.seeds is None]
    found = {(row.source_model, row.target_model, row.target_site, row.seed) for row in single}
    names = ("gelu-2l", "solu-2l")
    sites = [f"blocks.{layer}.hook_resid_post" for layer in (0, 1)]
    assert found == {(a, b, site, seed) for a in names for b in names for site in sites for seed in (0, 1)}
    assert {row.recipe for row in rows} == {"stitching-penalty"}
    assert all(row.value_low <= row.value <= row.value_high for row in single)
    assert len([row for row in rows if row.split == "valid" and row.step is not None]) == 16 * 3
    assert {row.task for row in rows if row.measure == "loss" and row.task} == {
        f"help topics of Python {sys.version.split()[0]}"
    }


def test_the_summary_is_the_mean_over_seeds(rows):
    overall = [row for row in rows if row.measure == "stitching_penalty" and row.seeds == 2]
    assert len(overall) == 8
    for row in overall:
        own = [one.value for one in rows if one.measure == row.measure and one.seed is not None and alike(one, row)]
        assert row.value == pytest.approx(sum(own) / 2)
    differences = [row for row in rows if row.measure == "penalty_difference" and row.seeds == 2]
    assert len(differences) == 2 * 6
    by_name = {(row.comparison, row.target_site): row.value for row in overall}
    for row in differences:
        other = row.variable.removeprefix("minus ")
        expected = by_name[row.comparison, row.target_site] - by_name[other, row.target_site]
        assert row.value == pytest.approx(expected, abs=1e-9)


def alike(one, other):
    return (one.comparison, one.target_site) == (other.comparison, other.target_site)


def test_similarities_are_there(rows):
    grid = [row for row in rows if row.measure == "cka"]
    assert len(grid) == 2 * 3 * 4
    with_itself = [row.value for row in grid if row.source == row.target and row.layer_a == row.layer_b]
    assert with_itself == pytest.approx([1.0] * 8)


def test_the_report_is_drawn_from_records_alone(whole, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("records.jsonl", "settings.json"):
        (folder / name).write_bytes((whole[0] / name).read_bytes())
    done = run(tmp_path, "report", str(folder))
    assert done.returncode == 0, done.stderr
    for own in (folder, whole[0]):
        assert sorted(path.name for path in (own / "figures").iterdir()) == FIGURES
    assert (folder / "stitching_penalty.md").read_text() == (whole[0] / "stitching_penalty.md").read_text()
    written = (folder / "stitching_penalty.md").read_text()
    assert set(re.findall(r"\]\(figures/(.*?)\)", written)) == set(FIGURES)
    assert written.count("| solu-2l → gelu-2l |") == 2
    assert not (tmp_path / "cache").exists()


def test_the_page_is_told_with_the_figures(whole, tmp_path):
    assert str(whole[0] / "stitching_penalty.md") in whole[1]
    (tmp_path / "records.jsonl").write_bytes((whole[0] / "records.jsonl").read_bytes())
    assert [path.name for path in page.draw_penalty_figures(tmp_path)][-1] == "stitching_penalty.md"


def test_a_model_that_cannot_read_such_rows_is_told_before_any_is_trained(tmp_path, monkeypatch):
    made = models
    monkeypatch.setattr(made, "load_small_lm", lambda *_, **__: pytest.fail("trained"))
    untrained_small_lm(SmallModel(context=16, vocabulary=300)).config.save_pretrained(tmp_path / "gpt2")
    pack_texts(300, 16).tokenizer.save_pretrained(tmp_path / "gpt2")
    (tmp_path / "gpt2" / "model.safetensors").touch()
    (tmp_path / "texts.txt").write_text("\n\n".join(f"{n} is {word}" * 500 for n, word in enumerate(("a", "b", "c"))))
    given = {"model_b": str(tmp_path / "gpt2"), "data": str(tmp_path / "texts.txt"), "context": 20}
    settings = Settings(**given, small={"vocabulary": 300})
    with refused(SettingError, "context is 20, but must be at most 16, what gpt2 can read"):
        made.ModelPairs(settings, Options(progress=False))


def test_a_resumed_run_leaves_out_what_is_done(whole):
    """One stitch and the summary are done again, to the same records."""
    folder, before = whole[0], (whole[0] / "records.jsonl").read_text()
    (folder / "state" / "a-b-layer1-seed1.jsonl").unlink()
    done = run(folder.parent, "run", "stitching-penalty", "--quiet", "--resume", "--jobs", "1", "--out", str(folder))
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r": penalty -?\d", done.stdout)) == 1
    assert "16/16 a-b-layer1-seed1" in done.stdout
    assert timeless((folder / "records.jsonl").read_text()) == timeless(before)


def timeless(text):
    return re.sub(r', "seconds": [\d.]+', "", text)


def differences(value=0.2, half=0.05, seeds=(0.1, 0.3), flipped=False):
    """The records that claims are made of, all alike, for one layer."""
    s, g = "solu-3l", "gelu-3l"
    pairs = [((g, s), (s, g)) if flipped else ((s, g), (g, s)), ((g, g), (s, s))]
    pairs += [(one, other) for one in ((s, g), (g, s)) for other in ((g, g), (s, s))]
    found = []
    for one, other in pairs:
        told = Record(
            measure="penalty_difference", comparison=" → ".join(one), variable=f"minus {' → '.join(other)}",
            source_model=one[0], target_site="blocks.0.hook_resid_post",
        )  # fmt: skip
        found.append(replace(told, value=value, value_low=value - half, value_high=value + half, seeds=2))
        found += [replace(told, value=own, seed=index) for index, own in enumerate(seeds)]
    return found


@pytest.mark.parametrize(
    ("given", "agrees"),
    [
        ({}, [True, True, True]),
        ({"half": 0.25}, [False, False, False]),
        ({"seeds": (0.5, -0.1)}, [False, False, False]),
        ({"value": -0.2}, [False, False, False]),
        ({"flipped": True}, [False, True, True]),
    ],
    ids=("above", "interval", "one seed against", "below", "the other way round"),
)
def test_the_rule_of_agreement(given, agrees):
    found = claims.penalty_claims(differences(**given))
    assert [claim.agrees for claim in found] == agrees
    assert all(bool(claim.why) != claim.agrees for claim in found)


def test_a_flipped_difference_is_told_the_papers_way_round():
    assert claims.penalty_claims(differences(flipped=True))[0].ours == "behind block 0: −0.200 [−0.250, −0.150]"


def test_other_models_are_not_compared_with_the_paper():
    other = [replace(row, source_model=row.source_model.replace("solu", "relu")) for row in differences()]
    (claim,) = claims.penalty_claims(other)
    assert claim.agrees is None
    assert "do not say in their names which is a SoLU and which a GELU model" in claim.why


def test_nothing_to_draw_is_told(tmp_path):
    (tmp_path / "records.jsonl").write_text('{"measure": "cka"}\n')
    with pytest.raises(EmptyError, match=r"the report of .* is empty; let the run finish"):
        page.draw_penalty_figures(tmp_path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"layers": (3,)}, r"layers is \(3,\), but must be numbers of blocks, 0 to 2"),
        ({"layers": (-1,)}, r"layers is \(-1,\), but must be numbers of blocks, 0 to 2"),
        ({"model_a": "folder"}, r"data is missing, and the models are not both trained here; give a file"),
        ({"sizes": (4, 0, 4)}, r"sizes is \(4, 0, 4\), but must be three numbers of rows"),
        ({"small": {"width": 9}}, r"heads is 4, but must be a divisor of the width, 9"),
    ],
)
def test_settings_that_fit_nothing(given, said):
    with pytest.raises(SettingError, match=said):
        Settings(**given)


def test_settings():
    with pytest.raises(UnknownNameError, match="has no setting 'layer'"):
        Settings(layer=1)
    own = Settings()
    assert (own.training.steps, own.training.warmup_steps, own.training.learning_rate) == (2_000, 200, 1.0)
    adam = Settings(optimizer="adam").training
    assert (adam.optimizer, adam.steps, adam.lr_times_one_minus_momentum) == ("adam", 2_000, False)
    mine = FitSettings(steps=5, select_by="loss")
    assert Settings(optimizer="adam", fit=mine).training == mine
    assert Settings(**json.loads(own.model_dump_json())) == own
