"""Which transport a stitching method uses, as data, and the maker that turns it into one."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor
from torch.nn import functional

from mas_hooks.alignment.maps.orthogonal import Parametrization
from mas_hooks.alignment.maps.standardise import Calibration
from mas_hooks.alignment.transports.affine import Affine, Place
from mas_hooks.alignment.transports.base import AbstractTransport, standardise
from mas_hooks.alignment.transports.init import (
    identity_matrix,
    least_squares,
    least_squares_affine,
    procrustes_matrix,
    random_matrix,
    random_orthonormal,
)
from mas_hooks.alignment.transports.linear import Identity, Linear, LowRank, Orthogonal
from mas_hooks.core.errors import RankError, SettingError, UnsupportedError
from mas_hooks.core.settings import Settings

TransportKind = Literal["linear", "orthogonal", "affine", "identity"]
TransportInit = Literal["random", "identity", "procrustes", "least_squares"]

INITS: dict[TransportKind, tuple[TransportInit, ...]] = {
    "linear": ("random", "identity", "least_squares"),
    "orthogonal": ("random", "identity", "procrustes"),
    "affine": ("random", "identity", "least_squares"),
    "identity": ("identity",),
}


class TransportSpec(Settings):
    """A transport specification.

    Args:
        kind: `linear` (free), `orthogonal`, `affine` (linear + bias) or `identity` (not trained).
        rank: of a linear one; None for a free one.
        layer_norm: none, `before` or `after` an affine one.
        parametrization: of an orthogonal one.
        centre: subtract the mean of both sites' activations, as maps do.
        zscore: divide by their spread too.
        init: the start; `procrustes` (orthogonal) and `least_squares` (the others) need matched rows.

    Example:
        >>> from mas_hooks.alignment import TransportSpec
        >>> TransportSpec(kind="orthogonal", init="procrustes").needs_rows
        True
        >>> TransportSpec(kind="identity").init
        'identity'
    """

    kind: TransportKind = "linear"
    rank: int | None = None
    layer_norm: Place = "none"
    parametrization: Parametrization = "matrix_exp"
    centre: bool = False
    zscore: bool = False
    init: TransportInit = "random"

    @model_validator(mode="before")
    @classmethod
    def _identity_starts_there(cls, values: Any) -> Any:
        """The identity has one start, which need not be named."""
        is_identity = isinstance(values, dict) and values.get("kind") == "identity"
        return {"init": "identity", **values} if is_identity else values

    @model_validator(mode="after")
    def _fits_its_kind(self) -> TransportSpec:
        if self.init not in INITS[self.kind]:
            raise SettingError(
                f"the init of a transport of kind {self.kind!r}", self.init, _join_names(INITS[self.kind])
            )
        if self.rank is not None and self.kind != "linear":
            raise SettingError(
                f"the rank of a transport of kind {self.kind!r}", self.rank, "None: only 'linear' has one"
            )
        if self.layer_norm != "none" and self.kind != "affine":
            raise SettingError(
                f"layer_norm of a transport of kind {self.kind!r}", self.layer_norm, "'none': only 'affine' has one"
            )
        if self.kind == "identity" and (self.centre or self.zscore):
            asked = {"centre": self.centre, "zscore": self.zscore}
            raise SettingError("the calibration of an identity transport", asked, "off: it passes everything as it is")
        if self.layer_norm == "after" and self.init == "least_squares":
            raise SettingError(
                "the init of a transport with layer_norm='after'",
                self.init,
                "'random' or 'identity': it has no closed fit",
            )
        return self

    @property
    def needs_rows(self) -> bool:
        """Whether the start is fitted to matched rows."""
        return self.init in ("procrustes", "least_squares")

    def make(self, width_s: int, width_t: int, where: str) -> AbstractTransport:
        """Make a transport, at the (rectangular) identity.

        Args:
            width_s: units of the source's site.
            width_t: units of the target's site.
            where: both sites, for the sentence of an error.

        Returns:
            The transport.

        Raises:
            RankError: the rank does not fit the widths.
            UnsupportedError: an identity is asked for between unequal widths.
        """
        if "identity" in (self.kind, self.init) and width_s != width_t:
            raise UnsupportedError(
                f"the identity from {width_s} to {width_t} units ({where})",
                "use another kind or init, or sites of one width",
            )
        if self.rank is not None and not 1 <= self.rank <= min(width_s, width_t):
            raise RankError(self.rank, min(width_s, width_t), where)
        source, target = (Calibration(width, self.centre, self.zscore) for width in (width_s, width_t))
        if self.kind == "orthogonal":
            return Orthogonal(source, target, self.parametrization)
        if self.kind == "affine":
            return Affine(source, target, self.layer_norm)
        if self.kind == "identity":
            return Identity(source, target)
        return Linear(source, target) if self.rank is None else LowRank(source, target, self.rank)

    def draw_start(self, width_s: int, width_t: int, generator: torch.Generator) -> Float[Tensor, "width_t width_s"]:
        """Draw the matrix to start at while there are no data.

        Args:
            width_s: units of the source's site.
            width_t: units of the target's site.
            generator: of a random start.

        Returns:
            The identity where `init` asks for it, else a random matrix of the kind.
        """
        if self.init == "identity":
            return identity_matrix(width_s, self.rank)
        if self.kind == "orthogonal":
            return random_orthonormal(width_t, width_s, generator)
        return random_matrix(width_t, width_s, self.rank, generator)

    def fit_start(
        self, transport: AbstractTransport, h_s: Float[Tensor, "m width_s"], h_t: Float[Tensor, "m width_t"]
    ) -> None:
        """Start at the closed-form fit to matched rows, where `init` asks for one. Calibrate the transport before.

        Args:
            transport: what is set.
            h_s: activations of the source, as they are.
            h_t: activations of the target, matched to those.

        Raises:
            ShapeError: the two have different numbers of rows, or another width.
            EmptyError: there are no rows.
            NotFiniteError: some values are NaN or infinite.
        """
        x_s, x_t = standardise(transport.source, h_s), standardise(transport.target, h_t)
        if self.init == "procrustes":
            transport.start(procrustes_matrix(x_s, x_t))
        elif self.init == "least_squares" and self.kind == "affine":
            normed = functional.layer_norm(x_s, x_s.shape[1:]) if self.layer_norm == "before" else x_s
            transport.start(*least_squares_affine(normed, x_t))
        elif self.init == "least_squares":
            transport.start(least_squares(x_s, x_t, self.rank))


def _join_names(names: tuple[str, ...]) -> str:
    quoted = [repr(name) for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
