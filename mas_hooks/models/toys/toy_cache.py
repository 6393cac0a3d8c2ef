"""Toy models trained on a task: from the user's cache folder, or trained now and kept there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from mas_hooks.core.settings import Settings
from mas_hooks.data.tasks import VARIANTS, AbstractTask, Trials, task
from mas_hooks.models.model_cache import cache_folder, load_or_train
from mas_hooks.models.toys.recurrent import RecurrentCell, RecurrentModel
from mas_hooks.models.toys.train import TrainingResult, TrainSettings, train_toy
from mas_hooks.models.toys.transformer import TransformerModel

KIND = "mas_hooks.toy"

Architecture = Literal[RecurrentCell, "transformer"]
ToyModel = RecurrentModel | TransformerModel


@dataclass(frozen=True)
class ToyKind:
    """One kind of toy model, and what it brings along when it is trained.

    Attributes:
        make: Makes the model; called as (vocabulary, width, dropout=…).
        dropout: Its usual dropout.
        voids: Share of void tokens in its training trials of numeric tasks.
        layer_path: Where its blocks are, for `wrap`; None for a recurrent model, whose site is `state`.
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

    Transformers train on numeric tasks with void tokens, 0.2 unless `task_settings` has another `void_probability`.

    Attributes:
        task: Name of the task, as for `mas_hooks.task`.
        task_settings: Keywords of the task.
        cell: The kind of model.
        width: Units of its state, or of its residual stream.
        dropout: None is 0.5 for recurrent models and 0.1 for the transformer.
        training: The schedule; its seed also draws the first weights.

    Example:
        >>> from mas_hooks.models.toys import ToySettings
        >>> settings = ToySettings(task="multi_object", cell="transformer", width=16)
        >>> settings.name
        'transformer-0'
        >>> settings.with_defaults().dropout, settings.with_defaults().task_settings
        (0.1, {'void_probability': 0.2})
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
        """These settings with all that the kind of model decides: what is trained, and what the cache is keyed by."""
        kind, keywords = MODELS[self.cell], dict(self.task_settings)
        if kind.voids and self.task in VARIANTS:
            keywords.setdefault("void_probability", kind.voids)
        dropout = kind.dropout if self.dropout is None else self.dropout
        return self.model_copy(update={"dropout": dropout, "task_settings": keywords})

    @property
    def key(self) -> str:
        """The name of this model's folder in the cache."""
        described = json.dumps(_describe_settings(self), sort_keys=True).encode()
        digest = hashlib.sha256(described).hexdigest()[:12]
        return f"{self.task}-{self.cell}{self.width}-seed{self.training.seed}-{digest}"


@dataclass(frozen=True, eq=False)
class Toy:
    """A trained toy in eval mode.

    Attributes:
        model: The model.
        task: The task it was trained on.
        trained: How its training ended.
        from_cache: Whether it was in the cache already.
        layer_path: For `wrap(toy.model, layer_path=toy.layer_path)`, which gives a transformer its `blocks.{i}` names.

    Example:
        >>> from mas_hooks.models.toys import ToySettings, TrainSettings, load_toy
        >>> from tempfile import TemporaryDirectory
        >>> import mas_hooks as mh
        >>> training = TrainSettings(batch_size=4, max_steps=1, full_check=20)
        >>> settings = ToySettings(width=8, cell="transformer", training=training)
        >>> with TemporaryDirectory() as folder:
        ...     toy = load_toy(settings, folder, progress=False)
        >>> mh.wrap(toy.model, layer_path=toy.layer_path).at("blocks.0.hook_resid_post").width
        8
    """

    model: ToyModel
    task: AbstractTask[Any]
    trained: TrainingResult
    from_cache: bool
    layer_path: str | None


def load_toy(settings: ToySettings, cache: Path | str | None = None, *, progress: bool = True) -> Toy:
    """The toy of these settings; trained now, under its own random seed, if the cache does not hold it.

    Args:
        settings: The task, the model and its training.
        cache: Where trained models are kept; default `cache_folder()`.
        progress: Whether training shows a bar.

    Returns:
        The toy in eval mode, with its task.

    Raises:
        CheckpointError: The entry in the cache is damaged or foreign.
        OutputFolderError: The cache cannot be written to.
        DivergedError: The loss of its training is not finite.

    Example:
        >>> from mas_hooks.models.toys import ToySettings, TrainSettings, load_toy
        >>> from tempfile import TemporaryDirectory
        >>> settings = ToySettings(width=8, training=TrainSettings(batch_size=4, max_steps=2, full_check=20))
        >>> with TemporaryDirectory() as folder:
        ...     first, again = [load_toy(settings, folder, progress=False) for _ in range(2)]
        >>> first.from_cache, again.from_cache, first.trained == again.trained
        (False, True, True)
    """
    folder = (cache_folder() if cache is None else Path(cache)) / "toys" / settings.key
    known = task(settings.task, **settings.task_settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.training.seed)
        model = untrained_toy(settings)

        def train() -> dict[str, Any]:
            trials = Trials(task(settings.task, **settings.with_defaults().task_settings))
            ended = train_toy(model, trials, settings.training, label=settings.name, progress=progress)
            return {"trained": asdict(ended)}

        results, from_cache = load_or_train(folder, KIND, _describe_settings(settings), model, train)
    return Toy(model, known, TrainingResult(**results["trained"]), from_cache, MODELS[settings.cell].layer_path)


def untrained_toy(settings: ToySettings) -> ToyModel:
    """The untrained model of these settings, its weights drawn from torch's global random state.

    Example:
        >>> from mas_hooks.models.toys import ToySettings, untrained_toy
        >>> type(untrained_toy(ToySettings(cell="lstm", width=8))).__name__
        'RecurrentModel'
    """
    vocabulary = task(settings.task, **settings.task_settings).vocabulary
    return MODELS[settings.cell].make(len(vocabulary), settings.width, dropout=settings.with_defaults().dropout)


def _describe_settings(settings: ToySettings) -> dict[str, Any]:
    return settings.with_defaults().model_dump(mode="json")
