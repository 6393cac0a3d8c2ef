"""Patched forwards: cached activations, runners that start at the patched site, scores, and activation stores."""

from mas_hooks.engine.batch import LabelledLogits
from mas_hooks.engine.cache import ActivationCache, SharedActivations, freeze_models, gather_site, share_activations
from mas_hooks.engine.runner import choose_runner
from mas_hooks.engine.scores import Score, score_trials
from mas_hooks.engine.store.collect import collect
from mas_hooks.engine.store.store import ActivationStore
from mas_hooks.engine.tails.decoder import find_tail_start

__all__ = [
    "ActivationCache",
    "ActivationStore",
    "LabelledLogits",
    "Score",
    "SharedActivations",
    "choose_runner",
    "collect",
    "find_tail_start",
    "freeze_models",
    "gather_site",
    "score_trials",
    "share_activations",
]
