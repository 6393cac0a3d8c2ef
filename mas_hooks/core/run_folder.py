"""The folder of a run: settings, environment, records, alignments, figures, and the state from which it resumes."""

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
from mas_hooks.core.errors import CheckpointError, OutputFolderError
from mas_hooks.core.files import ensure_writable, read_json, write_json
from mas_hooks.core.records import Record
from mas_hooks.core.settings import check_same_settings

SETTINGS, ENVIRONMENT, RECORDS = "settings.json", "environment.json", "records.jsonl"
LIBRARIES = ("mas-hooks", "torch", "numpy", "scipy", "safetensors", "pydantic", "matplotlib", "transformers")


@dataclass(frozen=True)
class RunFolder:
    """A run folder that is open for writing. A finished stage keeps its records, so that --resume leaves it out."""

    path: Path

    @classmethod
    def open(cls, path: Path, recipe: str, settings: Mapping[str, Any], *, resume: bool) -> RunFolder:
        """Make the folder, or go on in it.

        Args:
            path: the folder.
            recipe: the name of the study, kept as `recipe` in settings.json.
            settings: the settings of the run, as JSON.
            resume: go on with the run that the folder holds.

        Returns:
            The open folder, with its settings and environment written.

        Raises:
            OutputFolderError: the folder cannot be written to, or holds a run already (without `resume`).
            CheckpointError: the folder holds a run of other settings.
        """
        description = {"recipe": recipe, **json.loads(json.dumps(settings))}
        if (path / SETTINGS).exists():
            if not resume:
                remedy = "go on with it by --resume, or choose another folder with --out"
                raise OutputFolderError(path, "it already holds a run", remedy)
            remedy = f"resume with --config {path / SETTINGS}, or start anew with another --out"
            check_same_settings(read_json(path / SETTINGS), description, path, remedy, "was started")
        elif path.exists() and any(path.iterdir()):
            raise OutputFolderError(path, "it holds other files", "choose an empty or new folder with --out")
        run = cls(ensure_writable(path))
        run.write_json(SETTINGS, description)
        run.write_json(ENVIRONMENT, describe_environment())
        return run

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file under a temporary name, then rename."""
        write_json(self.path / name, content)

    def state(self, stage: str) -> Path:
        """The folder in which a stage keeps what it needs to go on."""
        return ensure_writable(self.path / "state" / stage)

    def read_stage(self, stage: str) -> list[Record] | None:
        """The records of a stage that is done, or None."""
        path = self.path / "state" / f"{stage}.jsonl"
        return records.read_records(path) if path.exists() else None

    def finish_stage(self, stage: str, rows: Sequence[Record]) -> None:
        """Keep the records of a stage, which is done from here on."""
        ensure_writable(self.path / "state")
        records.write_records(self.path / "state" / f"{stage}.jsonl", rows)

    def write_records(self, stages: Sequence[str]) -> list[Record]:
        """Write records.jsonl from the finished stages, in this order, and return them."""
        rows = [row for stage in stages for row in self.read_stage(stage) or []]
        records.write_records(self.path / RECORDS, rows)
        return rows


def describe_environment() -> dict[str, Any]:
    """Describe what a result depends on beside its settings: versions and machine, without names of users or hosts."""
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
    """Choose among runs/RECIPE-001, -002, …: the next free one, or the last one with `resume`.

    Args:
        recipe: the name of the recipe.
        parent: the folder of all runs.
        resume: choose the last run instead of a new folder.

    Returns:
        The folder, which need not exist yet.

    Raises:
        CheckpointError: there is no run to resume.
    """
    taken = sorted(parent.glob(f"{recipe}-[0-9][0-9][0-9]"))
    if resume:
        if not taken:
            raise CheckpointError(parent, f"holds no run of {recipe} to resume", "name the folder of one with --out")
        return taken[-1]
    number = int(taken[-1].name.rpartition("-")[2]) + 1 if taken else 1
    return parent / f"{recipe}-{number:03d}"
