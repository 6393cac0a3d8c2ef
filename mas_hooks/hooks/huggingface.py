"""Hugging Face models: what is recognised without importing transformers, how they are called, loaded and checked."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mas_hooks.errors import CheckpointError, MissingPackageError, SettingError, UnsupportedError
from mas_hooks.hooks.families import FAMILIES, Family
from mas_hooks.inputs import Inputs
from mas_hooks.run_folder import read_json


def is_pretrained(module: object) -> bool:
    """Whether this is a transformers model; transformers is not imported to tell."""
    home = sys.modules.get("transformers.modeling_utils")
    return home is not None and isinstance(module, home.PreTrainedModel)


def without_peft(module: Any) -> Any:
    """The transformers model inside a PEFT model, its adapters in place; anything else as it is.

    Raises UnsupportedError for adapters that put virtual tokens before the sequence: they shift every position.
    """
    home = sys.modules.get("peft.peft_model")
    if home is None or not isinstance(module, home.PeftModel):
        return module
    if module.active_peft_config.is_prompt_learning:
        kind = module.active_peft_config.peft_type
        raise UnsupportedError(f"PEFT's {getattr(kind, 'value', kind)}, which shifts positions,", "use LoRA or a kin")
    return module.get_base_model()


def family(module: nn.Module) -> Family | None:
    """The row of the table that a model belongs to."""
    return FAMILIES.get(module.config.model_type) if is_pretrained(module) else None  # pyright: ignore


def prepared(inputs: Inputs) -> dict[str, Tensor]:
    """The inputs as a language model must get them, so that padding on either side changes no number.

    Adds position_ids that skip padding.
    """
    own: dict[str, Tensor] = {"input_ids": inputs} if isinstance(inputs, Tensor) else dict(inputs)
    mask = own.get("attention_mask")
    if mask is not None and mask.ndim == 2:
        own.setdefault("position_ids", (mask.long().cumsum(-1) - 1).clamp(min=0))
    return own


def check_tokenizer(model: Any, tokenizer: Any, name: str) -> None:
    """Raise SettingError for a tokenizer that has ids which the model does not know."""
    known = model.get_input_embeddings().weight.shape[0] if is_pretrained(model) else None
    if not hasattr(tokenizer, "decode"):
        raise SettingError(f"the tokenizer of {name}", type(tokenizer).__name__, "a Hugging Face tokenizer")
    if known is not None and (size := len(tokenizer)) > known:
        got = f"one of {size} tokens"
        raise SettingError(f"the tokenizer of {name}", got, f"the one it was trained with, of at most {known} tokens")


def _config(folder: Path) -> Mapping[str, Any]:
    if not (folder / "config.json").is_file():
        raise CheckpointError(folder, "holds no config.json", "give the folder of a saved Hugging Face model")
    config = read_json(folder / "config.json", "save the model anew with save_pretrained")
    kind = config.get("model_type")
    from transformers import CONFIG_MAPPING

    if kind not in CONFIG_MAPPING:
        if "auto_map" in config:
            raise UnsupportedError(f"running the code in {folder}", "load the model yourself and wrap the object")
        raise CheckpointError(folder, f"is of model type {kind!r}, which transformers does not have", "update it")
    return config


def _model_class(config: Mapping[str, Any]) -> Any:
    """The class that the folder was saved from, or the causal language model of its type."""
    import transformers

    for name in config.get("architectures") or ():
        if isinstance(found := getattr(transformers, name, None), type):
            return found
    return transformers.AutoModelForCausalLM


def skeleton(folder: Path | str) -> nn.Module:
    """The model of a folder without its weights (on the meta device): enough for names and widths."""
    import torch

    folder = Path(folder)
    kind = _model_class(_config(folder))
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        return kind.from_config(config) if hasattr(kind, "from_config") else kind(config)


def load(folder: Path | str, device: str | None = None) -> tuple[nn.Module, Any]:
    """The model of a local folder in eval mode, in its own dtype, and its tokenizer (None where the folder has none).

    Reads safetensors only, runs no code from the folder and asks no hub. Raises CheckpointError or UnsupportedError.
    """
    folder = Path(folder)
    kind = _model_class(_config(folder))
    if not any(folder.glob("*.safetensors")):
        remedy = "save it with save_pretrained (pickled weights can run code and are not read)"
        raise CheckpointError(folder, "holds no safetensors weights", remedy)
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(folder, "is a PEFT adapter", "load it onto its base model and wrap that")
    model = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype="auto").eval()
    return model if device is None else model.to(device), tokenizer_of(folder)


def tokenizer_of(folder: Path) -> Any:
    """The tokenizer that lies in a folder, or None."""
    from transformers import AutoTokenizer

    if not (folder / "tokenizer_config.json").is_file():
        return None
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def need(package: str, extra: str, purpose: str) -> None:
    """Raise MissingPackageError, naming the extra, where an optional package cannot be imported."""
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise MissingPackageError(package, extra, purpose)
