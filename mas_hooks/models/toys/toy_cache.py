"""Toy models trained on a task: from the user's cache folder, or trained now and kept there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from platformdirs import user_cache_path
from pydantic import Field

from mas_hooks.core import checkpoints
from mas_hooks.core.errors import CheckpointError
from mas_hooks.core.settings import Settings
from mas_hooks.data.tasks import VARIANTS, AbstractTask, Trials, task
from mas_hooks.models.toys.recurrent import RecurrentCell, RecurrentModel
from mas_hooks.models.toys.train import TrainingResult, TrainSettings, train_toy
from mas_hooks.models.toys.transformer import TransformerModel

KIND = "mas_hooks.toy"

Architecture = Literal[RecurrentCell, "transformer"]
ToyModel = RecurrentModel | TransformerModel


@dataclass(frozen=True)
class ToyKind:
    """What a kind of model is made by, called (vocabulary, width, dropout=…), and what it brings when trained.

    voids: the share of void tokens in its training trials of numeric tasks. layer_path: where its blocks are, for
    `wrap`; None for a recurrent model, whose site is `state`.
    """

    make: Callable[..., ToyModel]
    dropout: float
    voids: float = 0.0
    layer_path: str | None = None


MODELS: dict[Architecture, ToyKind] = {
    "gru": ToyKind(partial(RecurrentModel, cell="gru"), dropout=0.5),
    "lstm": ToyKind(partial(RecurrentModel, cell="lstm"), dropout=0.5),
    "transformer": ToyKind(TransformerModel, dropout=0.1, voids=0.2, layer_path="blocks"),
}


class ToySettings(Settings):
    """A toy model and how it is trained; equal settings are the same model.

    task, task_settings: name and keywords of `mas_hooks.tasks.task`. cell, width: of the model. dropout: None is 0.5
    for recurrent models and 0.1 for the transformer. training: the schedule; its seed also draws the first weights.
    Transformers train on numeric tasks with void tokens, 0.2 unless task_settings has another `void_probability`.
    """

    task: str = "multi_object"
    task_settings: Mapping[str, int | float | tuple[int, ...]] = Field(default_factory=dict)
    cell: Architecture = "gru"
    width: int = 48
    dropout: float | None = None
    training: TrainSettings = TrainSettings()

    @property
    def name(self) -> str:
        """A short name for tables: the cell and the seed."""
        return f"{self.cell}-{self.training.seed}"

    def with_defaults(self) -> ToySettings:
        """These settings with all that the kind of model decides: what is trained, and what the cache tells apart."""
        row, own = MODELS[self.cell], dict(self.task_settings)
        if row.voids and self.task in VARIANTS:
            own.setdefault("void_probability", row.voids)
        dropout = row.dropout if self.dropout is None else self.dropout
        return self.model_copy(update={"dropout": dropout, "task_settings": own})

    @property
    def key(self) -> str:
        """What the cache folder of this model is called."""
        told = json.dumps(_settings_dict(self), sort_keys=True).encode()
        return f"{self.task}-{self.cell}{self.width}-seed{self.training.seed}-{hashlib.sha256(told).hexdigest()[:12]}"


@dataclass(frozen=True, eq=False)
class Toy:
    """A trained toy in eval mode, the task it knows, and how its training ended.

    layer_path: for `wrap(toy.model, layer_path=toy.layer_path)`, which gives a transformer its `blocks.{i}` names.
    """

    model: ToyModel
    task: AbstractTask[Any]
    trained: TrainingResult
    from_cache: bool
    layer_path: str | None


def cache_folder() -> Path:
    """Where trained toys are kept: $MAS_HOOKS_CACHE, or this user's cache folder."""
    named = os.environ.get("MAS_HOOKS_CACHE")
    return Path(named) if named else user_cache_path("mas_hooks", appauthor=False)


def load_toy(settings: ToySettings, cache: Path | None = None, *, progress: bool = True) -> Toy:
    """The toy of these settings. Trains it (under its own random seed) if the cache does not hold it.

    Raises CheckpointError for a cache entry that is damaged or foreign.
    """
    folder = (cache or cache_folder()) / "toys" / settings.key
    own, path = task(settings.task, **settings.task_settings), MODELS[settings.cell].layer_path
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.training.seed)
        model = untrained_toy(settings)
        if checkpoints.checkpoint_exists(folder):
            return Toy(model, own, _load(folder, model, settings), from_cache=True, layer_path=path)
        checkpoints.ensure_writable(folder.parent)
        seen = Trials(task(settings.task, **settings.with_defaults().task_settings))
        trained = train_toy(model, seen, settings.training, label=settings.name, progress=progress)
    checkpoints.save_checkpoint(
        folder, KIND, {"settings": _settings_dict(settings), "trained": asdict(trained)}, model.state_dict()
    )
    return Toy(model, own, trained, from_cache=False, layer_path=path)


def untrained_toy(settings: ToySettings) -> ToyModel:
    """The untrained model of these settings, its weights drawn from torch's global random state."""
    vocabulary = task(settings.task, **settings.task_settings).vocabulary
    return MODELS[settings.cell].make(len(vocabulary), settings.width, dropout=settings.with_defaults().dropout)


def _settings_dict(settings: ToySettings) -> dict[str, Any]:
    return settings.with_defaults().model_dump(mode="json")


def _load(folder: Path, model: ToyModel, settings: ToySettings) -> TrainingResult:
    config, tensors = checkpoints.load_checkpoint(folder, KIND)
    if config["settings"] != _settings_dict(settings):
        raise CheckpointError(folder, "holds a model of other settings", "delete it, and it is trained again")
    if {name: tensor.shape for name, tensor in tensors.items()} != {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }:
        raise CheckpointError(folder, "holds other tensors than its settings ask for", "delete it to train it again")
    model.load_state_dict(tensors)
    model.eval()
    return TrainingResult(**config["trained"])
