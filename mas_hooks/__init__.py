"""Compare neural networks by cause: Model Alignment Search on the hooks of one's own models."""

from mas_hooks import controls, latents, methods, positions, similarity
from mas_hooks.alignment import Alignment
from mas_hooks.engine.layers import cka_layers
from mas_hooks.engine.rows import ActivationStore
from mas_hooks.engine.store import collect
from mas_hooks.evaluate import evaluate
from mas_hooks.fit import fit
from mas_hooks.fit_loop import FitSettings
from mas_hooks.hooks.taps import Edit
from mas_hooks.hooks.wrap import wrap
from mas_hooks.interventions import interchange
from mas_hooks.maps import MapSpec
from mas_hooks.pairs import Pairs
from mas_hooks.plan import Plan
from mas_hooks.records import Record
from mas_hooks.sites import Where, recording
from mas_hooks.task_pairs import task_pairs
from mas_hooks.tasks import task
from mas_hooks.text_pairs import text_pairs

__all__ = [
    "ActivationStore",
    "Alignment",
    "Edit",
    "FitSettings",
    "MapSpec",
    "Pairs",
    "Plan",
    "Record",
    "Where",
    "cka_layers",
    "collect",
    "controls",
    "evaluate",
    "fit",
    "interchange",
    "latents",
    "methods",
    "positions",
    "recording",
    "similarity",
    "task",
    "task_pairs",
    "text_pairs",
    "wrap",
]
