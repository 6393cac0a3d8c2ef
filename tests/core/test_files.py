"""Files are written whole or not at all, whoever writes them; JSON lines are read with the line that is wrong."""

import json
import os
from functools import partial
from pathlib import Path

import pytest

from mas_hooks.core.errors import CheckpointError, DataSetError, OutputFolderError
from mas_hooks.core.files import read_json, read_json_lines, replace_file, write_file, write_json, write_json_lines

REFUSE = partial(DataSetError, remedy="mend it")


def lines_of(path):
    return list(read_json_lines(path, REFUSE))


@pytest.mark.parametrize("content", ["täxt\n", b"\x00\xff"])
def test_a_file_is_written_whole_and_nothing_else_stays(tmp_path, content):
    path = write_file(tmp_path / "a.bin", content)
    assert (path.read_text("utf-8") if isinstance(content, str) else path.read_bytes()) == content
    assert [held.name for held in tmp_path.iterdir()] == ["a.bin"]


def test_after_an_error_the_old_file_is_as_it_was(tmp_path):
    path = write_file(tmp_path / "a.txt", "old")

    def fail():
        with replace_file(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert [held.name for held in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_one_sentence_with_the_remedy(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    path = write_file(tmp_path / "a.txt", "old")
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputFolderError, match=r"cannot write to .*: no space left on device; make room\.$"):
        write_file(path, "new", "make room")
    monkeypatch.undo()
    assert path.read_text() == "old"


def test_two_processes_never_share_a_temporary_name(tmp_path):
    with replace_file(tmp_path / "a") as temporary:
        assert str(os.getpid()) in temporary.name
        temporary.write_text("x")


def test_json_comes_back(tmp_path):
    assert read_json(write_json(tmp_path / "a.json", {"b": [1, None]})) == {"b": [1, None]}


@pytest.mark.parametrize(("text", "problem"), [("[1]", "holds no settings"), ("{", "cannot be read")])
def test_json_that_is_no_object_is_refused(tmp_path, text, problem):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CheckpointError, match=problem):
        read_json(tmp_path / "a.json")


def test_json_lines_come_back_with_line_separators_inside_and_blank_lines_left_out(tmp_path):
    rows = [{"text": "a\u2028b"}, {"text": "ü"}]
    path = write_json_lines(tmp_path / "a.jsonl", rows)
    path.write_text(path.read_text("utf-8").replace("\n", "\n\n"), "utf-8")
    assert lines_of(path) == [(f"{path}:1", rows[0]), (f"{path}:3", rows[1])]


@pytest.mark.parametrize(
    ("line", "problem"),
    [("{", "is no JSON"), ("null", "NoneType instead of an object"), ("[1]", "list instead of an object")],
)
def test_a_line_that_is_no_object_is_named(tmp_path, line, problem):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"fine": 1}) + "\n" + line + "\n")
    with pytest.raises(DataSetError, match=rf"a\.jsonl:2: .*{problem}.*; mend it\.$"):
        lines_of(path)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe")
    for name in ("a.jsonl", "b.jsonl"):
        with pytest.raises(DataSetError, match="cannot be read"):
            lines_of(tmp_path / name)
