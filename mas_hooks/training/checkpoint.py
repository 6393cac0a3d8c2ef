"""Where an interrupted fit left off: maps, optimiser, best checkpoint and curve, in one folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mas_hooks.core import checkpoints
from mas_hooks.core.errors import CheckpointError
from mas_hooks.core.records import Record
from mas_hooks.core.settings import check_same_settings

KIND = "mas_hooks.fit"


@dataclass
class FitState:
    """What changes during a fit. Batches are a function of the step, so no random state needs keeping.

    waited: validations since the last gain. best: the maps of the first validation with the highest worst-direction
    IIA, or with the lowest loss where that chooses (best_iia is then minus that loss). mark: best_iia when it last rose
    by a gain.
    """

    step: int = 0
    best_step: int = 0
    best_iia: float = -math.inf
    mark: float = -math.inf
    waited: int = 0
    seconds: float = 0.0
    stopped: str | None = None
    curve: list[Record] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    def save(
        self, folder: Path, settings: Mapping[str, Any], maps: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        """Write everything that is needed to go on; whole or not at all.

        Args:
            folder: where to write.
            settings: what must be the same when the fit goes on.
            maps: the alignment.
            optimizer: of its parameters.

        Raises:
            OutputFolderError: the folder cannot be written.
        """
        curve = [{key: value for key, value in asdict(row).items() if value is not None} for row in self.curve]
        tensors = {f"maps.{name}": tensor for name, tensor in maps.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        checkpoints.save_checkpoint(
            folder, KIND, {"settings": settings, "state": _json_fields(self), "curve": curve}, tensors
        )

    @classmethod
    def load(
        cls, folder: Path, settings: Mapping[str, Any], maps: nn.Module, optimizer: torch.optim.Optimizer
    ) -> FitState:
        """Read it back into the maps and the optimiser.

        Args:
            folder: what `save` wrote.
            settings: those of the fit that goes on.
            maps: the alignment, of the same sites and plan.
            optimizer: of its parameters.

        Returns:
            The state, with its curve and its best maps.

        Raises:
            CheckpointError: the folder is damaged or foreign, or holds a fit with other settings.
        """
        config, tensors = checkpoints.load_checkpoint(folder, KIND)
        if set(config) != {"settings", "state", "curve"} or set(config["state"]) != set(_json_fields(cls())):
            raise CheckpointError(folder, "holds no whole state of a fit", "start anew in another folder")
        remedy = "repeat the settings of the interrupted fit, or start anew in another folder"
        check_same_settings(config["settings"], settings, folder, remedy, "holds a fit")
        state = cls(**config["state"])
        state.curve = [Record(**row) for row in config["curve"]]
        state.best = _select_prefix("best.", tensors)
        maps.load_state_dict(_select_prefix("maps.", tensors))
        moments = optimizer.state_dict()
        for name, value in _select_prefix("optimizer.", tensors).items():
            index, _, key = name.partition(".")
            moments["state"].setdefault(int(index), {})[key] = value
        optimizer.load_state_dict(moments)
        return state


def _json_fields(state: FitState) -> dict[str, Any]:
    return {key: value for key, value in vars(state).items() if key not in ("curve", "best")}


def _select_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
