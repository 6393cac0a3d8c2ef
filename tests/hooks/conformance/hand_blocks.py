"""One block of every family written out from its own weights, with a place to edit each named activation.

Names: resid_pre, z (heads side by side, the input of the output projection), attn_out and mlp_out (the terms that are
added to the residual stream: Gemma after its post norms, Bloom without the residual that its modules add), resid_mid
(only where the block input plus attn_out is the stream that the MLP starts from) and resid_post. Gemma's attention and
MLP before their post norms are attn_inner and mlp_inner.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from hooks.conformance.hand_attention import ATTENTION, Context, gemma_norm, hand_z, linear, rms_norm
from torch import Tensor
from torch.nn import functional

Fn: TypeAlias = Callable[[Tensor], Tensor]
Norm: TypeAlias = Callable[[Any, Tensor], Tensor]
Mlp: TypeAlias = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Trace:
    """Passes activations on, edited where an edit of that name is given, and remembers what was passed on."""

    edits: Mapping[str, Fn]
    seen: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """`value`, or its edited version; either is remembered under `name`."""
        self.seen[name] = self.edits[name](value) if name in self.edits else value
        return self.seen[name]


@dataclass(frozen=True)
class Layout:
    """One row of the table: where a family's block keeps its parts. Paths are relative to the block."""

    attention: str  # the module with the query, key and value projections
    project: str  # the output projection of the heads
    mlp: Mlp
    norms: tuple[str, ...]
    norm: Norm
    order: Callable[[Context], str]  # serial, parallel, sandwich, post or normed; Falcon's also say which norms


def layer_norm(module: Any, x: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the width, then weight and bias."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + module.eps).sqrt() * module.weight + module.bias


def gelu(x: Tensor) -> Tensor:
    """Exact: x times the normal distribution function."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x: Tensor) -> Tensor:
    """The tanh approximation."""
    return x * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gated(act: Fn) -> Mlp:
    """down(act(gate x) · up x)."""

    def mlp(block: Any, x: Tensor) -> Tensor:
        inner = act(linear(block.mlp.gate_proj, x)) * linear(block.mlp.up_proj, x)
        return linear(block.mlp.down_proj, inner)

    return mlp


def plain(first: str, second: str, act: Fn) -> Mlp:
    """second(act(first x))."""
    return lambda block, x: linear(block.get_submodule(second), act(linear(block.get_submodule(first), x)))


def mixture(block: Any, x: Tensor) -> Tensor:
    """Mixtral: each cell goes through its two likeliest experts, weighted by their share of the two probabilities."""
    experts = block.mlp.experts
    probabilities = (x @ block.mlp.gate.weight.T).softmax(-1)
    kept, chosen = probabilities.topk(block.mlp.top_k, -1)
    kept = kept / kept.sum(-1, keepdim=True)
    out = torch.zeros_like(x)
    for index in range(probabilities.shape[-1]):
        gate, up = (x @ experts.gate_up_proj[index].T).chunk(2, -1)
        share = torch.where(chosen == index, kept, torch.zeros_like(kept)).sum(-1, keepdim=True)
        out = out + share * ((functional.silu(gate) * up) @ experts.down_proj[index].T)
    return out


def _is(order: str) -> Callable[[Context], str]:
    return lambda context: order


def _neox_order(context: Context) -> str:
    return "parallel" if context.config.use_parallel_residual else "serial"


def _falcon_order(context: Context) -> str:
    config = context.config
    if config.new_decoder_architecture and config.num_ln_in_parallel_attn == 2:
        return "parallel-two-norms"
    return "parallel-one-norm" if config.new_decoder_architecture or config.parallel_attn else "serial"


def _opt_order(context: Context) -> str:
    return "serial" if context.config.do_layer_norm_before else "post"


def _bloom_order(context: Context) -> str:
    return "normed" if context.config.apply_residual_connection_post_layernorm else "serial"


def norm_names(row: Layout, order: str) -> tuple[str, ...]:
    """The norms of a block in the order they are used; only Falcon names them by its variant."""
    if order == "parallel-two-norms":
        return ("ln_attn", "ln_mlp")
    return (row.norms[0], row.norms[0]) if order == "parallel-one-norm" else row.norms


PRE = ("input_layernorm", "post_attention_layernorm")
SANDWICH = (*PRE, "pre_feedforward_layernorm", "post_feedforward_layernorm")
LLAMA = Layout("self_attn", "self_attn.o_proj", gated(functional.silu), PRE, rms_norm, _is("serial"))
GEMMA = Layout("self_attn", "self_attn.o_proj", gated(gelu_tanh), SANDWICH, gemma_norm, _is("sandwich"))
GPT2_MLP, NEO_NORMS = plain("mlp.c_fc", "mlp.c_proj", gelu_tanh), ("ln_1", "ln_2")
FOUR, BACK = "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"

LAYOUTS: dict[str, Layout] = {
    "llama": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "mistral": LLAMA,
    "mixtral": Layout("self_attn", "self_attn.o_proj", mixture, PRE, rms_norm, _is("serial")),
    "gemma2": GEMMA,
    "gemma3": GEMMA,
    "phi": Layout(
        "self_attn",
        "self_attn.dense",
        plain("mlp.fc1", "mlp.fc2", gelu_tanh),
        ("input_layernorm", "input_layernorm"),
        layer_norm,
        _is("parallel"),
    ),
    "gpt2": Layout("attn", "attn.c_proj", GPT2_MLP, NEO_NORMS, layer_norm, _is("serial")),
    "gptj": Layout(
        "attn",
        "attn.out_proj",
        plain("mlp.fc_in", "mlp.fc_out", gelu_tanh),
        ("ln_1", "ln_1"),
        layer_norm,
        _is("parallel"),
    ),
    "gpt_neo": Layout("attn.attention", "attn.attention.out_proj", GPT2_MLP, NEO_NORMS, layer_norm, _is("serial")),
    "gpt_neox": Layout("attention", "attention.dense", plain(FOUR, BACK, gelu), PRE, layer_norm, _neox_order),
    "opt": Layout(
        "self_attn",
        "self_attn.out_proj",
        plain("fc1", "fc2", functional.relu),
        ("self_attn_layer_norm", "final_layer_norm"),
        layer_norm,
        _opt_order,
    ),
    "bloom": Layout(
        "self_attention", "self_attention.dense", plain(FOUR, BACK, gelu_tanh), PRE, layer_norm, _bloom_order
    ),
    "falcon": Layout("self_attention", "self_attention.dense", plain(FOUR, BACK, gelu), PRE, layer_norm, _falcon_order),
    "bert": Layout(
        "attention.self",
        "attention.output.dense",
        plain("intermediate.dense", "output.dense", gelu),
        ("attention.output.LayerNorm", "output.LayerNorm"),
        layer_norm,
        _is("post"),
    ),
}


def base(family: str) -> str:
    """The row of a family's variant: `falcon-new` is Falcon; what differs stands in the config."""
    return family.partition("-")[0]


def hand_block(
    family: str, block: Any, hidden: Tensor, context: Context, edits: Mapping[str, Fn] | None = None
) -> dict[str, Tensor]:
    """Every named activation of one block, in its order; edits: name -> fn (batch, position, width) -> the same."""
    row, trace = LAYOUTS[base(family)], Trace(edits or {})
    order = row.order(context)
    names = norm_names(row, order)

    def norm(index: int, x: Tensor) -> Tensor:
        return row.norm(block.get_submodule(names[index]), x)

    def attention(x: Tensor) -> Tensor:
        z = trace("z", hand_z(ATTENTION[base(family)], block.get_submodule(row.attention), x, context))
        out = linear(block.get_submodule(row.project), z)
        return trace("attn_out", norm(1, trace("attn_inner", out)) if order == "sandwich" else out)

    def mlp(x: Tensor) -> Tensor:
        out = row.mlp(block, x)
        return trace("mlp_out", norm(3, trace("mlp_inner", out)) if order == "sandwich" else out)

    x = trace("resid_pre", hidden)
    if order in ("serial", "sandwich"):
        mid = trace("resid_mid", x + attention(norm(0, x)))
        out = mid + mlp(norm(2 if order == "sandwich" else 1, mid))
    elif order == "post":
        mid = norm(0, x + attention(x))  # the skip branches end before the norms
        out = norm(1, mid + mlp(mid))
    elif order == "normed":  # the skip branches start after the norms
        mid = norm(1, norm(0, x) + attention(norm(0, x)))
        out = mid + mlp(mid)
    else:  # parallel
        out = x + attention(norm(0, x)) + mlp(norm(1, x))
    trace("resid_post", out)
    return trace.seen
