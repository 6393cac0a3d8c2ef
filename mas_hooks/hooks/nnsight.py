"""nnsight models: an envoy around a torch module, which is what runs and gets the hooks."""

from __future__ import annotations

import sys
from typing import Any


def without_envoy(model: Any) -> Any:
    """The torch module of an nnsight model; anything else as it is. nnsight is not imported to tell."""
    home = sys.modules.get("nnsight.intervention.envoy")
    if home is None or not isinstance(model, home.Envoy):
        return model
    return model._module
