"""The command line answers what needs no model without loading the libraries that models need."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "scipy", "transformers", "matplotlib")
ANSWER = """
import sys
from mas_hooks.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
print("loaded:", *sorted(name for name in {heavy} if name in sys.modules))
"""


def heavy_after(code, *arguments, cwd=None):
    """What the code printed, and which of the heavy libraries it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said, _, loaded = done.stdout.rpartition("loaded:")
    return said, loaded.split()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--help"], "commands:"),
        (["--version"], "mas-hooks 0."),
        (["ls"], "toy-step"),
        (["cp", "demo", "mine.py"], "mas-hooks run mine.py"),
        (["report", "--help"], "from its records alone"),
    ],
)
def test_an_answer_that_needs_no_model_loads_no_torch(tmp_path, arguments, word):
    said, loaded = heavy_after(ANSWER.format(heavy=HEAVY), *arguments, cwd=tmp_path)
    assert word in said
    assert loaded == []


@pytest.mark.parametrize("module", ["cli.main", "core.run_folder", "core.files", "core.records", "studies.registry"])
def test_what_these_commands_stand_on_loads_no_torch(module):
    code = f"import sys, mas_hooks.{module}; print('loaded:', *[name for name in {HEAVY} if name in sys.modules])"
    assert heavy_after(code) == ("", [])
