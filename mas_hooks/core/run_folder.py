"""The folder of a run: settings, environment, records, alignments, figures, and what lets it be resumed."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mas_hooks.core import records
from mas_hooks.core.checkpoints import ensure_writable
from mas_hooks.core.errors import CheckpointError, OutputFolderError
from mas_hooks.core.records import Record

SETTINGS, ENVIRONMENT, RECORDS = "settings.json", "environment.json", "records.jsonl"
LIBRARIES = ("mas-hooks", "torch", "numpy", "scipy", "safetensors", "pydantic", "matplotlib", "transformers")


@dataclass(frozen=True)
class RunFolder:
    """A run folder that is open for writing. Finished stages keep their records, and are not run again on --resume."""

    path: Path

    @classmethod
    def open(cls, path: Path, recipe: str, settings: Mapping[str, Any], *, resume: bool) -> RunFolder:
        """Make the folder, or go on in it.

        Raises OutputFolderError where it cannot be written or holds a run already, CheckpointError where it is to be
        resumed with other settings.
        """
        told = {"recipe": recipe, **json.loads(json.dumps(settings))}
        if (path / SETTINGS).exists():
            if not resume:
                remedy = "go on with it by --resume, or choose another folder with --out"
                raise OutputFolderError(path, "it already holds a run", remedy)
            cls._check_same(path, told)
        elif path.exists() and any(path.iterdir()):
            raise OutputFolderError(path, "it holds other files", "choose an empty or new folder with --out")
        run = cls(ensure_writable(path))
        run.write_json(SETTINGS, told)
        run.write_json(ENVIRONMENT, describe_environment())
        return run

    @classmethod
    def _check_same(cls, path: Path, told: Mapping[str, Any]) -> None:
        before = read_json(path / SETTINGS)
        if before != told:
            changed = sorted(key for key in {*before, *told} if before.get(key) != told.get(key))
            remedy = f"resume with --config {path / SETTINGS}, or start anew with another --out"
            raise CheckpointError(path, f"was started with other settings ({', '.join(changed)})", remedy)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file under a temporary name, then rename."""
        temporary = self.path / f".{name}.tmp"
        with OutputFolderError.while_writing(self.path):
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            temporary.replace(self.path / name)

    def state(self, stage: str) -> Path:
        """Where a stage keeps what it needs to go on."""
        return ensure_writable(self.path / "state" / stage)

    def read_stage(self, stage: str) -> list[Record] | None:
        """The records of a stage that is done, or None."""
        path = self.path / "state" / f"{stage}.jsonl"
        return records.read_records(path) if path.exists() else None

    def finish_stage(self, stage: str, rows: Sequence[Record]) -> None:
        """Keep the records of a stage: from here on it is done."""
        ensure_writable(self.path / "state")
        records.write_records(self.path / "state" / f"{stage}.jsonl", rows)

    def write_records(self, stages: Sequence[str]) -> list[Record]:
        """Write records.jsonl from the finished stages, in this order, and return them."""
        rows = [row for stage in stages for row in self.read_stage(stage) or []]
        records.write_records(self.path / RECORDS, rows)
        return rows


def read_json(path: Path, remedy: str = "give a settings.json of an earlier run") -> dict[str, Any]:
    """A JSON object from a file. Raises CheckpointError, with the remedy, where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(path, f"cannot be read ({error})", remedy) from error
    if not isinstance(content, dict):
        raise CheckpointError(path, "holds no settings", remedy)
    return content


def describe_environment() -> dict[str, Any]:
    """What a result depends on beside its settings: versions and machine. No names of users or machines."""
    import torch

    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = None
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": versions,
    }


def next_folder(recipe: str, parent: Path = Path("runs"), *, resume: bool = False) -> Path:
    """runs/RECIPE-001, -002, …: the next free one, or the last one there is with resume."""
    taken = sorted(parent.glob(f"{recipe}-[0-9][0-9][0-9]"))
    if resume:
        if not taken:
            raise OutputFolderError(parent, f"there is no run of {recipe} to resume", "name its folder with --out")
        return taken[-1]
    number = int(taken[-1].name.rpartition("-")[2]) + 1 if taken else 1
    return parent / f"{recipe}-{number:03d}"
