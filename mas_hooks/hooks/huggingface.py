"""Hugging Face models: what is recognised without importing transformers, how they are called and checked."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor, nn

from mas_hooks.core.errors import SettingError, UnsupportedError
from mas_hooks.core.inputs import Inputs
from mas_hooks.hooks.families import FAMILIES, Family


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


def find_family(module: nn.Module) -> Family | None:
    """The row of the table that a model belongs to."""
    return FAMILIES.get(module.config.model_type) if is_pretrained(module) else None  # pyright: ignore


def prepare_inputs(inputs: Inputs) -> dict[str, Tensor]:
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
