"""nnsight models: an envoy around a torch module, which is what runs and gets the hooks."""

from __future__ import annotations

import sys
from typing import Any

from mas_hooks.core.errors import UnsupportedError


def is_envoy(model: object) -> bool:
    """Whether this is an nnsight model or a part of one; nnsight is not imported to find out."""
    home = sys.modules.get("nnsight.intervention.envoy")
    return home is not None and isinstance(model, home.Envoy)


def without_envoy(model: Any) -> Any:
    """The torch module of an nnsight model; anything else as it is.

    Raises UnsupportedError when nnsight has not loaded its weights yet: loading puts another module in place.
    """
    if not is_envoy(model):
        return model
    if vars(model).get("dispatched") is False:
        what = f"wrapping the nnsight model of {type(model._module).__name__} before its weights are loaded"
        raise UnsupportedError(what, "call .dispatch() on it first, or make it with dispatch=True")
    return model._module


def tokenizer_of_envoy(model: Any) -> Any:
    """The tokenizer that an nnsight model holds, or None."""
    return vars(model).get("tokenizer") if is_envoy(model) else None
