"""Recurrent and transformer toys, trained on the tasks and kept in a cache."""

from mas_hooks.models.toys.recurrent import RecurrentModel
from mas_hooks.models.toys.toy_cache import (
    MODELS,
    Architecture,
    Toy,
    ToyModel,
    ToySettings,
    cache_folder,
    load_toy,
    untrained_toy,
)
from mas_hooks.models.toys.train import TrainSettings
from mas_hooks.models.toys.transformer import TransformerModel

__all__ = [
    "MODELS",
    "Architecture",
    "RecurrentModel",
    "Toy",
    "ToyModel",
    "ToySettings",
    "TrainSettings",
    "TransformerModel",
    "cache_folder",
    "load_toy",
    "untrained_toy",
]
