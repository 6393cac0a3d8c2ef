import json

import pytest

from mas_hooks.core.errors import CheckpointError, OutputFolderError
from mas_hooks.core.files import read_json
from mas_hooks.core.records import Record, read_records
from mas_hooks.core.run_folder import RunFolder, describe_environment, next_folder

SETTINGS = {"seed": 0, "sizes": [1, 2]}


def opened(path, settings=SETTINGS, resume=False):
    return RunFolder.open(path, "demo", settings, resume=resume)


def test_a_new_folder_holds_settings_and_environment(tmp_path):
    opened(tmp_path / "run")
    assert json.loads((tmp_path / "run/settings.json").read_text()) == {"recipe": "demo", **SETTINGS}
    assert json.loads((tmp_path / "run/environment.json").read_text())["versions"]["torch"]


def test_environment_names_no_person_or_machine():
    import getpass
    import platform

    told = json.dumps(describe_environment())
    assert platform.node() not in told or not platform.node()
    assert f'"{getpass.getuser()}"' not in told


def test_a_folder_with_a_run_is_not_written_over(tmp_path):
    opened(tmp_path / "run")
    with pytest.raises(OutputFolderError, match="already holds a run; go on with it by --resume"):
        opened(tmp_path / "run")


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputFolderError, match="holds other files"):
        opened(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_resume_with_other_settings_names_them(tmp_path):
    opened(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"other settings \(seed\)"):
        opened(tmp_path / "run", {**SETTINGS, "seed": 1}, resume=True)
    assert opened(tmp_path / "run", resume=True).path == tmp_path / "run"


def test_resuming_what_never_started_starts_it(tmp_path):
    assert opened(tmp_path / "run", resume=True).read_stage("a") is None


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputFolderError, match="choose another folder with --out"):
        opened(tmp_path / "file" / "run")


def test_a_finished_stage_keeps_its_records(tmp_path):
    run, rows = opened(tmp_path / "run"), [Record(recipe="demo", iia=0.5)]
    assert run.read_stage("fit") is None
    run.finish_stage("fit", rows)
    assert run.read_stage("fit") == rows
    run.finish_stage("later", [Record(recipe="demo", iia=0.7)])
    assert run.write_records(["later", "fit", "never"]) == [Record(recipe="demo", iia=0.7), *rows]
    assert read_records(tmp_path / "run/records.jsonl") == [Record(recipe="demo", iia=0.7), *rows]


def test_the_next_folder_is_the_first_free_number(tmp_path):
    assert next_folder("demo", tmp_path).name == "demo-001"
    for number in (1, 2):
        (tmp_path / f"demo-{number:03d}").mkdir()
    (tmp_path / "demo-notes").mkdir()
    assert next_folder("demo", tmp_path).name == "demo-003"
    assert next_folder("demo", tmp_path, resume=True).name == "demo-002"
    with pytest.raises(CheckpointError, match="holds no run of figures to resume"):
        next_folder("figures", tmp_path, resume=True)


@pytest.mark.parametrize("content", ["{", "[1]", None])
def test_settings_that_cannot_be_read_are_told(tmp_path, content):
    path = tmp_path / "settings.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CheckpointError, match=r"settings\.json"):
        read_json(path)
