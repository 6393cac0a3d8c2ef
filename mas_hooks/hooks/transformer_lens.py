"""TransformerLens bridges. A bridge takes over the modules of a Hugging Face model in place; that model runs."""

from __future__ import annotations

import re
import sys
from typing import Any

from torch import nn

from mas_hooks.core.errors import UnsupportedError

WRAPPED = "._original_component"
"""What a bridge puts into the dotted path of every module that it takes over."""

STREAM = re.compile(r"embed|hook_embed|blocks\.\d+\.hook_(resid_pre|resid_mid|resid_post|attn_out|mlp_out)")
HEADS = re.compile(r"blocks\.\d+\.attn\.hook_z(\[\d+\])?")


def is_bridge(model: object) -> bool:
    """Whether this is a TransformerBridge; transformer_lens is not imported to find out."""
    home = sys.modules.get("transformer_lens.model_bridge.transformer_bridge")
    return home is not None and isinstance(model, home.TransformerBridge)


def is_component(module: object) -> bool:
    """Whether a module has been taken over by a bridge."""
    home = sys.modules.get("transformer_lens.model_bridge.generalized_components.base")
    return home is not None and isinstance(module, home.GeneralizedComponent)


def inner_module(bridge: Any) -> nn.Module:
    """The model that a bridge runs: it gives the bridge's own logits, compatibility mode included."""
    return bridge.original_model


def bridge_names(bridge: Any) -> dict[str, nn.Module]:
    """The names that a bridge has for modules: TransformerLens' hook names first, then the model's own paths.

    Behind a hook name is an identity module, hooked as any other. The paths are those that the modules had before the
    bridge took them over.
    """
    names = dict(bridge.hook_dict)
    for path, module in inner_module(bridge).named_modules():
        names.setdefault(path.replace(WRAPPED, ""), module)
    return names


def bridge_width(bridge: Any, name: str) -> int | None:
    """The width of a site on the residual stream, as TransformerLens' identity modules do not say; None for others."""
    return bridge.cfg.d_model if STREAM.fullmatch(name) else None


def activation_basis(bridge: Any, name: str) -> str:
    """The basis of a site's vectors: `raw` as the model was trained, or as compatibility mode has changed them.

    For LayerNorm models the bridge takes the mean off everything that is written to the residual stream (`centred`);
    for all models it moves the value biases behind the heads (`folded`). Whatever it does elsewhere is `processed`.
    """
    if not getattr(bridge, "_weights_processed", False):
        return "raw"
    if HEADS.fullmatch(name):
        return "folded"
    if not STREAM.fullmatch(name):
        return "processed"
    return "centred" if str(bridge.cfg.normalization_type).startswith("LN") else "raw"


def check_wrapping_order(core: nn.Module, *, through_bridge: bool, through_peft: bool, name: str) -> None:
    """Check that bridge, PEFT and wrap came in an order that loses no names and no adapters.

    Args:
        core: The module that would run.
        through_bridge: Whether the user gave a bridge around it.
        through_peft: Whether the user gave a PEFT model around it.
        name: The name of the model, for errors.

    Raises:
        UnsupportedError: PEFT was added after a bridge, or a model inside a bridge is wrapped.
    """
    if through_bridge or not any(is_component(module) for module in core.modules()):
        return
    if through_peft:
        raise UnsupportedError(
            f"{name}: PEFT added after a TransformerLens bridge", "add PEFT first, then build the bridge, then wrap it"
        )
    raise UnsupportedError(
        f"{name}: a Hugging Face model that a TransformerLens bridge has taken over", "wrap the bridge instead"
    )


def check_later_bridge(core: nn.Module, bridge: object, name: str) -> None:
    """Check that no bridge was built on a model after it was wrapped. Cheap: for every use.

    A bridge takes over the embedding of every model, which is its first module that holds a weight itself.

    Args:
        core: The module that runs.
        bridge: The bridge that was wrapped; None where there was none.
        name: The name of the model, for errors.

    Raises:
        UnsupportedError: A bridge has taken over modules of a model that was wrapped without it.
    """
    if bridge is not None or "transformer_lens.model_bridge" not in sys.modules:
        return
    if any(is_component(module) for module in _first_modules(core)):
        what = f"{name}: a TransformerLens bridge built on the model after it was wrapped"
        raise UnsupportedError(what, "build the bridge first, then wrap it, and take the sites from that handle")


def _first_modules(core: nn.Module) -> list[nn.Module]:
    """The first module of each level down to the first leaf: one look a level, however many blocks there are."""
    chain: list[nn.Module] = []
    module: nn.Module | None = core
    while module is not None:
        chain.append(module)
        module = next(module.children(), None)
    return chain
