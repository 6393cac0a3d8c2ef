"""Files are written whole or not at all, and read with one sentence for whatever else they hold."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from mas_hooks.core import files
from mas_hooks.core.errors import CheckpointError, OutputFolderError, RecordError


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    assert files.ensure_writable(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OutputFolderError, match=r"file: file exists; choose another folder with --out\.$"):
        files.ensure_writable(tmp_path / "file")


def test_several_threads_may_ask_at_once_whether_a_folder_is_writable(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(files.ensure_writable, [tmp_path / "shared"] * 400))
    assert folders == [tmp_path / "shared"] * 400
    assert list((tmp_path / "shared").iterdir()) == []


def test_what_is_written_is_there_whole(tmp_path):
    path = tmp_path / "x"
    assert files.write_file(path, b"\xff").read_bytes() == b"\xff"
    assert files.write_file(path, "→").read_text("utf-8") == "→"
    files.write_json(path, {"a": [1]})
    assert files.read_json(path) == {"a": [1]}
    files.write_json_lines(path, [{"a": "ä"}, {"b": 2}])
    assert path.read_text("utf-8") == '{"a": "ä"}\n{"b": 2}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_older_file_and_nothing_else(tmp_path):
    path = files.write_file(tmp_path / "x", "old")

    def write_half():
        with files.replace_file(path) as temporary:
            temporary.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_one_sentence_with_the_remedy(tmp_path):
    with pytest.raises(OutputFolderError, match=r"nowhere: no such file or directory; move it\.$"):
        files.write_file(tmp_path / "nowhere" / "x", "", "move it")


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, r"cannot be read \(.*No such file"), ("{", r"cannot be read \(Expecting"), ("[1]", "holds no settings")],
)
def test_what_is_no_json_object_says_so(tmp_path, content, problem):
    if content is not None:
        (tmp_path / "s.json").write_text(content)
    with pytest.raises(CheckpointError, match=rf"s\.json: {problem}.*; give a settings\.json of an earlier run\.$"):
        files.read_json(tmp_path / "s.json")


def test_json_lines_name_the_line(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({"a": "line\u2028end"}, ensure_ascii=False) + "\n\n[1]\n", "utf-8")
    lines = files.read_json_lines(path, RecordError.unreadable)
    assert next(lines) == (f"{path}:1", {"a": "line\u2028end"})
    with pytest.raises(RecordError, match=r"r\.jsonl:3 is not a line of results: it holds a list instead of an object"):
        next(lines)
