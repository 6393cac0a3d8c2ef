"""TransformerLens bridges: a bridge wraps the modules of a Hugging Face model in place, so that model is what runs."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from mas_hooks.errors import UnsupportedError

CENTRED_SITES = ("embed", "hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out")


def is_bridge(model: object) -> bool:
    """Whether this is a TransformerBridge; transformer_lens is not imported to tell."""
    home = sys.modules.get("transformer_lens.model_bridge.transformer_bridge")
    return home is not None and isinstance(model, home.TransformerBridge)


def is_component(module: object) -> bool:
    """Whether a module has been taken over by a bridge."""
    home = sys.modules.get("transformer_lens.model_bridge.generalized_components.base")
    return home is not None and isinstance(module, home.GeneralizedComponent)


def inner(bridge: Any) -> nn.Module:
    """The model that a bridge runs: it gives the bridge's own logits, compatibility mode included."""
    return bridge.original_model


def native_names(bridge: Any) -> dict[str, nn.Module]:
    """TransformerLens' own hook names, each an identity module that is hooked as any other."""
    return dict(bridge.hook_dict)


def basis(bridge: Any, name: str) -> str:
    """In which basis a site's vectors are: `raw` as the model was trained, `centred` or `folded` by compatibility mode.

    For LayerNorm models the bridge subtracts the mean from everything that is written to the residual stream; it moves
    the value biases behind the heads for all models.
    """
    if not getattr(bridge, "_weights_processed", False):
        return "raw"
    if name.partition("[")[0].endswith("hook_z"):
        return "folded"
    layer_norm = str(bridge.cfg.normalization_type).startswith("LN")
    return "centred" if layer_norm and name.endswith(CENTRED_SITES) else "raw"


def check_order(core: nn.Module, *, through_bridge: bool, through_peft: bool, name: str) -> None:
    """Raise UnsupportedError where bridge, PEFT and wrap came in an order in which names or adapters are lost."""
    if through_bridge or not any(is_component(module) for module in core.modules()):
        return
    if through_peft:
        raise UnsupportedError(
            f"{name}: PEFT added after a TransformerLens bridge", "add PEFT first, then build the bridge, then wrap it"
        )
    raise UnsupportedError(
        f"{name}: a Hugging Face model that a TransformerLens bridge has taken over", "wrap the bridge instead"
    )
