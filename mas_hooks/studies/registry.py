"""Recipes and benchmarks by name: thin files that travel with the package, are copied, edited and loaded by path."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

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
    AssertionError,
    OSError,
    PydanticUserError,
    MasHooksError,
)
"""What a mistake in an edited recipe raises."""


@dataclass(frozen=True)
class Study:
    """A recipe or a benchmark: its settings class, its main function, and the first line of its docstring.

    study: the package of `mas_hooks.studies` that its main function, or else its settings, come from; its name where
    it stands alone. draw: draws the figures of a run folder from its records, in place of the usual ones. deciding:
    settings that decide the defaults of others, such as the name of a preset; the command line reads them first.
    path: the file.
    """

    name: str
    settings: type[Settings]
    main: Callable[..., Any]
    summary: str
    study: str
    path: Path
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
    """Read the first line of a recipe's or benchmark's docstring, without running the file."""
    text = find_file(kind, name).read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def find_file(kind: str, name: str) -> Path:
    """Find the file of a recipe or benchmark by its name or its path (FILE.py).

    Raises UnknownNameError, with the nearest name, or RecipeError for a path that is no file.
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

    Raises UnknownNameError, with the nearest name, and RecipeError for a file that does not load, or whose defaults do
    not fit; it names FILE:LINE and quotes the line.
    """
    path = find_file(kind, name)
    module = _load_module(path)
    for attribute in ("Settings", "main"):
        if not hasattr(module, attribute):
            remedy = "define it as the recipes do: mas-hooks cp demo FILE gives an example"
            raise RecipeError(path, f"defines no {attribute}", remedy)
    if not (isinstance(module.Settings, type) and issubclass(module.Settings, Settings)):
        raise RecipeError(path, "has Settings that are no settings class", "derive them from those of a study")
    if not _is_shipped(path):
        _check_defaults(path, module.Settings)
    name = path.stem.replace("_", "-")
    return Study(
        name,
        module.Settings,
        module.main,
        (module.__doc__ or "").strip().partition("\n")[0],
        _find_study(module.main, *module.Settings.__mro__) or name,
        path,
        getattr(module, "draw", None),
        getattr(module, "DECIDING", ()),
    )


def copy_recipe(name: str, target: Path) -> Path:
    """Copy a recipe for editing. Raise OutputFolderError when the target exists or cannot be written."""
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


@contextmanager
def name_line(path: Path) -> Iterator[None]:
    """Turn a mistake in a recipe of the user's that the block runs into a RecipeError that quotes its line.

    An error from a file of the package passes as it is: it is no mistake of the recipe, or says itself what is.
    """
    try:
        yield
    except USER_ERRORS as error:
        frames = traceback.extract_tb(error.__traceback__)
        if _is_shipped(path) or isinstance(error, MasHooksError) or not frames or frames[-1].filename != str(path):
            raise
        raise RecipeError.at_line(path, *_find_line(error, path), error) from error


def _is_shipped(path: Path) -> bool:
    return any(path.is_relative_to(shipped_folder(kind)) for kind in ("recipes", "benchmarks"))


def _find_study(*things: Any) -> str:
    """The name of the study that the first of these functions and classes from one belongs to; empty for none."""
    for thing in things:
        package, _, rest = thing.__module__.partition("mas_hooks.studies.")
        if not package and rest:
            return rest.partition(".")[0].replace("_", "-")
    return ""


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
        if _is_shipped(path):
            raise
        raise RecipeError.at_line(path, *_find_line(error, path), error) from error
    return module


def _find_line(error: BaseException, path: Path) -> tuple[int | None, str]:
    """The line of a file that an error comes from, and its text."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno, (error.text or "").strip()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == str(path):
            return frame.lineno, (frame.line or "").strip()
    return None, ""


def _check_defaults(path: Path, settings: type[Settings]) -> None:
    """Raise RecipeError, with the line of the default, where the defaults of a user's settings do not fit.

    pydantic checks what is given, not defaults, so they are given here.
    """
    text = path.read_text(encoding="utf-8")
    lines = _default_lines(text, settings)
    defaults = {name: settings.model_fields[name].get_default(call_default_factory=True) for name in lines}
    try:
        settings(**defaults)
    except USER_ERRORS as error:
        for name, number in lines.items():
            if _is_refused(settings, name, defaults[name]):
                raise RecipeError.at_line(f"{path}", number, text.splitlines()[number - 1].strip(), error) from error
        raise RecipeError(path, f"its defaults do not fit: {str(error).rstrip('.')}", "change one of them") from error


def _default_lines(text: str, settings: type[Settings]) -> dict[str, int]:
    """The fields that a settings class writes in its own body with a default, and the numbers of their lines."""
    bodies = [node.body for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    fields = [node for body in bodies for node in body if isinstance(node, ast.AnnAssign) and node.value is not None]
    lines = {field.target.id: field.lineno for field in fields if isinstance(field.target, ast.Name)}
    return {name: number for name, number in lines.items() if name in settings.model_fields}


def _is_refused(settings: type[Settings], name: str, default: Any) -> bool:
    """Whether the class that these settings are made from refuses this default beside its own."""
    parent = next(kind for kind in settings.__mro__[1:] if issubclass(kind, Settings))
    try:
        if name in parent.model_fields:
            parent(**{name: default})
        TypeAdapter(settings.model_fields[name].annotation).validate_python(default)
    except (*USER_ERRORS, ValidationError):
        return True
    return False
