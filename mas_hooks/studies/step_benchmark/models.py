"""The models that llm_step.py runs: random weights in two shapes of Qwen2, or a local folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mas_hooks.core.errors import SettingError

SHAPES: dict[str, dict[str, Any]] = {
    # As in Qwen2-1.5B, a feed-forward of 5.5 to 6 widths and a vocabulary projection of 15% of all matrix weights.
    "qwen2-small": {
        "hidden_size": 256,
        "intermediate_size": 1_408,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "vocab_size": 10_240,
    },
    "qwen2-1.5b": {
        "hidden_size": 1_536,
        "intermediate_size": 8_960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
    },
}


def load_model(name: str, device: torch.device, dtype: torch.dtype, seed: int) -> Any:
    """Load or build a model in eval mode, frozen, on its device.

    Args:
        name: A key of `SHAPES`, which gets random weights, or a folder of a saved model.
        device: Where the model lies.
        dtype: Of its weights.
        seed: Of random weights.

    Returns:
        The transformers model.

    Raises:
        SettingError: The name is neither a shape nor a folder with a config.json.
    """
    from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    if name in SHAPES:
        config = Qwen2Config(**SHAPES[name], tie_word_embeddings=True)
        with device:
            model: Any = Qwen2ForCausalLM._from_config(config, dtype=dtype)
    elif Path(name, "config.json").is_file():
        model = AutoModelForCausalLM.from_pretrained(name, local_files_only=True, use_safetensors=True, dtype=dtype)
    else:
        raise SettingError("--model", name, f"{', '.join(SHAPES)}, or a folder with a config.json")
    return model.to(device).eval().requires_grad_(False)
