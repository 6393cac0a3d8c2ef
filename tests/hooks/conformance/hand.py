"""A whole language model of any family written out by hand: embedding, positions, blocks, final norm, head.

The reference that the hooks are held against: it shares no line with the package or with a model's own forward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from hooks.conformance.hand_attention import Context, gemma_norm, linear, rms_norm
from hooks.conformance.hand_blocks import Fn, Norm, base, gelu, hand_block, layer_norm
from torch import Tensor

Key: TypeAlias = tuple[int | None, str]  # (layer, name), or (None, "embed")
EMBED: Key = (None, "embed")


@dataclass(frozen=True)
class Run:
    """What one forward by hand gave: logits (batch, position, vocabulary) and every named activation."""

    logits: Tensor
    cache: dict[Key, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Frame:
    """One row of the table: what lies below and above the blocks of a family. Paths are relative to the model."""

    blocks: str
    norm: str
    kind: Norm = layer_norm
    stem: Callable[[Any, Tensor, Tensor], Tensor] = lambda model, embed, positions: embed


def _gpt2_stem(model: Any, embed: Tensor, positions: Tensor) -> Tensor:
    return embed + model.transformer.wpe.weight[positions]


def _opt_stem(model: Any, embed: Tensor, positions: Tensor) -> Tensor:
    decoder = model.model.decoder  # its table of positions begins with two rows that are not positions
    wide = embed if decoder.project_in is None else linear(decoder.project_in, embed)
    return wide + decoder.embed_positions.weight[positions + 2]


def _bloom_stem(model: Any, embed: Tensor, positions: Tensor) -> Tensor:
    return layer_norm(model.transformer.word_embeddings_layernorm, embed)


def _bert_stem(model: Any, embed: Tensor, positions: Tensor) -> Tensor:
    tables = model.bert.embeddings
    summed = embed + tables.token_type_embeddings.weight[0] + tables.position_embeddings.weight[positions]
    return layer_norm(tables.LayerNorm, summed)


LLAMA = Frame("model.layers", "model.norm", rms_norm)
GEMMA = Frame("model.layers", "model.norm", gemma_norm)
GPT = Frame("transformer.h", "transformer.ln_f")
LEARNED = replace(GPT, stem=_gpt2_stem)

FRAMES: dict[str, Frame] = {
    "llama": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "mistral": LLAMA,
    "mixtral": LLAMA,
    "gemma2": GEMMA,
    "gemma3": GEMMA,
    "phi": Frame("model.layers", "model.final_layernorm"),
    "gpt2": LEARNED,
    "gptj": GPT,
    "gpt_neo": LEARNED,
    "gpt_neox": Frame("gpt_neox.layers", "gpt_neox.final_layer_norm"),
    "opt": Frame("model.decoder.layers", "model.decoder.final_layer_norm", stem=_opt_stem),
    "bloom": replace(GPT, stem=_bloom_stem),
    "falcon": GPT,
    "bert": Frame("bert.encoder.layer", "", stem=_bert_stem),
}


def positions_of(mask: Tensor) -> Tensor:
    """Model positions that skip left padding; padding itself stands at 0."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


def _head(family: str, model: Any, hidden: Tensor) -> Tensor:
    """Logits from the last block's output."""
    row = FRAMES[base(family)]
    if base(family) == "bert":
        transform = model.cls.predictions.transform
        hidden = layer_norm(transform.LayerNorm, gelu(linear(transform.dense, hidden)))
    elif family == "opt-post":  # its last block ends in a norm
        hidden = linear(model.model.decoder.project_out, hidden)
    else:
        hidden = row.kind(model.get_submodule(row.norm), hidden)
    logits = linear(model.get_output_embeddings(), hidden)
    cap = getattr(model.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def hand_run(
    family: str, model: Any, ids: Tensor, attention_mask: Tensor | None = None, edits: Mapping[Key, Fn] | None = None
) -> Run:
    """Logits and named activations of a whole forward; edits: (layer, name) or EMBED -> fn of that activation.

    ids (batch, position); attention_mask the same shape, 0 on padding. `model` is read, never called.
    """
    edits, row = edits or {}, FRAMES[base(family)]
    mask = torch.ones_like(ids) if attention_mask is None else attention_mask
    positions = positions_of(mask)
    embed = model.get_input_embeddings().weight[ids]
    if base(family) in ("gemma2", "gemma3"):
        embed = embed * math.sqrt(model.config.hidden_size)
    embed = edits[EMBED](embed) if EMBED in edits else embed
    cache: dict[Key, Tensor] = {EMBED: embed}
    hidden = row.stem(model, embed, positions)
    for layer, block in enumerate(model.get_submodule(row.blocks)):
        context = Context(model.config, mask.bool(), positions, layer)
        here = {name: fn for (at, name), fn in edits.items() if at == layer}
        seen = hand_block(family, block, hidden, context, here)
        cache |= {(layer, name): value for name, value in seen.items()}
        hidden = seen["resid_post"]
    return Run(_head(family, model, hidden), cache)


def hand_model(
    family: str, model: Any, ids: Tensor, attention_mask: Tensor | None = None, edits: Mapping[Key, Fn] | None = None
) -> Tensor:
    """The logits of `hand_run`."""
    return hand_run(family, model, ids, attention_mask, edits).logits
