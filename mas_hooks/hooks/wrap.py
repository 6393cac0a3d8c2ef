"""`wrap`: which module of what the user has is run and hooked, and whether it is in a state to be."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mas_hooks.core.errors import TrainModeWarning, UnsupportedError
from mas_hooks.hooks import checks, huggingface, loading, names, nnsight, outputs, transformer_lens
from mas_hooks.hooks.hooked_model import HookedModel


def wrap(
    model: Any,
    *,
    tokenizer: Any = None,
    logits: Callable[[Any], Tensor] | None = None,
    layer_path: str | None = None,
    name: str | None = None,
) -> HookedModel:
    """Give a model hook points, without changing anything about it.

    model: a Hugging Face model (with or without PEFT adapters), a TransformerLens `TransformerBridge`, an nnsight
    model, the folder of a saved Hugging Face model, or any nn.Module that takes (batch, position) inputs.
    tokenizer: for `encode` and matched text; a folder brings its own. logits: picks the logits (batch, position,
    vocabulary) out of the output; default `.logits`, else the only tensor. layer_path: dotted path to the list of
    blocks of a model whose family is not known; they then are `blocks.{i}.hook_resid_pre` and `…post`. name: what
    tables and errors call it.
    """
    if isinstance(model, str | Path):
        folder = Path(model)
        model, name = loading.load_folder(folder), name or folder.resolve().name
        tokenizer = loading.tokenizer_of(folder) if tokenizer is None else tokenizer
    outer = nnsight.without_envoy(model)
    bridge = outer if transformer_lens.is_bridge(outer) else None
    core = huggingface.without_peft(outer if bridge is None else transformer_lens.inner_module(bridge))
    if not isinstance(core, nn.Module):
        raise UnsupportedError(f"wrapping {outputs.describe_output(model)}", "pass a torch.nn.Module or a model folder")
    name = name or type(core).__name__
    transformer_lens.check_order(
        core, through_bridge=bridge is not None, through_peft=core is not outer and bridge is None, name=name
    )
    checks.check_model(core, name)
    if tokenizer is None:
        tokenizer = nnsight.tokenizer_of_envoy(model) or getattr(bridge, "tokenizer", None)
    if tokenizer is not None:
        huggingface.check_tokenizer(core, tokenizer, name)
    family = huggingface.find_family(core)
    if family is not None and layer_path is not None:
        known = layer_path == names.blocks_path(core, family)
        family, layer_path = (family, None) if known else (None, layer_path)
    native = _native(bridge, outer, core)
    made = HookedModel(core, name, logits, layer_path, tokenizer, family, bridge, native)
    made.hook_points()  # a wrong layer_path is told now, not at the first run
    warn_in_train_mode(made)
    return made


def _native(bridge: Any, outer: Any, core: nn.Module) -> dict[str, nn.Module]:
    """The names that the wrapped object itself has for modules of the core."""
    if bridge is not None:
        return transformer_lens.bridge_names(bridge)
    return {} if outer is core else dict(outer.named_modules())


def warn_in_train_mode(model: HookedModel) -> None:
    """Warn (TrainModeWarning) when the model would drop units at random."""
    dropping = _dropping(model.module)
    if dropping is not None:
        warnings.warn(
            f"{model.name} is in train mode and its {dropping} drops units at random; call .eval() on it first.",
            TrainModeWarning,
            stacklevel=3,
        )


def _dropping(module: nn.Module) -> str | None:
    """The type of a module in train mode that has a dropout above zero, or None."""
    for part in module.modules():
        rate = 0.0
        if isinstance(part, nn.modules.dropout._DropoutNd):
            rate = part.p
        elif isinstance(part, nn.MultiheadAttention) or (isinstance(part, nn.RNNBase) and part.num_layers > 1):
            rate = part.dropout
        if part.training and rate > 0:
            return type(part).__name__
    return None
