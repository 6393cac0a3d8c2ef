"""One tiny random-weight model per family, built from its config: nothing is downloaded.

Weights are large and every bias and norm weight is off its neutral value, so that an edit shows in the logits and a
path that goes wrong (a bias added twice, a norm skipped) shows too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

VOCABULARY, HIDDEN, LAYERS, HEADS, KV_HEADS, POSITIONS = 80, 32, 3, 4, 2, 48
WINDOW = 3  # of the sliding variants; shorter than any test sequence
WIDE = 64  # of the others: longer than any test sequence
PAD = 0

SIZES = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": POSITIONS,
}
SPREAD = {"initializer_range": 0.25}
GROUPED = SIZES | SPREAD | {"num_key_value_heads": KV_HEADS, "intermediate_size": 56}
# Heads of 16 units: their concatenation (64) is wider than the residual stream (32).
WIDE_HEADS = GROUPED | {"head_dim": 16}
GEMMA = WIDE_HEADS | {"query_pre_attn_scalar": 10, "attn_logit_softcapping": 4.0, "final_logit_softcapping": 9.0}
PARTIAL = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}}
GPT = {"n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "n_positions": POSITIONS} | SPREAD
NEO = {"num_layers": LAYERS, "num_heads": HEADS, "hidden_size": HIDDEN, "max_position_embeddings": POSITIONS} | SPREAD
NEOX = SIZES | SPREAD | {"intermediate_size": 56} | PARTIAL
OPT = SIZES | {"init_std": 0.25, "ffn_dim": 56}
BLOOM = {"hidden_size": HIDDEN, "n_layer": LAYERS, "n_head": HEADS} | SPREAD
FALCON = SIZES | SPREAD | {"bias": True}
FALCON_NEW = FALCON | {"new_decoder_architecture": True, "num_kv_heads": KV_HEADS}


@dataclass(frozen=True)
class Row:
    """How to build a family: the stem of its class names, the settings of its config, the ending of its model class."""

    stem: str
    settings: dict[str, Any] = field(default_factory=dict)
    head: str = "ForCausalLM"
    config: str = "Config"


ROWS: dict[str, Row] = {
    "llama": Row("Llama", GROUPED | {"attention_bias": True, "mlp_bias": True}),
    "qwen2": Row("Qwen2", GROUPED),
    "qwen2-sliding": Row(
        "Qwen2", GROUPED | {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}
    ),
    "qwen3": Row("Qwen3", WIDE_HEADS),
    "mistral": Row("Mistral", GROUPED | {"sliding_window": None}),
    "mistral-sliding": Row("Mistral", GROUPED | {"sliding_window": WINDOW}),
    "gemma2": Row("Gemma2", GEMMA | {"sliding_window": WIDE}),
    "gemma2-sliding": Row("Gemma2", GEMMA | {"sliding_window": WINDOW}),  # layers 0 and 2 slide
    "gemma3": Row("Gemma3", WIDE_HEADS | {"query_pre_attn_scalar": 10, "sliding_window": WIDE}, config="TextConfig"),
    "gemma3-sliding": Row(
        "Gemma3",
        WIDE_HEADS
        | {"query_pre_attn_scalar": 10, "sliding_window": WINDOW}
        | {"layer_types": ["full_attention", "sliding_attention", "sliding_attention"]},
        config="TextConfig",
    ),
    "phi": Row("Phi", GROUPED | PARTIAL),
    "mixtral": Row("Mixtral", GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "gpt2": Row("GPT2", GPT, head="LMHeadModel"),
    "gptj": Row("GPTJ", GPT | {"rotary_dim": 4}),
    "gpt_neo": Row("GPTNeo", NEO | {"attention_types": [[["global", "local", "global"], 1]], "window_size": WINDOW}),
    "gpt_neox": Row("GPTNeoX", NEOX),
    "gpt_neox-serial": Row("GPTNeoX", NEOX | {"use_parallel_residual": False}),
    "opt": Row("OPT", OPT),
    "opt-post": Row("OPT", OPT | {"do_layer_norm_before": False, "word_embed_proj_dim": 16}),  # the 350m one
    "bloom": Row("Bloom", BLOOM),
    "bloom-post": Row("Bloom", BLOOM | {"apply_residual_connection_post_layernorm": True}),
    "falcon": Row("Falcon", FALCON),
    "falcon-alibi-serial": Row("Falcon", FALCON | {"parallel_attn": False, "alibi": True, "multi_query": False}),
    "falcon-new": Row("Falcon", FALCON_NEW),
    "falcon-new-one-norm": Row("Falcon", FALCON_NEW | {"num_ln_in_parallel_attn": 1}),
    "bert": Row("Bert", SIZES | SPREAD | {"intermediate_size": 56}, head="ForMaskedLM"),
}


def _unsettle(model: PreTrainedModel, generator: torch.Generator) -> None:
    """Move every vector parameter (biases, norm weights) off its neutral value."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)


def build(family: str, seed: int = 0, **settings: Any) -> PreTrainedModel:
    """The tiny model of a family, in eval mode and float32; `settings` go over the config of its row."""
    row = ROWS[family]
    ids = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, row.stem + row.config)(**(ids | row.settings | settings))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, row.stem + row.head)(config)
    _unsettle(model, torch.Generator().manual_seed(seed))
    return model.eval()


TINY: dict[str, Callable[[], PreTrainedModel]] = {family: partial(build, family) for family in ROWS}
