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
    """Compute one loss per direction (Grant 2025, eq. 5).

    Args:
        labelled: logits and labels of a batch.
        sizes: how many pairs of the batch belong to each direction, in order.
        average: `trial`, the mean over a trial's labels, then over trials; or `token`, the mean over all labels of the
            direction.

    Returns:
        The losses in nats, in the order of the directions.

    Example:
        >>> import torch
        >>> from mas_hooks.engine.batch import LabelledLogits
        >>> from mas_hooks.training import behaviour_losses
        >>> row, scored = torch.tensor([0, 0, 1]), torch.ones(3, dtype=torch.bool)
        >>> labelled = LabelledLogits(torch.zeros(3, 2), torch.tensor([0, 1, 1]), row, scored, scored, pairs=2)
        >>> [round(loss, 3) for loss in behaviour_losses(labelled, [1, 1], "trial").tolist()]  # ln 2: even odds
        [0.693, 0.693]
    """
    sums, counts = pair_losses(labelled)
    parts = zip(sums.split(sizes), counts.split(sizes), strict=True)
    return torch.stack([average_losses(*part, average) for part in parts])


def pair_losses(labelled: LabelledLogits) -> tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]]:
    """Of each pair the sum of the cross-entropies at its scored labels (nats), and how many these are.

    Example:
        >>> import torch
        >>> from mas_hooks.engine.batch import LabelledLogits
        >>> from mas_hooks.training import pair_losses
        >>> row, scored = torch.tensor([0, 0, 1]), torch.ones(3, dtype=torch.bool)
        >>> labelled = LabelledLogits(torch.zeros(3, 2), torch.tensor([0, 1, 1]), row, scored, scored, pairs=2)
        >>> sums, counts = pair_losses(labelled)
        >>> [round(nats, 3) for nats in sums.tolist()], counts.tolist()
        ([1.386, 0.693], [2.0, 1.0])
    """
    surprise = functional.cross_entropy(labelled.logits.float(), labelled.labels, reduction="none")
    weight = labelled.scored.to(surprise.dtype)
    zeros = surprise.new_zeros(labelled.pairs)
    sums = zeros.index_add(0, labelled.row, surprise * weight)
    return sums, zeros.index_add(0, labelled.row, weight)


def average_losses(
    sums: Float[Tensor, " pairs"], counts: Float[Tensor, " pairs"], average: Literal["trial", "token"]
) -> Float[Tensor, ""]:
    """Average the cross-entropies of a direction.

    Args:
        sums: of each pair.
        counts: how many labels each sum is of.
        average: over trials of their mean label (`trial`), or over all labels (`token`).

    Returns:
        One number in nats.
    """
    return (sums / counts).mean() if average == "trial" else sums.sum() / counts.sum()


def latent_losses(
    h_v: Float[Tensor, "n width"],
    h_cl: Float[Tensor, "n width"],
    sizes: list[int],
    reduction: Reduction = "sum",
) -> Float[Tensor, " directions"]:
    """Compute one loss per direction: the mean of ½‖h_v − h_CL‖² − ½ cos(h_v, h_CL) (Grant 2025, eq. 8–9).

    The cosine with a zero vector is 0, and so is its gradient. At least float32 inside.

    Args:
        h_v: swapped vectors.
        h_cl: their counterfactual latents.
        sizes: how many rows belong to each direction, in order; a direction without rows costs 0.
        reduction: `sum` of the squares over dims (the paper's) or their `mean`.

    Returns:
        The losses, in the order of the directions.

    Raises:
        SettingError: the reduction is unknown.
        ShapeError: the two have different shapes, or other rows than `sizes` counts.
    """
    if reduction not in get_args(Reduction):
        raise SettingError("latent_reduction", reduction, " or ".join(map(repr, get_args(Reduction))))
    if h_v.shape != h_cl.shape or sum(sizes) != len(h_v):
        shapes = (tuple(h_v.shape), tuple(h_cl.shape))
        raise ShapeError("the pair (h_v, h_cl)", shapes, f"one shape with {sum(sizes)} rows for both")
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
    """Compute λ · latent + (1 − λ) · behaviour (Grant 2025, eq. 9).

    Args:
        behaviour: one loss per direction that has one.
        latent: one loss per direction that has one.
        weight: λ.
        average: each kind is summed (eq. 6) or averaged (App. A.2) over its directions.

    Returns:
        One number.

    Raises:
        SettingError: the weight is not from 0 to 1.
    """
    if not 0 <= weight <= 1:
        raise SettingError("latent_weight", weight, "from 0 (behaviour alone) to 1 (latents alone)")
    parts = [losses.sum() / (1 if average == "sum" else max(len(losses), 1)) for losses in (latent, behaviour)]
    return weight * parts[0] + (1 - weight) * parts[1]


def _cosine(a: Float[Tensor, "n width"], b: Float[Tensor, "n width"]) -> Float[Tensor, " n"]:
    """Cosines of matched rows, 0 where a row is zero (torch's own has a gradient of 1e8 there)."""
    squares = [rows.square().sum(1) for rows in (a, b)]
    zero = (squares[0] == 0) | (squares[1] == 0)
    lengths = [torch.where(zero, torch.ones_like(square), square).sqrt() for square in squares]
    return torch.where(zero, 0, (a * b).sum(1) / lengths[0] / lengths[1])
