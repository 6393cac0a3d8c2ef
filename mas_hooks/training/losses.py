"""What training lowers: cross-entropy on the counterfactual continuation, and distance to counterfactual latents."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mas_hooks.core.errors import SettingError, ShapeError
from mas_hooks.engine.batch import LabelledLogits

Reduction: TypeAlias = Literal["sum", "mean"]


def behaviour_losses(
    labelled: LabelledLogits, sizes: list[int], average: Literal["trial", "token"]
) -> Float[Tensor, " directions"]:
    """One loss a direction (Grant 2025, eq. 5).

    sizes: how many pairs of the batch belong to each direction, in order. average: `trial` = the mean over a trial's
    labels, then over trials; `token` = the mean over all labels of the direction.
    """
    sums, counts = pair_losses(labelled)
    parts = zip(sums.split(sizes), counts.split(sizes), strict=True)
    return torch.stack([average_losses(*part, average) for part in parts])


def pair_losses(labelled: LabelledLogits) -> tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]]:
    """Of each pair the sum of the cross-entropies at its scored labels (nats), and how many these are."""
    surprise = functional.cross_entropy(labelled.logits.float(), labelled.labels, reduction="none")
    weight = labelled.scored.to(surprise.dtype)
    zeros = surprise.new_zeros(labelled.pairs)
    sums = zeros.index_add(0, labelled.row, surprise * weight)
    return sums, zeros.index_add(0, labelled.row, weight)


def average_losses(
    sums: Float[Tensor, " pairs"], counts: Float[Tensor, " pairs"], average: Literal["trial", "token"]
) -> Float[Tensor, ""]:
    """The mean over trials of their mean label, or over all labels."""
    return (sums / counts).mean() if average == "trial" else sums.sum() / counts.sum()


def latent_losses(
    h_v: Float[Tensor, "n width"],
    h_cl: Float[Tensor, "n width"],
    sizes: list[int],
    reduction: Reduction = "sum",
) -> Float[Tensor, " directions"]:
    """One loss a direction: the mean of ½‖h_v − h_CL‖² − ½ cos(h_v, h_CL) over its rows (Grant 2025, eq. 8–9).

    h_v: swapped vectors; h_cl: their counterfactual latents. sizes: how many rows belong to each direction, in order;
    a direction without rows costs 0. reduction: `sum` of the squares over dims (the paper's) or their `mean`.
    The cosine with a zero vector is 0, and so is its gradient. At least float32 inside.
    """
    if reduction not in get_args(Reduction):
        raise SettingError("latent_reduction", reduction, " or ".join(map(repr, get_args(Reduction))))
    if h_v.shape != h_cl.shape or sum(sizes) != len(h_v):
        raise ShapeError("(h_v, h_cl)", (tuple(h_v.shape), tuple(h_cl.shape)), f"twice {sum(sizes)} equally wide rows")
    dtype = torch.promote_types(h_v.dtype, torch.float32)
    h_v, h_cl = h_v.to(dtype), h_cl.to(dtype)
    squares = (h_v - h_cl).square()
    distance = squares.sum(1) if reduction == "sum" else squares.mean(1)
    each = (distance - _cosine(h_v, h_cl)) / 2
    return torch.stack([part.sum() / max(len(part), 1) for part in each.split(sizes)])


def total_loss(
    behaviour: Float[Tensor, " directions"],
    latent: Float[Tensor, " latent_directions"],
    weight: float,
    average: Reduction = "sum",
) -> Float[Tensor, ""]:
    """λ · latent + (1 − λ) · behaviour with λ = weight, each summed (eq. 6) or averaged (App. A.2) over directions."""
    if not 0 <= weight <= 1:
        raise SettingError("latent_weight", weight, "from 0 (behaviour alone) to 1 (latents alone)")
    parts = [losses.sum() / (1 if average == "sum" else max(len(losses), 1)) for losses in (latent, behaviour)]
    return weight * parts[0] + (1 - weight) * parts[1]


def _cosine(one: Float[Tensor, "n width"], other: Float[Tensor, "n width"]) -> Float[Tensor, " n"]:
    """Cosines of matched rows, 0 where a row is zero (torch's own has a gradient of 1e8 there)."""
    squares = [rows.square().sum(1) for rows in (one, other)]
    zero = (squares[0] == 0) | (squares[1] == 0)
    lengths = [torch.where(zero, torch.ones_like(square), square).sqrt() for square in squares]
    return torch.where(zero, 0, (one * other).sum(1) / lengths[0] / lengths[1])
