import json

import pytest

from mas_hooks.core.errors import OutputFolderError
from mas_hooks.studies.measurements import Measurement, check_writable, show_measurements, write_measurements

ROWS = [
    Measurement(bench="toy-step", variant="ours", width=48, ms_median=10.0, ratio=1.0),
    Measurement(bench="toy-step", variant="naive", width=48, ms_median=1234.5, ratio=123.45),
]


def test_the_file_is_a_list_of_flat_objects_without_empty_keys(tmp_path):
    write_measurements(tmp_path / "a.json", ROWS)
    found = json.loads((tmp_path / "a.json").read_text())
    assert found[0] == {"bench": "toy-step", "variant": "ours", "width": 48, "ms_median": 10.0, "ratio": 1.0}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_the_table_says_once_what_is_the_same(capsys):
    show_measurements(ROWS)
    text = capsys.readouterr().out
    assert "toy-step: width 48" in text
    assert "1,234" in text
    assert "123" in text
    assert text.count("48") == 1


def test_a_file_that_cannot_be_written_is_told_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputFolderError):
        check_writable(tmp_path / "file" / "a.json")
