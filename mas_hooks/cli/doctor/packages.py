"""Which packages are there, in which version, and whether they can be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

from rich import box
from rich.markup import escape
from rich.table import Table

EXTRAS = {
    "torch": None,
    "transformers": None,
    "numpy": None,
    "safetensors": None,
    "transformer-lens": "lens",
    "nnsight": "nnsight",
    "peft": "language",
    "accelerate": "language",
    "datasets": "language",
}
"""The extra of mas-hooks that brings a package; None for those that it always brings."""

_TRY = """
import importlib, json, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        problem = None
    except BaseException as error:
        problem = f"{type(error).__name__}: {error}"
    print("\\n" + json.dumps([name, problem]), flush=True)
"""


@dataclass(frozen=True)
class Package:
    """version: None where it is not installed. problem: what importing it says, None where that goes well."""

    name: str
    version: str | None
    problem: str | None = None

    @property
    def remedy(self) -> str:
        """How to get it."""
        extra = EXTRAS.get(self.name)
        return f"pip install 'mas-hooks[{extra}]'" if extra else f"pip install {self.name}"


def find_packages(packages: Sequence[str] = tuple(EXTRAS)) -> list[Package]:
    """Look up the versions of packages, and import those that are installed, in a separate process.

    In a separate process because an import may change Python (nnsight does) or end it.
    """
    versions = {name: _version(name) for name in packages}
    modules = {name.replace("-", "_"): name for name, version in versions.items() if version is not None}
    done = subprocess.run([sys.executable, "-c", _TRY, *modules], capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    problems = {modules[name]: problem for name, problem in map(json.loads, lines)}
    ended = f"importing it ends Python (exit status {done.returncode})"
    broken = next((name for name in modules.values() if name not in problems), None)
    problems |= {} if broken is None else {broken: ended}
    return [Package(name, version, problems.get(name)) for name, version in versions.items()]


def package_table(packages: Sequence[Package]) -> Table:
    """The table of the packages, one line each."""
    grid = Table(box=box.SIMPLE_HEAD)
    for head in ("package", "version", ""):
        grid.add_column(head)
    for package in packages:
        missing = f"not installed: {package.remedy}"
        broken = f"does not import: {package.problem}" if package.problem else "imports"
        grid.add_row(package.name, package.version or "–", escape(missing if package.version is None else broken))
    return grid


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
