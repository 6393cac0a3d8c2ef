"""What 0.1.0 wrote to disk is still read, with the same numbers: see written_by_0_1_0/README.md."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import mas_hooks as mh
from mas_hooks.cli import main
from mas_hooks.core.records import read_records
from mas_hooks.models.toys.toy_cache import ToySettings, load_toy
from mas_hooks.models.toys.train import TrainSettings

OLD = Path(__file__).parent / "written_by_0_1_0"
EXPECTED = json.loads((OLD / "expected.json").read_text())
KINDS = ("frame", "rotation-matrix_exp", "rotation-cayley", "rotation-householder")


@pytest.fixture
def folder(tmp_path):
    """A copy that a test may write to."""
    return shutil.copytree(OLD, tmp_path / "old")


@pytest.fixture(scope="module")
def toys():
    return [
        load_toy(ToySettings(width=8, training=TrainSettings(seed=seed, max_steps=2)), OLD / "cache", progress=False)
        for seed in (0, 1)
    ]


@pytest.fixture(scope="module")
def models(toys):
    return [mh.wrap(toy.model, name=f"gru-{index}") for index, toy in enumerate(toys)]


def assert_close(tensor, expected):
    torch.testing.assert_close(tensor.detach(), torch.tensor(expected), atol=1e-5, rtol=1e-4)


def test_toys_come_from_the_cache(toys):
    assert all(toy.from_cache for toy in toys)
    assert [toy.trained.steps for toy in toys] == [2, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_an_alignment_of_maps_reads_what_it_read(models, kind):
    align = mh.Alignment.from_pretrained(OLD / "alignments" / kind, models)
    rows = torch.linspace(-1, 1, 24).reshape(3, 8)
    for view, expected in zip(align.swap_operator().views, EXPECTED["reads"][kind], strict=True):
        assert_close(view.read(rows), expected)


def test_an_alignment_of_transports_has_equal_tensors(models):
    align = mh.Alignment.from_pretrained(OLD / "alignments" / "stitching", models)
    weights = {key: value for key, value in align.state_dict().items() if value.is_floating_point()}
    assert weights.keys() == EXPECTED["transports"].keys()
    for key, expected in EXPECTED["transports"].items():
        assert torch.equal(weights[key], torch.tensor(expected))


def test_an_interrupted_fit_goes_on_to_the_same_end(folder, toys, models):
    pairs = mh.task_pairs([toy.task for toy in toys], ["full", "full"], (64, 32, 32))
    settings = mh.FitSettings(batch_size=16, epochs=3, validate_every=2, learning_rate=0.03, select_by="loss")
    align = mh.Alignment([model.at("state") for model in models], rank=3)
    done = mh.fit(align, mh.methods.mas(), *pairs[:2], settings, progress=False, folder=folder / "fit")
    assert (done.steps, done.best_step) == (EXPECTED["fit"]["steps"], EXPECTED["fit"]["best_step"])
    curve = [[row.source, row.target, row.step, row.iia, row.token_accuracy] for row in done.curve]
    assert curve == [pytest.approx(row, abs=0.04) for row in EXPECTED["fit"]["curve"]]
    for key, value in align.state_dict().items():
        if key in EXPECTED["fitted"]:
            torch.testing.assert_close(value, torch.tensor(EXPECTED["fitted"][key]), atol=1e-3, rtol=1e-3)


def test_a_store_opens_with_equal_rows(folder, models):
    store = mh.ActivationStore.open(folder / "store")
    assert_close(store["state"].tensor(), EXPECTED["store"]["rows"])
    again = torch.tensor(EXPECTED["store"]["inputs"])
    shutil.copytree(folder / "store", folder / "copy")
    resumed = mh.collect(models[0].at("state"), again, folder=folder / "copy", resume=True, progress=False)
    assert torch.equal(resumed["state"].tensor(), store["state"].tensor())


def test_a_run_is_reported(folder, capsys):
    main.main(["report", str(folder / "run")])
    assert "gru-0 → gru-1" in capsys.readouterr().out
    assert len(list((folder / "run/figures").glob("*.png"))) == 3


def test_a_run_goes_on_with_resume(folder, monkeypatch, capsys):
    monkeypatch.setenv("MAS_HOOKS_CACHE", str(folder / "cache"))
    run = folder / "run"
    before = read_records(run / "records.jsonl")
    (run / "records.jsonl").unlink()
    (run / "state/mas-full-random.jsonl").unlink()
    main.main(["demo", "--resume", "--quiet", "--jobs", "1", "--out", str(run)])
    assert "from the cache" in capsys.readouterr().out
    after = read_records(run / "records.jsonl")
    assert [(row.method, row.measure, row.split) for row in after] == [
        (row.method, row.measure, row.split) for row in before
    ]
    assert [row.iia for row in after] == pytest.approx([row.iia for row in before], abs=0.07, nan_ok=True)
