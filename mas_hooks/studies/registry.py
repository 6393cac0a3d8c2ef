"""Recipes and benchmarks by name: thin files that travel with the package, are copied, edited and loaded by path."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import PydanticUserError

from mas_hooks.core.errors import MasHooksError, OutputFolderError, RecipeError, UnknownNameError
from mas_hooks.core.settings import Settings

USER_ERRORS = (
    SyntaxError,
    NameError,
    ImportError,
    AttributeError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    PydanticUserError,
    MasHooksError,
)
"""What a mistake in an edited recipe raises while the file is loaded."""


@dataclass(frozen=True)
class Study:
    """A recipe or a benchmark: its settings class, its main function, and the first line of its docstring.

    study: the package of `mas_hooks.studies` that its main function comes from, or its own name. draw: what a recipe
    draws from the records of a run in place of the usual figures, given the run folder. deciding: settings that decide
    the defaults of others, such as the name of a preset; they are read first.
    """

    name: str
    settings: type[Settings]
    main: Callable[..., Any]
    summary: str
    study: str
    draw: Callable[[Path], list[Path]] | None = None
    deciding: tuple[str, ...] = ()


def shipped_folder(kind: str) -> Path:
    """Where `recipes` or `benchmarks` lie: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_shipped" / kind
    return installed if installed.is_dir() else package.parent / kind


def study_names(kind: str) -> list[str]:
    """What there is of a kind; file names with - for _."""
    return sorted(path.stem.replace("_", "-") for path in shipped_folder(kind).glob("[a-z]*.py"))


def read_summary(kind: str, name: str) -> str:
    """The first line of a recipe or benchmark, read without running it."""
    text = find_file(kind, name).read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def find_file(kind: str, name: str) -> Path:
    """The file of a recipe or benchmark, by its name or its path (FILE.py).

    Raises UnknownNameError with the nearest name, or RecipeError for a path that is no file.
    """
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise RecipeError(name, "there is no such file", "copy one with: mas-hooks cp NAME FILE")
        return Path(name).resolve()
    known = study_names(kind)
    if name not in known:
        raise UnknownNameError(kind.removesuffix("s"), name, known, "mas-hooks")
    return shipped_folder(kind) / f"{name.replace('-', '_')}.py"


def load_study(kind: str, name: str) -> Study:
    """Load a recipe or benchmark by name or path.

    Raises UnknownNameError with the nearest name, and RecipeError that quotes the line for a file that does not load.
    """
    path = find_file(kind, name)
    module = _load_module(path)
    for attribute in ("Settings", "main"):
        if not hasattr(module, attribute):
            remedy = "define it as the recipes do: mas-hooks cp demo FILE gives an example"
            raise RecipeError(path, f"defines no {attribute}", remedy)
    return Study(
        path.stem.replace("_", "-"),
        module.Settings,
        module.main,
        (module.__doc__ or "").strip().partition("\n")[0],
        _study_of(module.main) or path.stem.replace("_", "-"),
        getattr(module, "draw", None),
        getattr(module, "DECIDING", ()),
    )


def copy_recipe(name: str, target: Path) -> Path:
    """Copy a recipe for editing. Raises OutputFolderError where the target exists or cannot be written."""
    source = find_file("recipes", name)
    if target.is_dir():
        target = target / source.name
    if target.exists():
        raise OutputFolderError(target, "it exists already", "choose another name")
    if target.suffix != ".py":
        raise OutputFolderError(target, "it does not end in .py", "name a Python file, such as my_study.py")
    with OutputFolderError.while_writing(target.parent, "choose another place, or make room there"):
        shutil.copyfile(source, target)
    return target


def _study_of(main: Callable[..., Any]) -> str:
    """The name of the study that a main function belongs to; empty where it is the file's own."""
    package, _, rest = main.__module__.partition("mas_hooks.studies.")
    return rest.partition(".")[0].replace("_", "-") if not package else ""


def _load_module(path: Path) -> ModuleType:
    """Run a file as a module, once a process."""
    spec = importlib.util.spec_from_file_location(f"mas_hooks_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = sys.modules.get(spec.name)
    if loaded is not None and loaded.__file__ == str(path):
        return loaded
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic and dataclasses look annotations up there
    try:
        spec.loader.exec_module(module)
    except USER_ERRORS as error:
        del sys.modules[spec.name]
        if path.is_relative_to(shipped_folder("recipes")) or path.is_relative_to(shipped_folder("benchmarks")):
            raise
        raise RecipeError.at_line(path, *_line_of(error, path), error) from error
    return module


def _line_of(error: BaseException, path: Path) -> tuple[int | None, str]:
    """The line of a file that an error comes from, and its text."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno, (error.text or "").strip()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == str(path):
            return frame.lineno, (frame.line or "").strip()
    return None, ""
