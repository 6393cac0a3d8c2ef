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

from mas_hooks.alignment import methods
from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.maps import MapSpec
from mas_hooks.core.errors import CheckpointError, OutputFolderError
from mas_hooks.core.fingerprints import tensors_checksum
from mas_hooks.data.counterfactual_latents import natural_cells
from mas_hooks.data.task_pairs import task_pairs
from mas_hooks.hooks.wrap import wrap
from mas_hooks.training.fit import fit
from mas_hooks.training.loop import FitLoop, FitSettings

SETTINGS = FitSettings(batch_size=64, learning_rate=3e-2, epochs=15, validate_every=4)
ACT = """
import signal, sys, time, torch
from pathlib import Path
torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell inherit that they ignore it
import mas_hooks.training.fit
from mas_hooks import methods
from mas_hooks.alignment import Alignment
room = sys.modules['mas_hooks.training.fit']
from mas_hooks.hooks.wrap import wrap
from mas_hooks.data.task_pairs import task_pairs
from mas_hooks.models.toys.toy_cache import ToySettings, load_toy as toy
one, two, settings, folder = sys.argv[1:]
toys = [toy(ToySettings.model_validate_json(own), progress=False) for own in (one, two)]
assert all(own.from_cache for own in toys)
pairs = task_pairs([own.task for own in toys], ["full", "full"], (256, 64, 128))
sites = [wrap(own.model, name=f"gru-{index}").at("state") for index, own in enumerate(toys)]
step = room.FitLoop.step
room.FitLoop.step = lambda self: (time.sleep(0.05), step(self))
alignment = Alignment(sites, rank=8, centre=True)
room.fit(alignment, methods.mas(), *pairs[:2], room.FitSettings.model_validate_json(settings), folder=folder,
         progress=False)
"""


def run(sites, pairs, settings=SETTINGS, seed=0, rank=8, plan=None, **told):
    """An alignment of those sites and what its fit did."""
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
    done = run(small_sites, small_pairs, folder=tmp_path)
    assert_same(done, uninterrupted)
    assert done[1].steps == 60


def test_seconds_add_up(tmp_path, small_sites, small_pairs):
    short = SETTINGS.model_copy(update={"stop_at": 1e-6})
    _, first = run(small_sites, small_pairs, short, folder=tmp_path)
    _, again = run(small_sites, small_pairs, short, folder=tmp_path)
    assert again.seconds == first.seconds > 0


def test_a_finished_fit_is_not_changed(tmp_path, small_sites, small_pairs, uninterrupted):
    first = run(small_sites, small_pairs, folder=tmp_path)
    assert_same(first, uninterrupted)
    before = {path.name: path.read_bytes() for path in (tmp_path / "fit").iterdir()}
    assert_same(run(small_sites, small_pairs, folder=tmp_path), first)
    assert {path.name: path.read_bytes() for path in (tmp_path / "fit").iterdir()} == before


class Interrupted(Exception):
    pass


def interrupt(monkeypatch, step):
    """The next fit is broken off before it takes that step."""
    real = FitLoop.step

    def broken(self):
        if self.state.step == step:
            monkeypatch.setattr(FitLoop, "step", real)
            raise Interrupted
        real(self)

    monkeypatch.setattr(FitLoop, "step", broken)


def test_the_same_call_goes_on_with_the_same_alignment(tmp_path, small_sites, small_pairs, uninterrupted, monkeypatch):
    """As in a notebook: its maps are where the interruption left them."""
    alignment = Alignment(small_sites, rank=8, centre=True)
    interrupt(monkeypatch, 30)
    with pytest.raises(Interrupted):
        fit(alignment, methods.mas(), *small_pairs[:2], SETTINGS, folder=tmp_path, progress=False)
    assert saved_step(tmp_path) == 28
    steps = []
    monkeypatch.setattr(FitLoop, "step", lambda self, real=FitLoop.step: (steps.append(self.state.step), real(self)))
    done = fit(alignment, methods.mas(), *small_pairs[:2], SETTINGS, folder=tmp_path, progress=False)
    assert steps == list(range(28, 60))
    assert_same((alignment, done), uninterrupted)


def other_pairs(tasks):
    return task_pairs(tasks, ["full", "full"], (256, 64, 128), seed=9)


def other_inputs(tasks):
    """The same cells and labels, after another token."""
    made = task_pairs(tasks, ["full", "full"], (256, 64, 128))
    made[0][0, 1].source_inputs[0, 0] += 1
    return made


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"settings": SETTINGS.model_copy(update={"batch_size": 32})}, "fit"),
        ({"plan": methods.unimas()}, "pairs, plan"),
        ({"rank": 4}, "maps"),
        ({"seed": 3}, "seed"),
        ({"pairs": other_pairs}, "pairs"),
        ({"pairs": other_inputs}, "pairs"),
        ({"site": "embed"}, "sites"),
        ({"models": [1, 0]}, "models"),
        ({"frozen": [0]}, "frozen, pairs"),
    ],
)
def test_refuses_a_folder_of_another_fit(tmp_path, small_sites, small_pairs, small_toys, changed, named):
    run(small_sites, small_pairs, SETTINGS.model_copy(update={"epochs": 1}), folder=tmp_path)
    given = {"settings": SETTINGS.model_copy(update={"epochs": 1}), **changed}
    pairs = given.pop("pairs", lambda _: small_pairs)([one.task for one in small_toys])
    chosen = [small_toys[index].model for index in given.pop("models", [0, 1])]
    at = given.pop("site", "state")
    sites = [wrap(model, name=f"gru-{index}").at(at) for index, model in enumerate(chosen)]
    with pytest.raises(CheckpointError, match=rf"holds a fit with other settings \({named}\); repeat the settings"):
        run(sites, pairs, folder=tmp_path, **given)


def test_refuses_other_natural_cells(tmp_path, small_sites, small_pairs, small_toys):
    plan, short = methods.clmas(maps=MapSpec(rank=8, centre=True)), SETTINGS.model_copy(update={"epochs": 1})
    cells = [{1: natural_cells(small_toys[1].task, 200, seed)} for seed in (0, 1)]
    run(small_sites, small_pairs, short, plan=plan, latents=cells[0], folder=tmp_path)
    run(small_sites, small_pairs, short, plan=plan, latents=cells[0], folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"other settings \(latents\); repeat"):
        run(small_sites, small_pairs, short, plan=plan, latents=cells[1], folder=tmp_path)


def test_what_tells_models_apart():
    """Every tensor counts by name, dtype and shape, and by values spread over it."""
    big = torch.zeros(100, 50)
    big[10:] = torch.randn(90, 50, generator=torch.Generator().manual_seed(0))  # the first rows alike, as of padding
    told = {
        "as it is": [("a", big), ("b", torch.ones(3))],
        "a value": [("a", big), ("b", torch.tensor([1.0, 1, 2]))],
        "later values": [("a", torch.cat([big[:10], 2 * big[10:]])), ("b", torch.ones(3))],
        "a name": [("a", big), ("c", torch.ones(3))],
        "a shape": [("a", big), ("b", torch.ones(3, 1))],
        "a dtype": [("a", big), ("b", torch.ones(3, dtype=torch.float64))],
        "the order": [("b", torch.ones(3)), ("a", big)],
        "not here": [("a", big.to("meta")), ("b", torch.ones(3))],
        "nothing": [],
    }
    found = {name: tensors_checksum(named, 64) for name, named in told.items()}
    assert len(set(found.values())) == len(found)
    assert tensors_checksum([("a", big.clone()), ("b", torch.ones(3))], 64) == found["as it is"]


def test_refuses_a_corrupted_state(tmp_path, small_sites, small_pairs):
    short = SETTINGS.model_copy(update={"epochs": 1})
    run(small_sites, small_pairs, short, folder=tmp_path)
    tensors = tmp_path / "fit" / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="is damaged"):
        run(small_sites, small_pairs, short, folder=tmp_path)
    tensors.unlink()
    with pytest.raises(CheckpointError, match=r"holds no model\.safetensors"):
        run(small_sites, small_pairs, short, folder=tmp_path)


def test_refuses_a_state_with_other_keys(tmp_path, small_sites, small_pairs):
    short = SETTINGS.model_copy(update={"epochs": 1})
    run(small_sites, small_pairs, short, folder=tmp_path)
    path = tmp_path / "fit" / "config.json"
    config = json.loads(path.read_text())
    del config["curve"]
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="holds no whole state of a fit"):
        run(small_sites, small_pairs, short, folder=tmp_path)


def test_refuses_a_folder_that_cannot_be_written(tmp_path, small_sites, small_pairs):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputFolderError, match="cannot write to"):
        run(small_sites, small_pairs, folder=tmp_path / "file")
