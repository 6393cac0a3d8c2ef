"""The main job end to end, by the command line: quickly, and as slow tests at its real size."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mas_hooks.cli import main
from mas_hooks.core import records

HEAR = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
"""Background jobs of a shell inherit that they ignore SIGINT."""
COMMAND = [sys.executable, "-c", f"{HEAR}from mas_hooks.cli.main import main; main()"]
SMALL = [
    "--quiet",
    "--width",
    "16",
    "--rank",
    "4",
    "--sizes",
    "128",
    "64",
    "64",
    "--controls",
    "--training.max-errors",
    "3000",
    "--training.full-check",
    "200",
    "--training.small-check",
    "20",
    "--training.max-steps",
    "100",
    "--fit.epochs",
    "4",
    "--fit.validate-every",
    "2",
    "--fit.patience",
    "9",
]
TRAINED = Path(__file__).parent / "demo_cache"
"""The cache folder of a demo: its two models, trained with the defaults."""
QUICK = [
    "--sizes",
    "3000",
    "300",
    "1000",
    "--fit.batch-size",
    "128",
    "--fit.learning-rate",
    "1e-2",
    "--fit.stop-at",
    "0.97",
    "--fit.steps",
    "300",
]


def demo(cache, folder, *flags, **options):
    environment = {**os.environ, "MAS_HOOKS_CACHE": str(cache)}
    return subprocess.Popen(
        [*COMMAND, "demo", "--out", str(folder), *flags],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def finished(cache, folder, *flags):
    with demo(cache, folder, *flags) as run:
        text = run.communicate(timeout=900)[0]
    assert run.returncode == 0, text
    return text


def finished_here(cache, folder, *flags):
    """The same in this process, without the seconds that an interpreter and its workers take to start."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setenv("MAS_HOOKS_CACHE", str(cache))
        main.main(["demo", "--out", str(folder), "--jobs", "1", *flags])


def numbers(folder):
    """Every record without the wall time."""
    return [re.sub(r', "seconds": [\d.]+', "", row.to_json()) for row in records.read_records(folder / "records.jsonl")]


@pytest.fixture(scope="module", params=["quick", pytest.param("full", marks=pytest.mark.slow)])
def real(request, tmp_path_factory):
    """The demo outside the checkout: with its defaults, from nothing, or as QUICK on models trained before."""
    place = tmp_path_factory.mktemp("demo")
    if request.param == "quick":
        shutil.copytree(TRAINED, place / "cache")
    began = time.monotonic()
    text = finished(place / "cache", place / "run", *(QUICK if request.param == "quick" else []))
    if request.param == "quick":
        assert text.count("from the cache") == 2, "train the toys of tests/studies/demo_cache again"
    return place, text, time.monotonic() - began


def test_the_demo_reaches_what_it_promises(real):
    place, text, _ = real
    rows = [
        row for row in records.read_records(place / "run/records.jsonl") if row.split == "test" and row.iia is not None
    ]
    mas = {(row.variable, row.source, row.target): row for row in rows if row.method == "mas" and not row.control}
    assert {variable for variable, _, _ in mas} == {"full", "count"}
    assert len(mas) == 8
    assert min(row.iia for (variable, _, _), row in mas.items() if variable == "full") >= 0.95
    assert min(row.iia for (variable, _, _), row in mas.items() if variable == "count") >= 0.90
    assert all(row.iia_low < row.iia < row.iia_high for row in mas.values() if 0 < row.iia < 1)
    assert all(row.floor < 0.15 and row.trials == 1000 and row.init == "random" for row in mas.values())
    assert all(row.iia >= 0.90 for row in rows if row.method == "das")
    assert all(row.iia < 0.2 for row in rows if row.control)
    for word in ("gru-0 → gru-1", "95%", "floor", "trials", "RSA", "CKA", "untrained"):
        assert word in text
    assert "99.99% of 30000" in text or "100.00% of 30000" in text


def test_both_starts_end_near_each_other(real):
    """Where every direction is trained, a Procrustes start is mostly a speed-up: at the plateau both starts are within
    0.05 (on Full it stays a little above the random start, 0.99 against 0.97, so records name their start)."""
    place, _, _ = real
    curves = [
        row for row in records.read_records(place / "run/records.jsonl") if row.split == "valid" and row.method == "mas"
    ]
    for variable in ("full", "count"):
        best = {}
        for init in ("random", "procrustes"):
            own = [row for row in curves if row.init == init and row.variable == variable]
            steps = sorted({row.step for row in own})
            worst = [min(row.iia for row in own if row.step == step) for step in steps]
            best[init] = max(worst)
            assert steps[0] == 0
            assert worst[0] > 0.3 if init == "procrustes" else worst[0] < 0.3
        assert abs(best["random"] - best["procrustes"]) < 0.05


def test_the_run_folder_is_whole(real):
    place, _, _ = real
    run = place / "run"
    assert json.loads((run / "settings.json").read_text())["rank"] == 16
    assert json.loads((run / "environment.json").read_text())["versions"]["torch"]
    assert {path.name for path in (run / "figures").iterdir()} == {
        "direction_heatmap.png",
        "iia_bars.png",
        "iia_curves.png",
    }
    for path in (run / "alignment").iterdir():
        assert {"config.json", "model.safetensors"} == {file.name for file in path.iterdir()}


def test_a_second_demo_starts_with_trained_models(real):
    place, _, first = real
    shutil.copytree(place / "run/state", place / "again/state")
    shutil.copy(place / "run/settings.json", place / "again/settings.json")
    began = time.monotonic()
    text = finished(place / "cache", place / "again", "--resume")
    assert text.count("from the cache") == 2
    assert time.monotonic() - began < first
    assert numbers(place / "again") == numbers(place / "run")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small demo that nothing interrupts."""
    place = tmp_path_factory.mktemp("small")
    finished(place / "cache", place / "run", "--jobs", "2", *SMALL)
    return place


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_an_interrupted_demo_goes_on_to_the_same_numbers(small, tmp_path, number):
    run = demo(small / "cache", tmp_path / "run", "--jobs", "2", *SMALL)
    state = tmp_path / "run/state"
    until(lambda: any(state.glob("*/fit/config.json")) or run.poll() is not None)
    run.send_signal(number)
    text = run.communicate(timeout=60)[0]
    assert run.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130), text
    if number != signal.SIGKILL:
        assert "go on with: mas-hooks run demo --resume" in text
    assert not (tmp_path / "run/records.jsonl").exists()
    time.sleep(1)  # workers of a killed parent end by themselves
    finished_here(small / "cache", tmp_path / "run", *SMALL, "--resume")
    assert numbers(tmp_path / "run") == numbers(small / "run")


def until(condition, seconds=120.0):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.05)


def test_jobs_do_not_change_the_numbers(small, tmp_path):
    finished_here(tmp_path / "cache", tmp_path / "run", *SMALL)
    assert numbers(tmp_path / "run") == numbers(small / "run")


def test_settings_of_a_run_repeat_it(small, tmp_path):
    finished_here(small / "cache", tmp_path / "run", "--quiet", "--config", str(small / "run/settings.json"))
    assert numbers(tmp_path / "run") == numbers(small / "run")
