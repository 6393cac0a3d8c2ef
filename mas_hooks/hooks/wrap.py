"""`wrap`: finds the module to run and hook in whatever the user has, and checks that hooks work on it."""

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

    Args:
        model: A Hugging Face model (with or without PEFT adapters), a TransformerLens `TransformerBridge`, an nnsight
            model, the folder of a saved Hugging Face model, or any nn.Module that takes (batch, position) inputs.
        tokenizer: For `encode` and matched text; a folder brings its own.
        logits: Picks the logits (batch, position, vocabulary) out of the output; by default `.logits`, else the only
            tensor.
        layer_path: The dotted path to the list of blocks of a model whose family is not known; their inputs and
            outputs are then `blocks.{i}.hook_resid_pre` and `blocks.{i}.hook_resid_post`.
        name: What tables and errors call the model; by default its class, or its folder.

    Returns:
        The handle through which the model is read and edited. It warns (TrainModeWarning) when the model is in train
        mode and drops units at random.

    Raises:
        UnsupportedError: Hooks would not work on this model, as where it was compiled or quantized.
        CheckpointError: The folder holds no model that can be loaded.
        MissingPackageError: The folder holds an adapter, and PEFT is not installed.
        SettingError: The tokenizer has more tokens than the model.
        UnknownNameError: The model has no module at `layer_path`.

    Example:
        >>> import mas_hooks as mh
        >>> from torch import nn
        >>> model = mh.wrap(nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5)), name="toy")
        >>> model.hook_points()
        ['embed', '0', '1']
    """
    if isinstance(model, str | Path):
        folder = Path(model)
        model, name = loading.load_folder(folder), name or folder.resolve().name
        tokenizer = loading.tokenizer_of(folder) if tokenizer is None else tokenizer
    bridge, outer, core = _find_core(model)
    name = name or type(core).__name__
    through_peft = core is not outer and bridge is None
    transformer_lens.check_wrapping_order(core, through_bridge=bridge is not None, through_peft=through_peft, name=name)
    checks.check_model(core, name)
    if tokenizer is None:
        tokenizer = nnsight.tokenizer_of_envoy(model) or getattr(bridge, "tokenizer", None)
    if tokenizer is not None:
        huggingface.check_tokenizer(core, tokenizer, name)
    family = huggingface.find_family(core)
    if family is not None and layer_path is not None:
        known = layer_path == names.blocks_path(core, family)
        family, layer_path = (family, None) if known else (None, layer_path)
    native = _native_modules(bridge, outer, core)
    hooked = HookedModel(core, name, logits, layer_path, tokenizer, family, bridge, native)
    hooked.hook_points()  # a wrong layer_path raises now, not at the first run
    warn_in_train_mode(hooked)
    return hooked


def warn_in_train_mode(model: HookedModel) -> None:
    """Warn (TrainModeWarning) when a model is in train mode and drops units at random."""
    dropping = _find_dropout(model.module)
    if dropping is not None:
        warnings.warn(
            f"{model.name} is in train mode and its {dropping} drops units at random; call .eval() on it first.",
            TrainModeWarning,
            stacklevel=3,
        )


def _find_core(model: Any) -> tuple[Any, Any, nn.Module]:
    """The bridge where there is one, what is inside nnsight's envoy, and the module that runs."""
    outer = nnsight.without_envoy(model)
    bridge = outer if transformer_lens.is_bridge(outer) else None
    core = huggingface.without_peft(outer if bridge is None else transformer_lens.inner_module(bridge))
    if not isinstance(core, nn.Module):
        raise UnsupportedError(f"wrapping {outputs.describe_output(model)}", "pass a torch.nn.Module or a model folder")
    return bridge, outer, core


def _native_modules(bridge: Any, outer: Any, core: nn.Module) -> dict[str, nn.Module]:
    """The names that the wrapped object itself has for modules of the core."""
    if bridge is not None:
        return transformer_lens.bridge_names(bridge)
    return {} if outer is core else dict(outer.named_modules())


def _find_dropout(module: nn.Module) -> str | None:
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
