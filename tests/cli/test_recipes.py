"""A recipe is copied, edited and run; a mistake in the copy ends with the line in the user's file."""

import json
from pathlib import Path

import pytest

from mas_hooks.cli import main
from mas_hooks.studies import registry

HEAD = '''"""My study."""

from mas_hooks.studies.demo import DemoSettings, run_demo


class Settings(DemoSettings):
    """My defaults."""

'''
TINY = """    width: int = 8
    rank: int = 2
    sizes: tuple[int, int, int] = (32, 16, 16)
    training: TrainSettings = TrainSettings(max_steps=2)
    fit: FitSettings = FitSettings(epochs=1)
    controls: tuple[()] = ()


main = run_demo
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAS_HOOKS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def error_of(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main.main(list(arguments))
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said.removeprefix("error: ").rstrip("\n")


def test_a_copy_refuses_to_overwrite(here, capsys):
    main.main(["cp", "demo", "mine.py"])
    assert "mas-hooks run mine.py" in capsys.readouterr().out
    before = Path("mine.py").read_text()
    said = error_of(capsys, "cp", "figures", "mine.py")
    assert said == "cannot write to mine.py: it exists already; choose another name."
    assert Path("mine.py").read_text() == before
    assert "does not end in .py" in error_of(capsys, "cp", "demo", "mine.txt")
    assert "Did you mean 'demo'" in error_of(capsys, "cp", "dmeo", "other.py")


@pytest.mark.parametrize("recipe", registry.study_names("recipes"))
def test_every_copy_loads_as_it_is_and_knows_its_study(here, recipe):
    study = registry.load_study("recipes", str(registry.copy_recipe(recipe, here / "mine.py")))
    assert (study.name, study.study) == ("mine", registry.load_study("recipes", recipe).study)
    assert study.study.replace("-", "_") in {path.name for path in Path(registry.__file__).parent.iterdir()}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (HEAD + "    rank: int = = 3\n", 9, ("`rank: int = = 3`", "SyntaxError: invalid syntax")),
        (HEAD + "    rank: int = rnak\n", 9, ("`rank: int = rnak`", "NameError: name 'rnak' is not defined")),
        (
            HEAD.replace("run_demo", "run_dmeo"),
            3,
            ("import DemoSettings, run_dmeo`", "ImportError: cannot import name"),
        ),
        ("import nothing_here\n", 1, ("`import nothing_here`", "ModuleNotFoundError: No module named 'nothing_here'")),
        (
            '"""Mine."""\nfrom mas_hooks.study import main\n',
            2,
            ("`from mas_hooks.study import main`", "mas_hooks.study is now mas_hooks.studies.stages; import it from"),
        ),
        (HEAD + "    rank: int = 0\n\n\nmain = run_demo\n", 9, ("`rank: int = 0`", "RankError: rank 0 does not fit")),
        (
            HEAD + '    seed: int = 1\n    width: int = "wide"\n\n\nmain = run_demo\n',
            10,
            ('`width: int = "wide"`', "SettingError: Settings.width is 'wide', but must be a valid integer"),
        ),
        (
            HEAD + '    task: str = "multi_objct"\n\n\nmain = run_demo\n',
            9,
            ('`task: str = "multi_objct"`', "Did you mean 'multi_object'"),
        ),
        (HEAD + "    mine: int = 2.5\n\n\nmain = run_demo\n", 9, ("`mine: int = 2.5`", "Settings.mine is 2.5")),
        (HEAD + "    rank: int = 1 / 0\n", 9, ("`rank: int = 1 / 0`", "ZeroDivisionError: division by zero")),
        (
            HEAD + "\n\ndef main(settings, run, options):\n    rnu.finish_stage('a', [])\n",
            12,
            ("`rnu.finish_stage('a', [])`", "NameError: name 'rnu' is not defined"),
        ),
    ],
)
def test_a_mistake_in_a_copy_names_the_line(here, capsys, text, line, words):
    Path("mine.py").write_text(text)
    said = error_of(capsys, "run", "mine.py")
    assert said.startswith(f"{here / 'mine.py'}:{line}: in the line `")
    assert said.endswith("correct it and run the recipe again.")
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD, "defines no main; define it as the recipes do: mas-hooks cp demo FILE gives an example."),
        ("Settings = dict\nmain = print\n", "has Settings that are no settings class; derive them from those of a st"),
    ],
)
def test_a_file_that_is_no_recipe_says_what_it_lacks(here, capsys, text, words):
    Path("mine.py").write_text(text)
    assert error_of(capsys, "run", "mine.py").startswith(f"{here / 'mine.py'}: {words}")


def test_a_missing_file_names_the_way_to_get_one(here, capsys):
    assert error_of(capsys, "run", "mine.py") == (
        "mine.py: there is no such file; copy one with: mas-hooks cp NAME FILE."
    )


def test_a_copy_with_other_defaults_runs_and_is_reported(here, capsys):
    main.main(["cp", "demo", "my_study.py"])
    imports = (
        "from mas_hooks.models.toys.train import TrainSettings\nfrom mas_hooks.training.settings import FitSettings\n"
    )
    Path("my_study.py").write_text(HEAD.replace("\n\nclass", f"{imports}\n\nclass") + TINY)
    main.main(["run", "my_study.py", "--quiet", "--jobs", "1"])
    run = Path("runs/my-study-001")
    saved = json.loads((run / "settings.json").read_text())
    assert (saved["recipe"], saved["width"], saved["rank"], saved["controls"]) == ("demo", 8, 2, [])
    for picture in (pictures := sorted((run / "figures").glob("*.png"))):
        picture.unlink()
    capsys.readouterr()
    main.main(["report", str(run)])
    assert "gru-0 → gru-1" in capsys.readouterr().out
    assert sorted((run / "figures").glob("*.png")) == pictures
    assert len(pictures) == 3
