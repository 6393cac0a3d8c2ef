"""A fit that is killed and resumed in another process ends with the same numbers."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from mas_hooks import methods
from mas_hooks.alignment import Alignment
from mas_hooks.errors import CheckpointError, OutputFolderError
from mas_hooks.fit import fit
from mas_hooks.fit_loop import FitSettings
from mas_hooks.pairs import task_pairs

SETTINGS = FitSettings(batch_size=64, learning_rate=3e-2, epochs=15, validate_every=4)
ACT = """
import signal, sys, time, torch
from pathlib import Path
torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell inherit that they ignore it
import mas_hooks.fit
from mas_hooks import methods
from mas_hooks.alignment import Alignment
room = sys.modules['mas_hooks.fit']
from mas_hooks.hooks.wrap import wrap
from mas_hooks.pairs import task_pairs
from mas_hooks.trained import ToySettings, toy
one, two, settings, folder = sys.argv[1:]
toys = [toy(ToySettings.model_validate_json(own), progress=False) for own in (one, two)]
assert all(own.from_cache for own in toys)
pairs = task_pairs([own.task for own in toys], ["full", "full"], (256, 64, 128))
sites = [wrap(own.model, name=f"gru-{index}").at("state") for index, own in enumerate(toys)]
step = room.Loop.step
room.Loop.step = lambda self: (time.sleep(0.05), step(self))
alignment = Alignment(sites, rank=8, centre=True)
room.fit(alignment, methods.mas(), *pairs[:2], room.FitSettings.model_validate_json(settings), folder=folder,
         progress=False)
"""


def run(sites, pairs, settings=SETTINGS, seed=0, rank=8, plan=None, **told):
    alignment = Alignment(sites, rank=rank, centre=True, seed=seed)
    return alignment, fit(alignment, plan or methods.mas(), *pairs[:2], settings, progress=False, **told)


def assert_same(one, two):
    """Everything that a fit says and leaves behind is equal, but for the seconds."""
    assert replace(one[1], seconds=0.0) == replace(two[1], seconds=0.0)
    own, other = one[0].state_dict(), two[0].state_dict()
    assert own.keys() == other.keys()
    for name, tensor in own.items():
        assert torch.equal(tensor, other[name]), name


def saved_step(folder):
    try:
        return json.loads((folder / "fit" / "config.json").read_text())["state"]["step"]
    except FileNotFoundError:
        return 0


@pytest.fixture(scope="module")
def uninterrupted(small_toys, small_pairs):
    from mas_hooks.hooks.wrap import wrap

    sites = [wrap(one.model, name=f"gru-{index}").at("state") for index, one in enumerate(small_toys)]
    return run(sites, small_pairs)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_killed_and_resumed(tmp_path, small_sites, small_pairs, small_settings, uninterrupted, name):
    toys = [small_settings(seed).model_dump_json() for seed in (0, 1)]
    command = [sys.executable, "-c", ACT, *toys, SETTINGS.model_dump_json(), str(tmp_path)]
    process = subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while saved_step(tmp_path) < 12 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(getattr(signal, name))
    _, told = process.communicate(timeout=30)
    assert process.returncode != 0, told
    assert 12 <= saved_step(tmp_path) < 60, told.decode()
    done = run(small_sites, small_pairs, folder=tmp_path, resume=True)
    assert_same(done, uninterrupted)
    assert done[1].steps == 60


def test_seconds_add_up(tmp_path, small_sites, small_pairs):
    short = SETTINGS.model_copy(update={"stop_at": 1e-6})
    _, first = run(small_sites, small_pairs, short, folder=tmp_path)
    _, again = run(small_sites, small_pairs, short, folder=tmp_path, resume=True)
    assert again.seconds == first.seconds > 0


def test_a_finished_fit_is_not_changed(tmp_path, small_sites, small_pairs, uninterrupted):
    first = run(small_sites, small_pairs, folder=tmp_path)
    assert_same(first, uninterrupted)
    before = {path.name: path.read_bytes() for path in (tmp_path / "fit").iterdir()}
    assert_same(run(small_sites, small_pairs, folder=tmp_path, resume=True), first)
    assert {path.name: path.read_bytes() for path in (tmp_path / "fit").iterdir()} == before


def test_starts_anew_without_resume(tmp_path, small_sites, small_pairs, uninterrupted):
    run(small_sites, small_pairs, SETTINGS.model_copy(update={"seed": 5, "epochs": 1}), folder=tmp_path)
    assert_same(run(small_sites, small_pairs, folder=tmp_path), uninterrupted)


def test_resuming_nothing_starts(tmp_path, small_sites, small_pairs, uninterrupted):
    assert_same(run(small_sites, small_pairs, folder=tmp_path / "new", resume=True), uninterrupted)


def other_pairs(tasks):
    return task_pairs(tasks, ["full", "full"], (256, 64, 128), seed=9)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"settings": SETTINGS.model_copy(update={"batch_size": 32})}, "fit"),
        ({"plan": methods.unimas()}, "plan, pairs"),
        ({"rank": 4}, "maps"),
        ({"seed": 3}, "seed"),
        ({"pairs": other_pairs}, "pairs"),
        ({"sites": "embed"}, "sites"),
    ],
)
def test_refuses_to_resume_another_fit(tmp_path, small_sites, small_pairs, small_toys, changed, named):
    run(small_sites, small_pairs, SETTINGS.model_copy(update={"epochs": 1}), folder=tmp_path)
    given = {"settings": SETTINGS.model_copy(update={"epochs": 1}), **changed}
    pairs = given.pop("pairs", lambda _: small_pairs)([one.task for one in small_toys])
    sites = [site.model.at(given.get("sites", "state")) for site in small_sites]
    given.pop("sites", None)
    with pytest.raises(CheckpointError, match=rf"holds a fit with other settings \({named}\); repeat the settings"):
        run(sites, pairs, folder=tmp_path, resume=True, **given)


def test_refuses_a_corrupted_state(tmp_path, small_sites, small_pairs):
    short = SETTINGS.model_copy(update={"epochs": 1})
    run(small_sites, small_pairs, short, folder=tmp_path)
    tensors = tmp_path / "fit" / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="is damaged"):
        run(small_sites, small_pairs, short, folder=tmp_path, resume=True)
    tensors.unlink()
    with pytest.raises(CheckpointError, match=r"holds no model\.safetensors"):
        run(small_sites, small_pairs, short, folder=tmp_path, resume=True)


def test_refuses_a_state_with_other_keys(tmp_path, small_sites, small_pairs):
    short = SETTINGS.model_copy(update={"epochs": 1})
    run(small_sites, small_pairs, short, folder=tmp_path)
    path = tmp_path / "fit" / "config.json"
    config = json.loads(path.read_text())
    del config["curve"]
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="holds no whole state of a fit"):
        run(small_sites, small_pairs, short, folder=tmp_path, resume=True)


def test_refuses_a_folder_that_cannot_be_written(tmp_path, small_sites, small_pairs):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputFolderError, match="cannot write to"):
        run(small_sites, small_pairs, folder=tmp_path / "file")
