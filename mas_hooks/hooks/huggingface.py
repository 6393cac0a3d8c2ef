"""Hugging Face models: how they are recognised (without importing transformers), called and checked."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor, nn

from mas_hooks.core.errors import SettingError, UnsupportedError
from mas_hooks.core.inputs import Inputs
from mas_hooks.hooks.families import FAMILIES, Family


def is_pretrained(module: object) -> bool:
    """Whether this is a transformers model; transformers is not imported to find out."""
    home = sys.modules.get("transformers.modeling_utils")
    return home is not None and isinstance(module, home.PreTrainedModel)


def without_peft(module: Any) -> Any:
    """The transformers model inside a PEFT model, its adapters in place; anything else as it is.

    Raises UnsupportedError when its adapter puts virtual tokens before the sequence, which shifts every position.
    """
    home = sys.modules.get("peft.peft_model")
    if home is None or not isinstance(module, home.PeftModel):
        return module
    if module.active_peft_config.is_prompt_learning:
        kind = module.active_peft_config.peft_type
        what = f"PEFT's {getattr(kind, 'value', kind)}, which shifts positions,"
        raise UnsupportedError(what, "use LoRA, or another adapter that adds no tokens")
    return module.get_base_model()


def find_family(module: nn.Module) -> Family | None:
    """Find the row of `FAMILIES` for a model; None where it has none."""
    return FAMILIES.get(module.config.model_type) if is_pretrained(module) else None  # pyright: ignore


def prepare_inputs(inputs: Inputs) -> dict[str, Tensor]:
    """Turn inputs into keywords of a language model, with position_ids that skip padding.

    Padding on either side then changes no number.
    """
    keywords: dict[str, Tensor] = {"input_ids": inputs} if isinstance(inputs, Tensor) else dict(inputs)
    mask = keywords.get("attention_mask")
    if mask is not None and mask.ndim == 2:
        keywords.setdefault("position_ids", (mask.long().cumsum(-1) - 1).clamp(min=0))
    return keywords


def check_tokenizer(model: Any, tokenizer: Any, name: str) -> None:
    """Check that a model knows all ids of a tokenizer.

    Args:
        model: Any module; of a Hugging Face model the size of the embedding is compared.
        tokenizer: The tokenizer.
        name: The name of the model, for errors.

    Raises:
        SettingError: It is no tokenizer, or has more tokens than the model.
    """
    known = model.get_input_embeddings().weight.shape[0] if is_pretrained(model) else None
    if not hasattr(tokenizer, "decode"):
        raise SettingError(f"the tokenizer of {name}", type(tokenizer).__name__, "a Hugging Face tokenizer")
    if known is not None and (size := len(tokenizer)) > known:
        allowed = f"at most {known}: give the tokenizer that the model was trained with"
        raise SettingError(f"the number of tokens in the tokenizer of {name}", size, allowed)
