"""The public face: one list, seen whole, that pulls in no optional library."""

import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import mas_hooks as mh

PUBLIC = [
    "ActivationStore",
    "Alignment",
    "Edit",
    "FitSettings",
    "MapSpec",
    "Pairs",
    "Plan",
    "Record",
    "Where",
    "cka_layers",
    "collect",
    "compare_layers",
    "controls",
    "evaluate",
    "fit",
    "interchange",
    "latents",
    "methods",
    "positions",
    "recording",
    "similarity",
    "task",
    "task_pairs",
    "text_pairs",
    "wrap",
]
HEAVY = ("transformers", "transformer_lens", "nnsight", "matplotlib", "pandas", "scipy.stats")
OPTIONAL = ("peft", "accelerate", "datasets", "pyvene")


def test_the_public_names_are_these():
    assert mh.__all__ == PUBLIC
    assert len(PUBLIC) <= 28


def test_every_public_name_is_there_and_documented():
    for name in PUBLIC:
        thing = getattr(mh, name)
        assert (inspect.getdoc(thing) or "").strip(), name


def loaded_by(code, names):
    """Which of these libraries a fresh process has loaded after the code."""
    asked = f"{code}; import sys; print(*[name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_alone_loads_no_torch():
    assert loaded_by("import mas_hooks, mas_hooks.cli.main", ("torch", *HEAVY, *OPTIONAL)) == []


def test_no_public_name_loads_an_optional_library():
    touch = "import mas_hooks as mh; [getattr(mh, name) for name in mh.__all__]"
    assert loaded_by(touch, (*HEAVY, *OPTIONAL)) == []


def test_dir_lists_the_public_names():
    assert set(PUBLIC) <= set(dir(mh))


def test_the_version_is_that_of_the_installed_package():
    assert mh.__version__ == version("mas-hooks")
    assert mh.__version__.split(".")[0].isdigit()


def test_nothing_that_can_run_code_is_loaded():
    """Checkpoints are safetensors and JSON: no file of the package unpickles, or trusts remote code."""
    for path in sorted(Path(mh.__file__).parent.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for word in (
            "import pickle",
            "from pickle",
            "pickle.load",
            "torch.load(",
            "trust_remote_code=True",
            "eval(",
            "exec(",
        ):
            assert word not in text.replace("model.eval(", "").replace(".eval()", ""), f"{path}: {word}"
