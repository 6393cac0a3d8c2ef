"""What a step of llm_step.py must cost, and what it does cost: operations, seconds, memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch


def floor_flops(weights: int, vocabulary: int, blocks: int, queries: int, columns: Sequence[int], length: int) -> int:
    """Floating-point operations that a step must do, however it is written.

    Only positions from the swap on change: a forward and a backward to the activations, 2 a matrix entry each.
    Scores: queries see all keys before them, both ways, but only keys from the swap on have gradients. Norms, the map
    and the source, which is given, count nothing.

    Args:
        weights: Matrix entries of the blocks above the site.
        vocabulary: Matrix entries of the projection to logits.
        blocks: Blocks above the site.
        queries: Width of all query heads of a block together.
        columns: The position that is swapped in each row.
        length: Positions of a row.

    Returns:
        The operations of one step.
    """
    tokens = sum(length - column for column in columns)
    seen = sum(position + 1 for column in columns for position in range(column, length))
    fresh = sum(position - column + 1 for column in columns for position in range(column, length))
    return 4 * (weights + vocabulary) * tokens + 4 * blocks * queries * (2 * seen + fresh)


def floor_of(bench: Any) -> int:
    """`floor_flops` of the model and batch of a bench."""
    config = bench.model.config
    above = bench.model.get_submodule(bench.layer_path)[bench.layer + 1 :]
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return floor_flops(
        sum(weight.numel() for weight in above.parameters() if weight.ndim == 2),
        bench.model.get_output_embeddings().weight.numel(),
        len(above),
        head * config.num_attention_heads,
        bench.target_at.tolist(),
        bench.target.shape[1],
    )


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product here: the best of twenty."""
    n = 8_192 if device.type == "cuda" else 1_024
    left, right = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    return 2 * n**3 / min(seconds(lambda: left @ right, device) for _ in range(20))


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Wall time of a call, with all the work that it puts on a GPU."""
    _synchronize(device)
    began = time.perf_counter()
    call()
    _synchronize(device)
    return time.perf_counter() - began


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
