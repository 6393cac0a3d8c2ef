"""The public face: one list, seen whole, that pulls in no optional library."""

import inspect
import subprocess
import sys
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
    "controls",
    "evaluate",
    "fit",
    "interchange",
    "latents",
    "methods",
    "plot",
    "positions",
    "recording",
    "similarity",
    "task",
    "task_pairs",
    "text_pairs",
    "wrap",
]


def test_the_public_names_are_these():
    assert mh.__all__ == PUBLIC
    assert len(PUBLIC) <= 25


def test_every_public_name_is_there_and_documented():
    for name in PUBLIC:
        thing = getattr(mh, name)
        assert (inspect.getdoc(thing) or "").strip(), name


def test_importing_pulls_in_no_optional_library():
    heavy = ("transformers", "transformer_lens", "nnsight", "matplotlib", "peft", "accelerate", "datasets", "pyvene")
    code = f"import sys, mas_hooks, mas_hooks.cli.main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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
