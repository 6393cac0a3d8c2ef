"""Folders written whole or not at all, and refused in one sentence when they are not what they should be."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from mas_hooks.core import checkpoints
from mas_hooks.core.errors import CheckpointError, OutputFolderError
from mas_hooks.core.files import ensure_writable

KIND = "mas_hooks.test"
TENSORS = {"a": torch.tensor(1.5), "b": torch.arange(6.0).reshape(2, 3).T}


@pytest.fixture
def folder(tmp_path):
    checkpoints.save_checkpoint(tmp_path / "run" / "one", KIND, {"settings": {"k": 3}}, TENSORS)
    return tmp_path / "run" / "one"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_round_trip(folder):
    config, tensors = checkpoints.load_checkpoint(folder, KIND)
    assert config == {"settings": {"k": 3}}
    assert set(tensors) == {"a", "b"}
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert set(files(folder)) == {"config.json", "model.safetensors"}
    assert [path.name for path in folder.parent.iterdir()] == ["one"]
    assert json.loads((folder / "config.json").read_text()) == {"kind": KIND, "format": 1, "settings": {"k": 3}}


def test_saving_again_replaces_the_whole_folder(folder):
    checkpoints.save_checkpoint(folder, KIND, {"new": True}, {"c": torch.ones(2)})
    config, tensors = checkpoints.load_checkpoint(folder, KIND)
    assert (config, set(tensors)) == ({"new": True}, {"c"})
    assert [path.name for path in folder.parent.iterdir()] == ["one"]


@pytest.mark.parametrize("made", [True, False])
def test_an_empty_or_absent_folder_is_filled(tmp_path, made):
    if made:
        (tmp_path / "x").mkdir()
    checkpoints.save_checkpoint(tmp_path / "x", KIND, {}, TENSORS)
    assert checkpoints.load_checkpoint(tmp_path / "x", KIND)[0] == {}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("Error: No space left")])
def test_a_disk_that_fills_up_leaves_the_old_one(folder, monkeypatch, error):
    def crash(_tensors, path):
        path.write_bytes(b"half")
        raise error

    before = files(folder)
    monkeypatch.setattr(checkpoints, "save_file", crash)
    with pytest.raises(
        OutputFolderError, match=r"^cannot write to .*one: .*no space left.*; choose another folder, or m"
    ):
        checkpoints.save_checkpoint(folder, KIND, {"new": True}, TENSORS)
    assert files(folder) == before


class Killed(BaseException):
    """The process ends here."""


def kill_at(monkeypatch, number):
    """Be killed right before the rename of that number."""
    calls, rename = [], Path.rename

    def killing(self, target):
        calls.append(target)
        if len(calls) == number:
            raise Killed
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killing)


@pytest.mark.parametrize("number", [1, 2])
def test_killed_at_any_rename_the_old_one_loads(folder, monkeypatch, number):
    with monkeypatch.context() as patch:
        kill_at(patch, number)
        with pytest.raises(Killed):
            checkpoints.save_checkpoint(folder, KIND, {"new": True}, TENSORS)
    assert checkpoints.load_checkpoint(folder, KIND)[0] == {"settings": {"k": 3}}
    # and a second save that dies while it writes still leaves it
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_file", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            checkpoints.save_checkpoint(folder, KIND, {"new": True}, TENSORS)
    assert checkpoints.load_checkpoint(folder, KIND)[0] == {"settings": {"k": 3}}
    # and so does one that dies right before its first rename
    with monkeypatch.context() as patch:
        kill_at(patch, 1)
        with pytest.raises(Killed):
            checkpoints.save_checkpoint(folder, KIND, {"new": True}, TENSORS)
    assert checkpoints.load_checkpoint(folder, KIND)[0] == {"settings": {"k": 3}}
    checkpoints.save_checkpoint(folder, KIND, {"new": True}, TENSORS)
    assert checkpoints.load_checkpoint(folder, KIND)[0] == {"new": True}
    assert [path.name for path in folder.parent.iterdir()] == ["one"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("notes.txt", "mine"), ("config.json", '{"model_type": "bert"}'), ("model.safetensors", "weights")],
)
def test_a_folder_with_other_things_in_it_is_never_replaced(tmp_path, name, content):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text(content)
    with pytest.raises(OutputFolderError, match=rf"mine: it holds other files \({name}\); choose another folder\.$"):
        checkpoints.save_checkpoint(tmp_path / "mine", KIND, {}, TENSORS)
    assert files(tmp_path / "mine") == {name: content.encode()}


def test_a_checkpoint_with_something_beside_it_or_of_another_kind_is_never_replaced(folder):
    with pytest.raises(OutputFolderError, match="it holds other files"):
        checkpoints.save_checkpoint(folder, "mas_hooks.other", {}, TENSORS)
    for name in ("x1", "x2"):
        (folder / name).touch()
    with pytest.raises(
        OutputFolderError, match=r"it holds other files \(config.json, model.safetensors, x1, …\); choose"
    ):
        checkpoints.save_checkpoint(folder, KIND, {}, TENSORS)
    assert len(files(folder)) == 4


def test_a_file_or_the_working_folder_is_never_replaced(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputFolderError, match=r"file: it is a file; choose another folder\.$"):
        checkpoints.save_checkpoint(tmp_path / "file", KIND, {}, TENSORS)
    assert (tmp_path / "file").read_text() == "mine"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputFolderError, match=r": this process works in it; choose another folder\.$"):
        checkpoints.save_checkpoint(".", KIND, {}, TENSORS)


def test_through_a_link_the_folder_behind_it_is_replaced(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    checkpoints.save_checkpoint(tmp_path / "link", KIND, {"new": True}, TENSORS)
    assert checkpoints.load_checkpoint(folder, KIND)[0] == {"new": True}
    assert (tmp_path / "link").is_symlink()


def read_only(*_args, **_kwargs):
    raise PermissionError(13, "Permission denied")


def test_a_read_only_place(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "mkdir", read_only)
    for write in (lambda path: checkpoints.save_checkpoint(path, KIND, {}, TENSORS), ensure_writable):
        with pytest.raises(OutputFolderError, match=r"^cannot write to .*/x: permission denied; choose another folder"):
            write(tmp_path / "x")


def test_writable_makes_the_folder_and_leaves_nothing(tmp_path):
    assert ensure_writable(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OutputFolderError, match=r"file: file exists; choose another folder with --out\.$"):
        ensure_writable(tmp_path / "file")


def refused(folder, problem, kind=KIND):
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load_checkpoint(folder, kind)
    assert problem in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_folder(tmp_path):
    refused(tmp_path / "nowhere", "nowhere: is no folder; give a folder written by save_pretrained")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file(folder, name):
    (folder / name).unlink()
    refused(folder, f"holds no {name}; give a folder")


@pytest.mark.parametrize("left", [0, 5, 60, -1])
def test_a_truncated_tensor_file(folder, left):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    refused(folder, "is damaged (")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"kind": '])
def test_a_damaged_config(folder, content):
    (folder / "config.json").write_bytes(content)
    refused(folder, "is damaged (")


def test_a_foreign_folder(folder):
    refused(folder, "holds mas_hooks.test, not mas_hooks.alignment; give a folder", "mas_hooks.alignment")
    for content in ('{"model_type": "bert"}', "[1, 2]", "3"):
        (folder / "config.json").write_text(content)
        refused(folder, "holds something else, not mas_hooks.test; give a folder")


def test_another_format(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"format": 2}))
    refused(folder, "is of format 2, but this version reads format 1; load it with the version that wrote it")


def test_several_processes_may_ask_at_once_whether_a_folder_is_writable(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ensure_writable, [tmp_path / "shared"] * 400))
    assert found == [tmp_path / "shared"] * 400
    assert list((tmp_path / "shared").iterdir()) == []
