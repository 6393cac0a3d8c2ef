"""Compare neural networks by cause: Model Alignment Search on the hooks of your own models.

Wrap each model, name a site in each, and learn one map per model into a shared space such that swapping the aligned
subspace between models moves their behaviour with it. How often it does is the interchange intervention accuracy (IIA).

Example:
    >>> import mas_hooks as mh
    >>> from mas_hooks.models.toys.recurrent import RecurrentModel
    >>> count = mh.task("multi_object", max_quantity=4)
    >>> a, b = (mh.wrap(RecurrentModel(len(count.vocabulary), width).eval(), name=f"gru-{width}") for width in (12, 8))
    >>> train, valid, test = mh.task_pairs([count, count], ["count", "count"], (32, 16, 16))
    >>> align = mh.Alignment([a.at("state"), b.at("state")], rank=4)
    >>> fit = mh.fit(align, mh.methods.mas(), train, valid, mh.FitSettings(epochs=1), progress=False)
    >>> [(row.source_model, row.target_model) for row in mh.evaluate(align, test).rows]
    [('gru-12', 'gru-12'), ('gru-8', 'gru-12'), ('gru-12', 'gru-8'), ('gru-8', 'gru-8')]
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from mas_hooks.core.moved import MovedModules, new_place

if TYPE_CHECKING:
    from mas_hooks import similarity as similarity
    from mas_hooks.alignment import methods as methods
    from mas_hooks.alignment.alignment import Alignment as Alignment
    from mas_hooks.alignment.interchange import interchange as interchange
    from mas_hooks.alignment.maps import MapSpec as MapSpec
    from mas_hooks.alignment.plan import Plan as Plan
    from mas_hooks.core.records import Record as Record
    from mas_hooks.core.sites import Where as Where
    from mas_hooks.core.sites import recording as recording
    from mas_hooks.data import counterfactual_latents as latents
    from mas_hooks.data import positions as positions
    from mas_hooks.data.pairs import Pairs as Pairs
    from mas_hooks.data.task_pairs import task_pairs as task_pairs
    from mas_hooks.data.tasks import task as task
    from mas_hooks.data.text_pairs import text_pairs as text_pairs
    from mas_hooks.engine.store.collect import collect as collect
    from mas_hooks.engine.store.store import ActivationStore as ActivationStore
    from mas_hooks.evaluation.evaluate import evaluate as evaluate
    from mas_hooks.hooks.taps import Edit as Edit
    from mas_hooks.hooks.wrap import wrap as wrap
    from mas_hooks.similarity.layers.compare import cka_layers as cka_layers
    from mas_hooks.similarity.layers.compare import compare_layers as compare_layers
    from mas_hooks.training import controls as controls
    from mas_hooks.training.fit import fit as fit
    from mas_hooks.training.settings import FitSettings as FitSettings

_FACE = {
    "ActivationStore": "engine.store.store",
    "Alignment": "alignment.alignment",
    "Edit": "hooks.taps",
    "FitSettings": "training.settings",
    "MapSpec": "alignment.maps",
    "Pairs": "data.pairs",
    "Plan": "alignment.plan",
    "Record": "core.records",
    "Where": "core.sites",
    "cka_layers": "similarity.layers.compare",
    "collect": "engine.store.collect",
    "compare_layers": "similarity.layers.compare",
    "controls": "training.controls",
    "evaluate": "evaluation.evaluate",
    "fit": "training.fit",
    "interchange": "alignment.interchange",
    "latents": "data.counterfactual_latents",
    "methods": "alignment.methods",
    "positions": "data.positions",
    "recording": "core.sites",
    "similarity": "similarity",
    "task": "data.tasks",
    "task_pairs": "data.task_pairs",
    "text_pairs": "data.text_pairs",
    "wrap": "hooks.wrap",
}
"""Where each public name lives: loaded at its first use, so that `import mas_hooks` alone loads no torch."""

_MODULES = {"controls", "latents", "methods", "positions", "similarity"}

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
    "compare_layers",
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
sys.meta_path.append(MovedModules())


def __getattr__(name: str) -> Any:
    """Load a public name at its first use (PEP 562)."""
    if name in _FACE:
        module = importlib.import_module(f"{__name__}.{_FACE[name]}")
        value = module if name in _MODULES else getattr(module, name)
        globals()[name] = value
        return value
    if name == "__version__":
        from importlib.metadata import version

        return version("mas-hooks")
    moved = new_place(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}" + (f"; {moved}" if moved else ""))


def __dir__() -> list[str]:
    """The names that are loaded, and the public ones that are not yet."""
    return sorted([*globals(), *_FACE])
