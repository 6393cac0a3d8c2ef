"""Imports point one way: a file imports only lower heights, or its own room."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mas_hooks"

HEIGHTS = [
    {"errors", "progress"},
    {"records", "settings", "checkpoints", "inputs", "sites", "jobs"},
    {"maps", "similarity", "tasks", "toys", "report", "measurements", "run_folder", "positions", "pair_table"},
    {"interventions", "pairs", "plan", "hooks", "trained", "model_groups"},
    {
        "engine",
        "language",
        "methods",
        "exchanges",
        "first_maps",
        "latents",
        "null_space",
        "task_pairs",
        "text_pairs",
        "shared_texts",
    },
    {
        "alignment_files",
        "metrics",
        "objectives",
        "recorded_pairs",
        "text_models",
        "fit_settings",
        "stitched_classifiers",
    },
    {"alignment"},
    {"swaps", "start", "fit_state", "sites_table"},
    {"latent_targets", "read_out"},
    {"fit_loop"},
    {"fit_told"},
    {"fit", "evaluate"},
    {"controls"},
    {"comparison", "text_comparison", "stitching", "correlations", "shipped", "doctor"},
    {"study", "layer_comparison"},
    {"cli"},
    {"__main__"},
]
"""The rooms of the package by height; a file at the top level is its own room. `__init__` stands above all."""

HEIGHT = {room: height for height, rooms in enumerate(HEIGHTS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imported_rooms(path):
    """The rooms of this package that a file imports, lazily or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "mas_hooks":
            below = (node.module or "").split(".")[1:]
            found |= {below[0]} if below else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            pytest.fail(f"{path} imports relatively; write mas_hooks.… so that its room can be told")
        elif isinstance(node, ast.Import):
            named = [alias.name.split(".") for alias in node.names]
            found |= {parts[1] for parts in named if parts[0] == "mas_hooks" and len(parts) > 1}
    return found


def upward(path):
    room = room_of(path)
    return {other for other in imported_rooms(path) if other != room and HEIGHT[other] >= HEIGHT[room]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    if room_of(path) == "__init__":
        return
    assert room_of(path) in HEIGHT, f"give {room_of(path)} a height"
    assert upward(path) == set()


def test_the_door_holds(monkeypatch):
    """A made-up upward import is found: hooks importing fit."""
    monkeypatch.setitem(HEIGHT, "fit", HEIGHT["errors"])
    assert any(upward(path) for path in FILES if room_of(path) == "fit")


def test_every_room_is_there():
    assert {room_of(path) for path in FILES} - {"__init__"} == set(HEIGHT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 250
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno + 1 <= 60, node.name


@pytest.mark.parametrize("room", ["tasks", "report", "records.py", "errors.py", "plan.py"])
def test_rooms_without_torch_do_not_import_it(room):
    paths = [PACKAGE / room] if room.endswith(".py") else sorted((PACKAGE / room).rglob("*.py"))
    assert paths
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert "import torch" not in text
        assert "from torch" not in text
