"""Attention written out: plain matrix products and one softmax, for every position scheme of the families.

Slow and literal on purpose; it reads weights and config values only and never calls a model's own forward. Works in
the dtype of its input, so a float64 copy of a model gives a float64 reference. Shapes: x (batch, position, width),
heads (batch, position, head, unit).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

Heads: TypeAlias = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Context:
    """What a block needs to know of the model and the batch around it.

    mask (batch, position) bool, False on padding; positions (batch, position) int; layer is this block's index.
    """

    config: Any
    mask: Tensor
    positions: Tensor
    layer: int

    @property
    def head_dim(self) -> int:
        """Units of one head."""
        own = getattr(self.config, "head_dim", None)
        return own or self.config.hidden_size // self.config.num_attention_heads

    @property
    def layer_type(self) -> str:
        """`full_attention` or `sliding_attention`."""
        return self.config.layer_types[self.layer]


@dataclass(frozen=True)
class Rope:
    """Rotary positions: base of the frequencies, units turned per head, pairs side by side or half a head apart."""

    theta: float
    units: int
    interleaved: bool = False


@dataclass(frozen=True)
class Attention:
    """One row of the table: how a family makes its heads and how it scores them."""

    qkv: Callable[[Any, Tensor, Context], Heads]
    rope: Callable[[Context], Rope | None] = lambda context: None
    window: Callable[[Context], int | None] = lambda context: None
    scale: Callable[[Context], float] = lambda context: context.head_dim**-0.5
    alibi: Callable[[Context], float] = lambda context: 0.0  # factor of the bias: 0 is none
    softcap: Callable[[Context], float | None] = lambda context: None
    causal: bool = True


def linear(module: Any, x: Tensor) -> Tensor:
    """x W + b, with W as the module stores it: (out, in), or (in, out) in GPT-2's Conv1D."""
    weight = module.weight if type(module).__name__ == "Conv1D" else module.weight.T
    return x @ weight if module.bias is None else x @ weight + module.bias


def rms_norm(module: Any, x: Tensor, shift: float = 0.0) -> Tensor:
    """x over its root mean square, times the weight (Gemma: 1 + weight)."""
    eps = module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * (module.weight + shift)


def gemma_norm(module: Any, x: Tensor) -> Tensor:
    """Gemma's norm, whose weight counts from 1."""
    return rms_norm(module, x, shift=1.0)


def separate(names: str, norm: Callable[[Any, Tensor], Tensor] | None = None) -> Callable[..., Heads]:
    """Three projections; `norm` is applied to each query and key head by the modules q_norm and k_norm."""

    def qkv(module: Any, x: Tensor, context: Context) -> Heads:
        q, k, v = (linear(getattr(module, name), x).unflatten(-1, (-1, context.head_dim)) for name in names.split())
        return (q, k, v) if norm is None else (norm(module.q_norm, q), norm(module.k_norm, k), v)

    return qkv


def stacked(module: Any, x: Tensor, context: Context) -> Heads:
    """One projection: all queries, then all keys, then all values (GPT-2)."""
    q, k, v = linear(module.c_attn, x).unflatten(-1, (3, -1, context.head_dim)).unbind(-3)
    return q, k, v


def per_head(module: Any, x: Tensor, context: Context) -> Heads:
    """One projection: head by head its query, key and value (GPT-NeoX, Bloom)."""
    q, k, v = linear(module.query_key_value, x).unflatten(-1, (-1, 3, context.head_dim)).unbind(-2)
    return q, k, v


def falcon_heads(module: Any, x: Tensor, context: Context) -> Heads:
    """Per head, or the queries of a group followed by its one key and value; multi-query is a single group."""
    config = context.config
    if not config.new_decoder_architecture and not config.multi_query:
        return per_head(module, x, context)
    groups = config.num_kv_heads if config.new_decoder_architecture else 1
    fused = linear(module.query_key_value, x).unflatten(-1, (groups, -1, context.head_dim))
    return fused[..., :-2, :].flatten(2, 3), fused[..., -2, :], fused[..., -1, :]


def rotate(x: Tensor, positions: Tensor, rope: Rope) -> Tensor:
    """Turn pair i of the first `units` units of every head by position · theta^(−2i / units)."""
    speeds = rope.theta ** (-torch.arange(0, rope.units, 2, dtype=x.dtype) / rope.units)
    angles = positions[..., None, None].to(x.dtype) * speeds  # (batch, position, 1, pair)
    turned, rest = x[..., : rope.units], x[..., rope.units :]
    first, second = (turned[..., 0::2], turned[..., 1::2]) if rope.interleaved else turned.chunk(2, -1)
    pairs = [first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()]
    joined = torch.stack(pairs, -1).flatten(-2) if rope.interleaved else torch.cat(pairs, -1)
    return torch.cat([joined, rest], -1)


def visible(context: Context, window: int | None, causal: bool) -> Tensor:
    """Which key each query may see (batch, query, key): never padding, never later, never `window` or more back."""
    columns = torch.arange(context.mask.shape[1])
    back = columns[:, None] - columns
    seen = back >= 0 if causal else torch.ones_like(back, dtype=torch.bool)
    if window is not None:
        seen = seen & (back < window)
    return seen & context.mask[:, None]


def distance_bias(context: Context, dtype: torch.dtype) -> Tensor:
    """ALiBi (Press 2022): −slope · distance, (batch, head, query, key); slopes 2^(−8 i / heads) for 2ⁿ heads."""
    heads = context.config.num_attention_heads
    slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1, dtype=dtype) / heads)
    distance = context.positions[:, :, None] - context.positions[:, None]
    return -slopes[:, None, None] * distance[:, None]


def hand_z(row: Attention, module: Any, x: Tensor, context: Context) -> Tensor:
    """The heads' results side by side, as they enter the output projection: (batch, position, heads · units)."""
    q, k, v = row.qkv(module, x, context)
    if (rope := row.rope(context)) is not None:
        q, k = rotate(q, context.positions, rope), rotate(k, context.positions, rope)
    shared = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(shared, 2), v.repeat_interleave(shared, 2)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * row.scale(context)
    if (cap := row.softcap(context)) is not None:
        scores = cap * torch.tanh(scores / cap)
    if (factor := row.alibi(context)) != 0:
        scores = scores + factor * distance_bias(context, x.dtype)
    seen = visible(context, row.window(context), row.causal)[:, None]
    # A finite floor: a query on padding may see nothing, and must not become NaN.
    weights = scores.masked_fill(~seen, torch.finfo(x.dtype).min).softmax(-1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2)


def _rope(context: Context) -> Rope:
    settings = context.config.rope_parameters
    settings = settings.get(context.layer_type, settings) if hasattr(context.config, "layer_types") else settings
    return Rope(settings["rope_theta"], int(context.head_dim * settings.get("partial_rotary_factor", 1.0)))


def _sliding(context: Context) -> int | None:
    return context.config.sliding_window if context.layer_type == "sliding_attention" else None


def _query_scale(context: Context) -> float:
    return context.config.query_pre_attn_scalar**-0.5


SEPARATE = separate("q_proj k_proj v_proj")

ATTENTION: dict[str, Attention] = {
    "llama": Attention(SEPARATE, rope=_rope),
    "qwen2": Attention(SEPARATE, rope=_rope, window=_sliding),
    "qwen3": Attention(separate("q_proj k_proj v_proj", rms_norm), rope=_rope, window=_sliding),
    "mistral": Attention(SEPARATE, rope=_rope, window=lambda context: context.config.sliding_window),
    "mixtral": Attention(SEPARATE, rope=_rope, window=lambda context: context.config.sliding_window),
    "gemma2": Attention(
        SEPARATE,
        rope=_rope,
        window=_sliding,
        scale=_query_scale,
        softcap=lambda context: context.config.attn_logit_softcapping,
    ),
    "gemma3": Attention(separate("q_proj k_proj v_proj", gemma_norm), rope=_rope, window=_sliding, scale=_query_scale),
    "phi": Attention(SEPARATE, rope=_rope),
    "gpt2": Attention(stacked),
    "gptj": Attention(SEPARATE, rope=lambda context: Rope(10000.0, context.config.rotary_dim, interleaved=True)),
    "gpt_neo": Attention(
        SEPARATE,
        scale=lambda context: 1.0,
        window=lambda context: (
            context.config.window_size if context.config.attention_layers[context.layer] == "local" else None
        ),
    ),
    "gpt_neox": Attention(per_head, rope=_rope),
    "opt": Attention(SEPARATE),
    "bloom": Attention(per_head, alibi=lambda context: 1.0),
    "falcon": Attention(
        falcon_heads,
        rope=lambda context: None if context.config.alibi else _rope(context),
        alibi=lambda context: 1 / math.sqrt(context.head_dim) if context.config.alibi else 0.0,
    ),
    "bert": Attention(separate("query key value"), causal=False),
}
