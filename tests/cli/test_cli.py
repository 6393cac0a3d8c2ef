import json
import shutil
import subprocess
import sys
from pathlib import Path

import example_runs as runs
import pytest

from mas_hooks.cli import main
from mas_hooks.core import records


def said(capsys, arguments, status):
    with pytest.raises(SystemExit) as ended:
        main.main(arguments)
    assert ended.value.code == status
    return capsys.readouterr()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAS_HOOKS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_no_command_and_help_list_the_commands(capsys):
    for arguments in ([], ["--help"]):
        main.main(arguments)
        text = capsys.readouterr().out
        assert all(name in text for name in ("demo", "ls", "run", "report", "bench"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["dmeo"], "no command 'dmeo'. Did you mean 'demo'"),
        (["run", "dmeo"], "no recipe 'dmeo'. Did you mean 'demo'"),
        (["bench", "toy-stepp"], "no benchmark 'toy-stepp'. Did you mean 'toy-step'"),
        (["demo", "--device", "cuda:9"], "device 'cuda:9' is not available here"),
        (["demo", "--rank", "0"], "rank 0 does not fit"),
        (["demo", "--rank", "49"], "rank 49 does not fit"),
        (["demo", "--task", "multi_objct"], "Did you mean 'multi_object'"),
        (["demo", "--sizes", "0", "1", "1"], "pairs"),
        (["demo", "--fit.batch-size", "0"], "greater than or equal to 1"),
        (["demo", "--config", "nothing.json"], "nothing.json: cannot be read"),
        (["demo", "--resume"], "no run of demo to resume"),
        (["demo", "--resume", "--out", "nowhere"], "nowhere: holds no run to go on with"),
        (["demo", "--jobs", "0"], "--jobs is 0, but must be 1 or more"),
        (["report", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(here, capsys, arguments, sentence):
    error = said(capsys, arguments, 2).err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert sentence in error
    assert not (here / "runs").exists()


def test_an_unknown_flag_is_told(here, capsys):
    said_there = said(capsys, ["demo", "--rnak", "3"], 2)
    assert "rnak" in said_there.out + said_there.err
    assert not (here / "runs").exists()


def test_a_folder_that_cannot_be_written_is_told(here, capsys):
    Path("file").write_text("")
    assert "choose another folder with --out" in said(capsys, ["demo", "--out", "file/run"], 2).err


def test_a_folder_with_a_run_needs_resume(here, capsys):
    Path("run").mkdir()
    Path("run/settings.json").write_text("{}")
    assert "--resume" in said(capsys, ["demo", "--out", "run"], 2).err


def test_config_repeats_settings_and_flags_override_them(here):
    study = main.registry.load_study("recipes", "demo")
    told = {"recipe": "demo", **study.settings(rank=7, seed=3).model_dump(mode="json")}
    Path("settings.json").write_text(json.dumps(told))
    for words in (["--config", "settings.json"], ["--config=settings.json"]):
        defaults = main._load_defaults(study, words)
        assert (defaults.rank, defaults.seed) == (7, 3)
        flags, settings = main._parse("run demo", study, [*words, "--seed", "5"], (main.RunFlags(), defaults))
        assert (settings.rank, settings.seed, flags.config) == (7, 5, Path("settings.json"))


def test_resume_takes_the_settings_of_the_run(here):
    study = main.registry.load_study("recipes", "demo")
    for name, rank in (("demo-001", 5), ("demo-002", 7)):
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "settings.json").write_text(json.dumps({"recipe": "demo", "rank": rank}))
    assert main._load_defaults(study, ["--resume"]).rank == 7
    assert main._load_defaults(study, ["--resume", "--out", "runs/demo-001"]).rank == 5
    assert main._load_defaults(study, ["--out=runs/demo-001"]).rank == 16


def test_version(capsys):
    main.main(["--version"])
    assert capsys.readouterr().out.startswith("mas-hooks 0.")


def test_a_reader_that_has_seen_enough_is_no_error():
    words = [sys.executable, "-m", "mas_hooks", "ls"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        run.stdout.close()
        said_there = run.stderr.read().decode()
    assert "Traceback" not in said_there


def test_a_config_with_an_unknown_setting_names_the_nearest(here, capsys):
    Path("settings.json").write_text(json.dumps({"rnak": 3}))
    assert "Did you mean 'rank'" in said(capsys, ["demo", "--config", "settings.json"], 2).err


def test_help_explains_every_flag(capsys):
    text = said(capsys, ["run", "demo", "--help"], 0).out
    for flag in ("--out", "--resume", "--config", "--jobs", "--device", "--seed", "--rank", "--fit.patience"):
        assert flag in text
    assert "Aligned dims out of width" in text


def test_ls_names_recipes_and_benchmarks(capsys):
    main.main(["ls"])
    text = capsys.readouterr().out
    assert "demo" in text
    assert "time-to-iia" in text


def test_report_redraws_from_records_alone(here, capsys):
    Path("run").mkdir()
    records.write_records("run/records.jsonl", runs.demo())
    main.main(["report", "run"])
    first = capsys.readouterr().out
    assert "gru-0 → gru-1" in first
    assert len(list(Path("run/figures").glob("*.png"))) == 3
    shutil.rmtree("run/figures")
    main.main(["report", "run"])
    assert len(list(Path("run/figures").glob("*.png"))) == 3


@pytest.mark.parametrize("recipe", ["toxicity", "figures"])
def test_a_run_without_records_says_how_it_goes_on(here, capsys, recipe):
    Path("run").mkdir()
    Path("run/settings.json").write_text(json.dumps({"recipe": recipe}))
    with pytest.raises(SystemExit) as ended:
        main.main(["report", "run"])
    assert ended.value.code == 2
    said = f"error: run: holds no records yet; go on with the run: mas-hooks run {recipe} --resume --out run.\n"
    assert capsys.readouterr().err == said


def test_bench_writes_its_rows(here, capsys):
    words = ["--widths", "8", "--batches", "16", "--rank", "4", "--repeats", "1", "--naive-repeats", "1"]
    main.main(["bench", "toy-step", *words, "--json", "rows.json"])
    rows = json.loads(Path("rows.json").read_text())
    assert {row["variant"] for row in rows} == {"ours", "ours, whole forward", "naive twin"}
    assert max(row["loss"] for row in rows) - min(row["loss"] for row in rows) < 1e-4
    assert "toy-step" in capsys.readouterr().out
