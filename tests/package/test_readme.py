"""The README is what a stranger runs first: its Python runs as written, and what it names is there."""

import re
from pathlib import Path

import pytest

from mas_hooks.cli import main

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft reads a name that was renamed
def test_the_python_runs_as_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert len(blocks) == 7
    names = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    told = re.search(r"hook_points\(\)\)  # (.*)", TEXT)
    assert told is not None
    assert told.group(1) in capsys.readouterr().out
    assert (tmp_path / "my-alignment/model.safetensors").exists()


def test_the_swap_fits_into_twenty_lines_beside_the_model():
    block = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)[0]
    assert len(block[block.index("a, b = ") :].strip().splitlines()) <= 20


def test_the_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z-]+)", TEXT):
        assert f"\n{target}:" in makefile
    for command in re.findall(r"mas-hooks ([a-z]+)", TEXT):
        assert command in main.COMMANDS


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)(.*?)\)", TEXT))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()
