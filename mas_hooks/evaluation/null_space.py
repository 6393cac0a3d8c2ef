"""How much of what a map reads from its source lies where the source's own behaviour does not look.

Grant 2025, §3.3: a stitch may read "non-causal information that correlates with the variable of interest", since each
of its outputs is a sum over *all* source dims (eq. 11); the interchanges of MAS within and between models forbid it
(eq. 12). The behavioural null space is the span of directions that do not change a model's behaviour.

The definition here. F (d, d) is the source's sensitivity, its Fisher information with respect to the activation, with
eigenvectors v_i and eigenvalues λ_i; σ_i² is the variance of natural activations along v_i. Swapping that coordinate
alone for another sample's changes the behaviour by e_i = λ_i σ_i² nats on average (second order). Its null weight is
n_i = τ / (τ + e_i / max e), with τ the tolerance: 1 where nothing changes, ½ where the effect is τ of the strongest
direction's. N = Σ n_i v_i v_iᵀ cuts every activation into a null part N h and a behavioural part (1 − N) h. A read-out
A has the null share

    ‖A N‖² / (‖A N‖² + ‖A (1 − N)‖²),   ‖M‖² = tr(M Σ Mᵀ), Σ the covariance of the activations:

which of the two parts moves the read-out more when it is taken from another sample. 0: it reads only what behaviour
uses; 1: only what behaviour ignores. No hard size of the null space is chosen; say a result for τ = 0.1, 0.01 and
0.001 and trust what holds for all three.

What the target does with it counts too: a full orthogonal stitch receives everything, so A must be weighted by the
*target's* sensitivity (`received_by_target`), or its share is the same whatever it learned. The floor to print beside a
result is the source as its own target: `received_by_target` of the identity with the source's own gradients.

Limits. Local gradients vanish where predictions are saturated: take them between samples (`points_between`), and prefer
`response_share`, which swaps and measures. Orthogonality of the two parts refers to the units as they are, as that of
the maps does; rescaling units changes it. Directions along which the samples do not vary count as null, and weigh
nothing. `null_share.py` measures fitted alignments by all this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mas_hooks.core.errors import NotFiniteError, SettingError, ShapeError, UnsupportedError

Behaviour = Callable[[Float[Tensor, "n width"]], Float[Tensor, "n *positions outputs"]]
"""Activations at the site to the logits of what follows, further positions (teacher-forced) between the two axes."""


@dataclass(frozen=True, eq=False)
class NullSpace:
    """The soft null space of a model at a site.

    projector (width, width): N, symmetric with eigenvalues 0 to 1. covariance (width, width): of the natural
    activations. Both float64.
    """

    projector: Float[Tensor, "width width"]
    covariance: Float[Tensor, "width width"]

    @property
    def dims(self) -> float:
        """The effective number of null dims, which behaviour ignores: the trace of N."""
        return self.projector.trace().item()

    @property
    def behavioural(self) -> Float[Tensor, "width width"]:
        """1 − N, what cuts out the part that behaviour uses."""
        return torch.eye(len(self.projector)).to(self.projector) - self.projector


@dataclass(frozen=True)
class Share:
    """What comes from the null part and from the behavioural part: variances of a read-out, or nats of a response."""

    null: float
    behavioural: float

    @property
    def share(self) -> float:
        """The null share, 0 to 1; NaN where nothing is read at all."""
        total = self.null + self.behavioural
        return self.null / total if total > 0 else float("nan")


def null_space(gradients: Float[Tensor, "m width"], h: Float[Tensor, "n width"], tolerance: float = 0.01) -> NullSpace:
    """Find the soft null space from gradients of the behaviour and natural activations.

    Args:
        gradients: rows whose mean outer product is F, up to a factor.
        h: natural activations.
        tolerance: τ, between 0 and 1.

    Returns:
        N and the covariance of the activations.

    Raises:
        SettingError: the tolerance is not between 0 and 1.
        ShapeError: there are fewer rows than dims, of which the rest would pass for null.
        NotFiniteError: some rows are NaN or infinite.
        UnsupportedError: the behaviour changes nowhere.
    """
    if not 0 < tolerance < 1:
        raise SettingError("the tolerance of a null space", tolerance, "between 0 and 1")
    _check_rows("the gradients of a null space", gradients, h.shape[1])
    _check_rows("the activations of a null space", h, gradients.shape[1])
    g, covariance = gradients.double(), torch.cov(h.double().mT).reshape(h.shape[1], h.shape[1])
    values, directions = torch.linalg.eigh(g.mT @ g / len(g))
    effects = values.clamp(min=0) * torch.einsum("di,de,ei->i", directions, covariance, directions)
    strongest = effects.max()
    if not strongest > 0:
        raise UnsupportedError("the null space of a model whose behaviour changes nowhere", "give gradients elsewhere")
    weights = tolerance / (tolerance + effects / strongest)
    return NullSpace(directions * weights @ directions.mT, covariance)


def null_share(readout: Float[Tensor, "k width"], null: NullSpace) -> Share:
    """The variances that reach a linear read-out from the null and from the behavioural part of the activations.

    readout: the rows that are read, U[:, :k]ᵀ of a map or W of a stitch, weighted as their use asks (see
    `received_by_target`).
    """
    return Share(*readout_variances(readout, null).sum(0).tolist())


def readout_variances(readout: Float[Tensor, "k width"], null: NullSpace) -> Float[Tensor, "k 2"]:
    """For every row of a read-out its variance from the null and from the behavioural part (columns), float64."""
    if readout.ndim != 2 or readout.shape[1] != len(null.projector):
        raise ShapeError("a read-out", tuple(readout.shape), f"(k, {len(null.projector)})")
    seen = [readout.to(null.projector) @ part for part in (null.projector, null.behavioural)]
    return torch.stack([(rows @ null.covariance * rows).sum(1) for rows in seen], dim=1)


def received_by_target(
    matrix: Float[Tensor, "width_t width_s"], gradients_t: Float[Tensor, "m width_t"]
) -> Float[Tensor, "width_t width_s"]:
    """F_t^½ W: what the target receives, weighted by how much its behaviour cares. F_t as in `null_space`.

    The variance of this read-out is, to second order, the change of the target's behaviour in nats.
    """
    if gradients_t.ndim != 2 or gradients_t.shape[1] != len(matrix):
        raise ShapeError("the target's gradients", tuple(gradients_t.shape), f"(m, {len(matrix)})")
    g = gradients_t.double()
    values, directions = torch.linalg.eigh(g.mT @ g / len(g))
    return values.clamp(min=0).sqrt()[:, None] * directions.mT @ matrix.to(directions)


def linear_part(function: Callable[[Tensor], Tensor], like: Float[Tensor, "n width"]) -> Float[Tensor, "out width"]:
    """The matrix of a function of rows that is affine: a transport's forward, or a write of what a map reads.

    Raises UnsupportedError for one that is not, such as a reversible map or a LayerNorm.
    """
    units = torch.eye(like.shape[1], dtype=like.dtype, device=like.device)
    offset, forth, back = function(torch.zeros_like(units)), function(units), function(-2 * units)
    matrix = forth - offset
    slack = 1e-4 * matrix.abs().max().item() + 1e-5 * offset.abs().max().item()
    if not torch.allclose(back - offset, -2 * matrix, rtol=1e-3, atol=slack):
        raise UnsupportedError("the matrix of a map that is not linear", "use response_share")
    return matrix.mT


def behaviour_gradients(
    behaviour: Behaviour, h: Float[Tensor, "n width"], generator: torch.Generator, draws: int = 1
) -> Float[Tensor, "rows width"]:
    """Draw rows g = ∇_h log p(y | h) with y from the model itself, whose mean outer product estimates F.

    Args:
        behaviour: activations to logits; with several positions, F is that of all of them together.
        h: where the gradients are taken.
        generator: of the answers y.
        draws: answers for each row of `h`.

    Returns:
        draws · n rows.

    Raises:
        NotFiniteError: some gradient is NaN or infinite.
    """
    rows = []
    for _ in range(draws):
        point = h.detach().clone().requires_grad_()
        with torch.enable_grad():
            logs = behaviour(point).float().log_softmax(-1)
            flat = logs.flatten(0, -2)
            drawn = torch.multinomial(flat.detach().exp().to(generator.device), 1, generator=generator).to(flat.device)
            (gradient,) = torch.autograd.grad(flat.gather(1, drawn).sum(), point)
        rows.append(gradient)
    stacked = torch.cat(rows)
    bad = int((~torch.isfinite(stacked)).sum())
    if bad:
        raise NotFiniteError("the gradient of the behaviour", bad)
    return stacked


def points_between(
    h: Float[Tensor, "n width"], other: Float[Tensor, "n width"], generator: torch.Generator
) -> Float[Tensor, "n width"]:
    """Draw a point on the line from each row to its other, where gradients do not saturate as at the ends.

    Args:
        h: one end of each line.
        other: the other end.
        generator: of the draw.

    Returns:
        One point a line, uniform along it.
    """
    along = torch.rand(len(h), 1, generator=generator, device=generator.device).to(h)
    return h + along * (other - h)


def response_share(
    respond: Behaviour, h: Float[Tensor, "n width"], other: Float[Tensor, "n width"], null: NullSpace
) -> Share:
    """Measure the same share by intervention: how the answer changes when one part of `h` is taken from `other`.

    With the source's own tail, the null change says what the swap of the null part really costs: it should be near
    nothing.

    Args:
        respond: source activations to logits, either the source's own tail, or a map and the target's tail; any map
            will do.
        h: samples.
        other: another sample for each.
        null: the soft null space of the source.

    Returns:
        Mean Kullback–Leibler divergences in nats, summed over positions.

    Raises:
        ShapeError: the two sets of samples differ in shape.
    """
    return Share(*part_responses(respond, h, other, null).mean(0).tolist())


def part_responses(
    respond: Behaviour, h: Float[Tensor, "n width"], other: Float[Tensor, "n width"], null: NullSpace
) -> Float[Tensor, "n 2"]:
    """For every sample the nats by which its null and its behavioural part (columns), taken from `other`, change it.

    Args:
        respond: source activations to logits.
        h: samples.
        other: another sample for each.
        null: the soft null space of the source.

    Returns:
        Kullback–Leibler divergences, summed over positions.

    Raises:
        ShapeError: the two sets of samples differ in shape.
    """
    if h.shape != other.shape:
        raise ShapeError("the other samples", tuple(other.shape), f"that of the samples, {tuple(h.shape)}")
    with torch.no_grad():
        before = _log_probabilities(respond, h)
        after = [
            _log_probabilities(respond, h + (other - h) @ part.to(h)) for part in (null.projector, null.behavioural)
        ]
        return torch.stack([(before.exp() * (before - swapped)).flatten(1).sum(1) for swapped in after], dim=1)


def _log_probabilities(respond: Behaviour, h: Tensor) -> Tensor:
    return respond(h).double().log_softmax(-1)


def _check_rows(what: str, rows: Tensor, width: int) -> None:
    if rows.ndim != 2 or rows.shape[1] != width or len(rows) < max(width, 2):
        raise ShapeError(what, tuple(rows.shape), f"(n, {width}) with n at least {max(width, 2)}")
    bad = int((~torch.isfinite(rows)).sum())
    if bad:
        raise NotFiniteError(what, bad)
