import os
import subprocess
import sys
from pathlib import Path

import example_runs as runs
import pytest

import mas_hooks.report
from mas_hooks.core import records
from mas_hooks.core.errors import CheckpointError, EmptyError, OutputFolderError
from mas_hooks.report import draw_run
from mas_hooks.report.page import run_page

NAMES = ["direction_heatmap.png", "iia_bars.png", "iia_curves.png"]
ROOM = Path(mas_hooks.report.__file__).parent


@pytest.fixture
def run_dir(tmp_path):
    records.write_records(tmp_path / "records.jsonl", runs.demo())
    return tmp_path


def test_draws_all_figures_twice_the_same(run_dir):
    paths = draw_run(run_dir)
    assert [path.name for path in paths] == NAMES
    first = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in draw_run(str(run_dir))] == first
    assert all(picture.startswith(b"\x89PNG") for picture in first)
    assert sorted(path.name for path in (run_dir / "figures").iterdir()) == NAMES


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (runs.alone(), ["direction_heatmap.png", "iia_bars.png"]),
        ([runs.similarity("cka", 0.9, runs.GRUS)], ["iia_bars.png"]),
        (runs.curve(runs.GRUS, 30, 50, method="das", init="random"), ["iia_curves.png"]),
        (runs.directions((0.1,) * 4, runs.GRUS, control="untrained"), ["iia_bars.png"]),
    ],
)
def test_figures_that_do_not_apply_are_left_out(tmp_path, rows, names):
    records.write_records(tmp_path / "records.jsonl", rows)
    assert [path.name for path in draw_run(tmp_path)] == names


def test_folder_without_records(tmp_path):
    with pytest.raises(CheckpointError, match=r"it has no records\.jsonl; give the folder that a recipe wrote"):
        draw_run(tmp_path)
    with pytest.raises(CheckpointError, match="there is no such folder"):
        draw_run(tmp_path / "nowhere")


def test_empty_records(tmp_path):
    (tmp_path / "records.jsonl").write_text("\n")
    with pytest.raises(EmptyError, match=r"records\.jsonl is empty; let the run finish"):
        draw_run(tmp_path)
    assert not (tmp_path / "figures").exists()


def test_records_without_anything_to_draw(tmp_path):
    records.write_records(tmp_path / "records.jsonl", [records.Record(recipe="demo", seconds=3.0)])
    with pytest.raises(EmptyError, match="hold no test rows, no validation curves and no RSA or CKA"):
        draw_run(tmp_path)
    assert not (tmp_path / "figures").exists()


def test_read_only_folder(run_dir, monkeypatch):
    if os.geteuid() == 0:  # root may write anywhere, so the answer of the system is played
        monkeypatch.setattr(run_page.os, "access", lambda path, mode: False)
    run_dir.chmod(0o555)
    try:
        with pytest.raises(OutputFolderError, match="it is read-only; make it writable"):
            draw_run(run_dir)
    finally:
        run_dir.chmod(0o755)
    assert not (run_dir / "figures").exists()


def test_file_in_the_way(run_dir):
    (run_dir / "figures").write_text("mine")
    with pytest.raises(OutputFolderError, match="it is a file, not a folder"):
        draw_run(run_dir)
    assert (run_dir / "figures").read_text() == "mine"


def test_full_disk_leaves_no_halves(run_dir, monkeypatch):
    def full(self, data):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputFolderError, match="no space left on device; free some space"):
        draw_run(run_dir)
    assert not list((run_dir / "figures").iterdir())


def test_import_loads_no_library_that_draws():
    heavy = ("matplotlib", "seaborn", "pandas", "jinja2", "torch")
    code = f"import sys, mas_hooks.report; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
