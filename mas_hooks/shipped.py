"""The recipes and benchmarks that travel with the package as data, found and loaded by path."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mas_hooks.errors import UnknownNameError
from mas_hooks.settings import Settings


@dataclass(frozen=True)
class Options:
    """What every recipe and benchmark is told beside its settings, and what its numbers do not depend on."""

    jobs: int = 1
    device: str = "cpu"
    progress: bool = True


@dataclass(frozen=True)
class Study:
    """A recipe or a benchmark: its settings class, its main function, and the first line of its docstring.

    draw: what a recipe draws from the records of a run in place of the usual figures, given the run folder. deciding:
    settings that decide the defaults of others, such as the name of a preset; they are read first.
    """

    name: str
    settings: type[Settings]
    main: Callable[..., Any]
    summary: str
    draw: Callable[[Path], list[Path]] | None = None
    deciding: tuple[str, ...] = ()


def folder(kind: str) -> Path:
    """Where `recipes` or `benchmarks` lie: in the installed package, or beside it in a checkout."""
    here = Path(__file__).parent
    installed = here / "_shipped" / kind
    return installed if installed.is_dir() else here.parent / kind


def names(kind: str) -> list[str]:
    """What there is of a kind; file names with - for _."""
    return sorted(path.stem.replace("_", "-") for path in folder(kind).glob("[a-z]*.py"))


def load(kind: str, name: str) -> Study:
    """Load a recipe or benchmark by name. Raises UnknownNameError with the nearest one."""
    known = names(kind)
    if name not in known:
        raise UnknownNameError(kind.removesuffix("s"), name, known, "mas-hooks")
    module = _module(folder(kind) / f"{name.replace('-', '_')}.py")
    summary = (module.__doc__ or "").strip().splitlines()[0]
    return Study(
        name, module.Settings, module.main, summary, getattr(module, "draw", None), getattr(module, "DECIDING", ())
    )


def beside(study: str, name: str) -> Any:
    """A file that lies beside a recipe or benchmark (its `__file__`) and is none itself, such as `_llm_steps`."""
    return _module(Path(study).with_name(f"{name}.py"))


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"mas_hooks_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    if spec.name in sys.modules and sys.modules[spec.name].__file__ == str(path):
        return sys.modules[spec.name]
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic and dataclasses look annotations up there
    spec.loader.exec_module(module)
    return module
