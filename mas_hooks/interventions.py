"""The swap itself, as pure tensor functions: no model, no hook."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mas_hooks.errors import RankError, ShapeError
from mas_hooks.maps.base import AbstractView


def interchange(
    target: Float[Tensor, "n width_t"],
    source: Float[Tensor, "n width_s"],
    view_t: AbstractView,
    view_s: AbstractView,
    dims: slice,
) -> Float[Tensor, "n width_t"]:
    """Replace the shared dims of `target` by those of `source` (Grant 2025, eq. 4).

    target (n, width_t), source (n, width_s), dims a block of the shared space -> (n, width_t), float32.
    Raises RankError when the block does not exist in both maps.
    """
    if len(source) != len(target):
        raise ShapeError("the source of a swap", tuple(source.shape), f"one row for each of the {len(target)} targets")
    given, own = view_s.read(source), view_t.read(target)
    shared = min(given.shape[1], own.shape[1])
    begin, end, _ = dims.indices(max(own.shape[1], dims.stop or 0))
    if end > shared:
        raise RankError(end, shared, "both maps")
    return view_t.write(target, torch.cat([own[:, :begin], given[:, begin:end], own[:, end:]], dim=1))
