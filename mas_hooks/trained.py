"""Toy models trained on a task: from the user's cache folder, or trained now and kept there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from pydantic import Field

from mas_hooks import checkpoints
from mas_hooks.errors import CheckpointError
from mas_hooks.settings import Settings
from mas_hooks.tasks import AbstractTask, task
from mas_hooks.tasks.trials import Trials
from mas_hooks.toys.recurrent import Cell, RecurrentModel
from mas_hooks.toys.training import Trained, TrainSettings, train

KIND = "mas_hooks.toy"


class ToySettings(Settings):
    """A toy model and how it is trained; equal settings are the same model.

    task, task_settings: name and keywords of `mas_hooks.tasks.task`. cell, width, dropout: of the model. training: the
    schedule; its seed also draws the first weights.
    """

    task: str = "multi_object"
    task_settings: Mapping[str, int | float | tuple[int, ...]] = Field(default_factory=dict)
    cell: Cell = "gru"
    width: int = 48
    dropout: float = 0.5
    training: TrainSettings = TrainSettings()

    @property
    def name(self) -> str:
        """A short name for tables: the cell and the seed."""
        return f"{self.cell}-{self.training.seed}"

    @property
    def key(self) -> str:
        """What the cache folder of this model is called."""
        told = json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()
        return f"{self.task}-{self.cell}{self.width}-seed{self.training.seed}-{hashlib.sha256(told).hexdigest()[:12]}"


@dataclass(frozen=True, eq=False)
class Toy:
    """A trained toy in eval mode, the task it knows, and how its training ended."""

    model: RecurrentModel
    task: AbstractTask[Any]
    trained: Trained
    from_cache: bool


def cache_folder() -> Path:
    """Where trained toys are kept: $MAS_HOOKS_CACHE, or this user's cache folder."""
    named = os.environ.get("MAS_HOOKS_CACHE")
    return Path(named) if named else user_cache_path("mas_hooks", appauthor=False)


def toy(settings: ToySettings, cache: Path | None = None, *, progress: bool = True) -> Toy:
    """The toy of these settings. Trains it (under its own random seed) if the cache does not hold it.

    Raises CheckpointError for a cache entry that is damaged or foreign.
    """
    folder = (cache or cache_folder()) / "toys" / settings.key
    own = task(settings.task, **settings.task_settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.training.seed)
        model = RecurrentModel(len(own.vocabulary.tokens), settings.width, settings.cell, settings.dropout)
        if checkpoints.exists(folder):
            return Toy(model, own, _load(folder, model, settings), from_cache=True)
        checkpoints.writable(folder.parent)
        trained = train(model, Trials(own), settings.training, label=settings.name, progress=progress)
    config = {"settings": settings.model_dump(mode="json"), "trained": asdict(trained)}
    checkpoints.save(folder, KIND, config, model.state_dict())
    return Toy(model, own, trained, from_cache=False)


def _load(folder: Path, model: RecurrentModel, settings: ToySettings) -> Trained:
    config, tensors = checkpoints.load(folder, KIND)
    if config["settings"] != settings.model_dump(mode="json"):
        raise CheckpointError(folder, "holds a model of other settings", "delete it, and it is trained again")
    if {name: tensor.shape for name, tensor in tensors.items()} != {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }:
        raise CheckpointError(folder, "holds other tensors than its settings ask for", "delete it to train it again")
    model.load_state_dict(tensors)
    model.eval()
    return Trained(**config["trained"])
