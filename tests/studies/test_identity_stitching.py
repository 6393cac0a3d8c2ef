"""The recipe `identity-stitching`: small through the command line, redrawn from records alone, its rules by hand."""

import importlib
import json
import re
from itertools import product

import pytest
from sentences import refused

from mas_hooks.cli import main
from mas_hooks.core import records
from mas_hooks.core.errors import DataSetError, EmptyError, SettingError
from mas_hooks.core.records import Record
from mas_hooks.data.text.sentence_pairs import make_overlap_rows, make_shifted_rows, write_pairs
from mas_hooks.models.language.encoders import Classifier, Encoder, load_classifier
from mas_hooks.similarity import arccos_distance
from mas_hooks.studies import registry

BASE = {"layers": 2, "width": 8, "steps": 2, "batch": 4}
TRAINING = {"steps": 2, "batch": 4, "examples": 16}
SMALL = [
    *(word for name, value in BASE.items() for word in (f"--training.base.{name}", str(value))),
    *(word for name, value in TRAINING.items() for word in (f"--training.{name}", str(value))),
    *("--count", "16", "--piece", "6", "--quiet", "--jobs", "1"),
]
MODELS = ("generalizing-0", "generalizing-1", "heuristic-0", "heuristic-1")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAS_HOOKS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "identity"
    main.main(["run", "identity-stitching", "--out", str(folder), "--per-group", "2", *SMALL])
    return folder


def study():
    return registry.load_study("recipes", "identity-stitching")


def part(name):
    return importlib.import_module(f"mas_hooks.studies.identity_stitching.{name}")


def test_every_ordered_pair_of_every_split_is_stitched(run):
    rows = records.read_records(run / "records.jsonl")
    stitches = [row for row in rows if row.measure == "stitched_accuracy"]
    expected = set(product(("test", "shifted"), MODELS, MODELS, range(2)))
    assert len(stitches) == len(expected)
    layers = {(r.split, r.source_model, r.target_model, int(str(r.layer_a).split(".")[1])) for r in stitches}
    assert layers == expected
    assert {row.trials for row in stitches} == {16}
    own = {(row.split, row.source_model): row.value for row in rows if row.measure == "accuracy"}
    itself = [row for row in stitches if row.source_model == row.target_model]
    assert all(row.value == own[row.split, row.source_model] for row in itself)
    assert len([row for row in rows if row.measure == "cka"]) == 6 * 2
    assert {row.comparison for row in stitches} == {
        f"{a} → {b}" for a, b in product(("generalizing", "heuristic"), repeat=2)
    }


def test_the_report_is_drawn_again_from_records_alone(run, tmp_path, capsys):
    for name in ("records.jsonl", "settings.json"):
        (tmp_path / name).write_text((run / name).read_text())
    main.main(["report", str(tmp_path)])
    page = (tmp_path / "identity_stitching.md").read_text()
    assert page == (run / "identity_stitching.md").read_text()
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"penalty.png", "cka.png", "distances.png"}
    assert "Examples: 16 in distribution, 16 out of distribution." in page
    capsys.readouterr()


def test_a_finished_run_is_resumed_to_the_same_records(run):
    before = (run / "records.jsonl").read_text()
    (run / "state" / "test-6.jsonl").unlink()
    (run / "state" / "cka-0-3.jsonl").unlink()
    main.main(["run", "identity-stitching", "--out", str(run), "--resume", "--quiet", "--jobs", "1"])
    assert (run / "records.jsonl").read_text() == before


def test_saved_classifiers_are_compared_on_files(cache, tmp_path, run):
    write_pairs(tmp_path / "in.jsonl", make_overlap_rows(8))
    write_pairs(tmp_path / "out.jsonl", make_shifted_rows(8))
    made = [
        load_classifier(Classifier(base=Encoder(**BASE), **TRAINING, seed=seed), progress=False) for seed in range(2)
    ]
    made += [
        load_classifier(Classifier(base=Encoder(**BASE), **TRAINING, seed=seed, breaking=0.2), progress=False)
        for seed in range(2)
    ]
    flags = ["--models", *map(str, made), "--groups", "plain", "plain", "broken", "broken", "--piece", "8"]
    flags += [
        "--data",
        str(tmp_path / "in.jsonl"),
        "--ood-data",
        str(tmp_path / "out.jsonl"),
        "--ood-classes",
        "1",
        "0",
    ]
    main.main(["run", "identity-stitching", "--out", str(tmp_path / "run"), *flags, "--quiet", "--jobs", "1"])
    rows = records.read_records(tmp_path / "run" / "records.jsonl")
    own = {(row.split, row.source_model): row for row in rows if row.measure == "accuracy"}
    assert {name for _, name in own} == {folder.name for folder in made}
    assert own["test", made[0].name].comparison == "plain → plain"


def known(penalties, cka, groups=("good", "bad"), count=3):
    """Records of two groups with a penalty by (kind of way, layer), and a CKA by (kind of pair, layer)."""
    names = [f"{group}-{n}" for group in groups for n in range(count)]
    label = {name: name.partition("-")[0] for name in names}
    rows = []
    for split, (a, b) in product(("test", "shifted"), product(names, names)):
        way = f"{label[a]} → {label[b]}"
        told = {"split": split, "source_model": a, "target_model": b, "comparison": way, "trials": 100}
        base = 1.0 if split == "test" or label[b] == groups[0] else 0.5
        if a == b:
            rows.append(Record(measure="accuracy", value=base, **told))
        for layer in range(4):
            lost = 0.0 if a == b else penalties(label[a], label[b], layer)
            site = f"blocks.{layer}.hook_resid_post"
            rows.append(Record(measure="stitched_accuracy", value=base - lost, layer_a=site, layer_b=site, **told))
            if a < b and split == "test":
                value = cka(label[a] == label[b], layer)
                rows.append(Record(measure="cka", value=value, layer_a=site, layer_b=site, **told))
    return rows


def papers(source, target, layer):
    return 0.3 if source != target and layer == 3 else 0.001


def alike(same, layer):
    return 0.6 if not same and layer == 3 else 0.99


def test_a_run_that_does_as_the_paper_says_agrees_throughout():
    own = part("groups").Groups.of(known(papers, alike))
    found = part("claims").identity_claims(own)
    assert len(found) == 10
    assert [claim.what for claim in found if claim.agrees is not True] == []
    assert own.misplaced == 0
    assert own.ways("test", 3)["good → bad"][0] == pytest.approx(0.3)
    assert own.ways("test", 3)["good → good"][0] == pytest.approx(0.001)
    assert own.groups_part("test", 3).effect.value == pytest.approx(0.299)
    assert own.alike(3).effect.value == pytest.approx(0.39)
    assert own.distances["good-0", "good-1" if ("good-0", "good-1") in own.distances else "good-2"] == pytest.approx(
        arccos_distance([0.99] * 4)
    )


def test_a_run_that_does_the_opposite_disagrees():
    def penalties(source, target, layer):
        return 0.3 if source == target and layer == 0 else 0.0

    own = part("groups").Groups.of(known(penalties, lambda same, layer: 0.5 if same and layer == 0 else 0.9))
    agreed = {claim.what for claim in part("claims").identity_claims(own) if claim.agrees}
    assert agreed <= {
        "accuracy out of distribution tells the groups apart",
        "out of distribution: stitches within the two groups differ",
    }


def test_the_ways_between_groups_are_kept_apart():
    def one_way(source, target, layer):
        return 0.2 if (source, target, layer) == ("good", "bad", 2) else 0.0

    found = part("groups").Groups.of(known(one_way, alike)).ways("test", 2)
    means = {way: values[0] for way, values in found.items()}
    assert means == pytest.approx({"good → good": 0, "bad → bad": 0, "good → bad": 0.2, "bad → good": 0}, abs=1e-12)
    assert found["good → bad"][1:3] == pytest.approx((0.2, 0.2))


def test_settings_that_fit_nothing_are_told_before_anything_runs(tmp_path):
    settings, files = study().settings, {"data": "a.jsonl", "ood_data": "b.jsonl"}
    with refused(SettingError, "data is None", "--models"):
        settings(models=("a", "b"), groups=("x", "y"))
    with refused(SettingError, "ood_data is None", "--models"):
        settings(models=("a", "b"), groups=("x", "y"), data="a.jsonl")
    with refused(SettingError, "groups is ('x',)", "2 names, one for each model"):
        settings(models=("a", "b"), groups=("x",), **files)
    with refused(SettingError, "groups is {'x': 3, 'y': 1}", "two, of 2 models or more each"):
        settings(models=("a", "b", "c", "d"), groups=("x", "x", "x", "y"), **files)
    with refused(SettingError, "models is", "folders of different names"):
        settings(models=("p/a", "q/a", "b", "c"), groups=("x", "x", "y", "y"), **files)
    for name, value in {"groups": ("x", "x", "y", "y"), "ood_classes": (0, 1), **files}.items():
        with refused(SettingError, f"{name} is {value!r}, but must be left out without models"):
            settings(**{name: value})
    own = settings(models=("a", "b", "c", "d"), groups=("x", "x", "y", "y"), data=str(tmp_path / "no"), ood_data="b")
    with refused(DataSetError, "cannot be read"):
        own.texts["test"].rows()


def test_every_flag_of_the_training_is_described_and_does_something(capsys):
    with pytest.raises(SystemExit):
        main.main(["run", "identity-stitching", "--help"])
    offered = " ".join(re.sub("[^ -~]", " ", re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)).split())
    assert "--training.batch INT Examples a step. (default: 32)" in offered
    assert re.findall(r"--training\S+ \S+ \(default", offered) == []
    assert "--training.breaking" not in offered
    assert "--training.seed" not in offered


def test_a_run_without_stitches_has_nothing_to_draw(tmp_path):
    (tmp_path / "records.jsonl").write_text("")
    (tmp_path / "settings.json").write_text(json.dumps({"recipe": "identity-stitching"}))
    with refused(EmptyError, "its records hold no stitches and no CKA yet"):
        study().draw(tmp_path)
