"""The swap itself, as pure tensor functions: no model, no hook."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mas_hooks.errors import RankError
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
    given, own = view_s.read(source), view_t.read(target)
    if min(given.shape[1], own.shape[1]) < dims.stop:
        raise RankError(dims.stop, min(given.shape[1], own.shape[1]), "both maps")
    whole = dims.start == 0 and dims.stop == own.shape[1]
    z = given[:, dims] if whole else torch.cat([own[:, : dims.start], given[:, dims], own[:, dims.stop :]], dim=1)
    return view_t.write(target, z)
