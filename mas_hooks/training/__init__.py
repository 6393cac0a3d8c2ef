"""Fits of an alignment: the loop, losses, starting frames, checkpoints, and controls that are fits themselves."""

from mas_hooks.training import controls
from mas_hooks.training.controls import ControlName, controls_by_name, reinitialise_models
from mas_hooks.training.fit import Fit, fit
from mas_hooks.training.loop import FitLoop
from mas_hooks.training.losses import behaviour_losses, pair_losses
from mas_hooks.training.settings import FitSettings

__all__ = [
    "ControlName",
    "Fit",
    "FitLoop",
    "FitSettings",
    "behaviour_losses",
    "controls",
    "controls_by_name",
    "fit",
    "pair_losses",
    "reinitialise_models",
]
