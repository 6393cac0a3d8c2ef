"""What training lowers: the target's next-token cross-entropy on the counterfactual continuation."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mas_hooks.engine.labelled import Labelled


def behaviour_losses(
    labelled: Labelled, sizes: list[int], average: Literal["trial", "token"]
) -> Float[Tensor, " directions"]:
    """One loss a direction (Grant 2025, eq. 5).

    sizes: how many pairs of the batch belong to each direction, in order. average: `trial` = the mean over a trial's
    labels, then over trials; `token` = the mean over all labels of the direction.
    """
    surprise = functional.cross_entropy(labelled.logits.float(), labelled.labels, reduction="none")
    weight = labelled.scored.to(surprise.dtype)
    zeros = surprise.new_zeros(labelled.pairs)
    sums = zeros.index_add(0, labelled.row, surprise * weight)
    counts = zeros.index_add(0, labelled.row, weight)
    if average == "trial":
        return torch.stack([part.mean() for part in (sums / counts).split(sizes)])
    per_direction = zip(sums.split(sizes), counts.split(sizes), strict=True)
    return torch.stack([part.sum() / count.sum() for part, count in per_direction])
