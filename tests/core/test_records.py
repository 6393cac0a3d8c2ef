import json
from dataclasses import fields

import pytest
from sentences import refused

from mas_hooks.core import records
from mas_hooks.core.errors import OutputFolderError, RecordError
from mas_hooks.core.records import KEYS, Record

ROWS = [Record(method="mas", source=0, target=1, iia=0.5, split="test"), Record(measure="rsa", value=0.25, seconds=1.5)]
TOLD = (
    "recipe comparison method variable task source_model source_site target_model target_site source target k init "
    "split selected_on iia iia_low iia_high token_accuracy floor token_floor trials dropped step seed seeds control "
    "measure layer_a layer_b value value_low value_high seconds"
)


def test_the_keys_of_a_record():
    assert KEYS == tuple(TOLD.split()) == tuple(field.name for field in fields(Record))


def test_a_key_that_does_not_apply_is_not_written():
    assert json.loads(Record(iia=0.0, source=0).to_json()) == {"iia": 0.0, "source": 0}
    assert Record().to_json() == "{}"


@pytest.mark.parametrize("name", ["plain", "area V4 – é", "two\nlines", "odd\u2028\x85\x0b\x1cbreaks", '"quoted" \\'])
def test_records_come_back_as_they_were(tmp_path, name):
    rows = [*ROWS, Record(comparison=name)]
    records.write_records(tmp_path / "r.jsonl", rows)
    assert records.read_records(tmp_path / "r.jsonl") == rows
    assert (tmp_path / "r.jsonl").read_text("utf-8").count("\n") == 3


def test_every_key_comes_back(tmp_path):
    full = Record(
        **{field.name: 1 if "int" in str(field.type) or "float" in str(field.type) else "x" for field in fields(Record)}
    )
    records.write_records(tmp_path / "r.jsonl", [full])
    assert records.read_records(tmp_path / "r.jsonl") == [full]


def test_appending_makes_the_file_and_adds_to_its_end(tmp_path):
    path = tmp_path / "r.jsonl"
    records.append_records(path, ROWS[:1])
    records.append_records(path, ROWS[1:])
    assert records.read_records(path) == ROWS
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.jsonl"]


def test_a_failing_append_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "r.jsonl"
    records.append_records(path, ROWS)
    before = path.read_bytes()
    with pytest.raises(TypeError):  # what JSON cannot say, after a row that it can
        records.append_records(path, [Record(step=3), Record(iia={1})])  # pyright: ignore
    assert path.read_bytes() == before

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with refused(OutputFolderError, str(tmp_path), "no space left on device", "make room there"):
        records.append_records(path, ROWS)
    assert path.read_bytes() == before


def test_blank_lines_are_nothing(tmp_path):
    (tmp_path / "r.jsonl").write_text("\n" + ROWS[0].to_json() + "\n\n")
    assert records.read_records(tmp_path / "r.jsonl") == ROWS[:1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"iaa": 1}', "records have no key 'iaa'. Did you mean 'iia'?"),
        ('{"iia": 1', "is not a line of results: "),
        ("[1]", "is not a line of results: it holds a list instead of an object."),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path, line, message):
    path = tmp_path / "r.jsonl"
    path.write_text(f"{ROWS[0].to_json()}\n\n{line}\n")
    with pytest.raises(RecordError) as caught:
        records.read_records(path)
    assert str(caught.value).startswith(f"{path}:3")
    assert message in str(caught.value)


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "r.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(
        RecordError, match=r"r\.jsonl is not a line of results: it cannot be read \('utf-8' codec can't"
    ):
        records.read_records(tmp_path / "r.jsonl")
