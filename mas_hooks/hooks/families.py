"""Families of Hugging Face models as rows of one table: where a block keeps what the canonical names mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def _always(_config: Any) -> bool:
    return True


def _never(_config: Any) -> bool:
    return False


def _neox_serial(config: Any) -> bool:
    return not config.use_parallel_residual


def _falcon_serial(config: Any) -> bool:
    return not (config.parallel_attn or config.new_decoder_architecture)


def _bloom_plain(config: Any) -> bool:
    return not config.apply_residual_connection_post_layernorm


def _opt_pre_norm(config: Any) -> bool:
    return bool(config.do_layer_norm_before)


@dataclass(frozen=True)
class Family:
    """One row of the table. Paths are relative: `blocks` to the base model, the others to a block.

    Attributes:
        blocks: The list of blocks.
        attention: The module whose output the attention adds to the residual stream.
        mlp: The module whose output the MLP adds to it.
        heads: The attention's output projection, whose input is the heads side by side.
        serial: Whether block input + attention output is the stream between the two (`hook_resid_mid`), for a config.
        decoder: Whether the model is causal, with a key-value cache and position_ids, so that a run can start at a
            block.
        flat_mlp: Whether the MLP's module sees (batch · position, width).
        tuples: Whether a block gives a tuple.
    """

    blocks: str
    attention: str
    mlp: str
    heads: str
    serial: Callable[[Any], bool] = _always
    decoder: bool = True
    flat_mlp: bool = False
    tuples: bool = False


_LLAMA = Family("layers", "self_attn", "mlp", "self_attn.o_proj")
_GEMMA = Family("layers", "post_attention_layernorm", "post_feedforward_layernorm", "self_attn.o_proj")

FAMILIES = {
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": _LLAMA,
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "phi": Family("layers", "self_attn", "mlp", "self_attn.dense", serial=_never),
    "gpt2": Family("h", "attn", "mlp", "attn.c_proj"),
    "gptj": Family("h", "attn", "mlp", "attn.out_proj", serial=_never, tuples=True),
    "gpt_neo": Family("h", "attn", "mlp", "attn.attention.out_proj", tuples=True),
    "gpt_neox": Family("layers", "attention", "mlp", "attention.dense", serial=_neox_serial),
    "opt": Family("decoder.layers", "self_attn", "fc2", "self_attn.out_proj", serial=_opt_pre_norm, flat_mlp=True),
    "bloom": Family(
        "h", "self_attention.dense", "mlp.dense_4h_to_h", "self_attention.dense", serial=_bloom_plain, tuples=True
    ),  # its attention and mlp modules add the residual themselves
    "falcon": Family("h", "self_attention", "mlp", "self_attention.dense", serial=_falcon_serial, tuples=True),
    "bert": Family(
        "encoder.layer",
        "attention.output.dense",
        "output.dense",
        "attention.output.dense",
        serial=_never,
        decoder=False,
    ),
}
"""The families, by `config.model_type`."""
