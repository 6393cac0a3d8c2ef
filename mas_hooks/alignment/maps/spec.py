"""Which map a method uses, as data, and the maker that turns it into one."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Literal

from pydantic import Field, model_validator

from mas_hooks.alignment.maps.base import AbstractMap
from mas_hooks.alignment.maps.fixed import Fixed
from mas_hooks.alignment.maps.frame import Frame
from mas_hooks.alignment.maps.orthogonal import Parametrization
from mas_hooks.alignment.maps.reversible import Reversible
from mas_hooks.alignment.maps.rotation import Rotation
from mas_hooks.alignment.maps.standardise import Calibration
from mas_hooks.core.errors import RankError, SettingError, UnknownNameError
from mas_hooks.core.settings import Settings

Kind = Literal["frame", "rotation", "fixed", "reversible"]
Init = Literal["random", "identity", "pca", "procrustes"]


class MapSpec(Settings):
    """A map specification.

    Args:
        rank: shared dims, when there is one subspace.
        subspaces: name -> dims, consecutive blocks, in place of rank.
        kind: `frame` (width × rank, default), `rotation` (width × width, adds the subspace `extra`: all other dims),
            `fixed` (not trained), or `reversible` (nonlinear and invertible: a rotation and coupling blocks).
        parametrization: of a rotation, that of a reversible map too.
        scale: `fixed` at 1 or a `learned` positive number per map.
        centre: subtract the mean of the site's activations.
        zscore: divide by their spread too.
        init: the start; a fixed map stays there.
        depth: coupling blocks of a reversible map.
        hidden: units in each coupling block; None for the width of the site.

    Example:
        >>> from mas_hooks import MapSpec
        >>> spec = MapSpec(subspaces={"count": 2, "phase": 1}, kind="rotation")
        >>> spec.total, spec.block("phase", width=8), spec.block("extra", width=8)
        (3, slice(2, 3, None), slice(3, 8, None))
    """

    rank: int | None = None
    subspaces: Mapping[str, int] = Field(default_factory=dict)
    kind: Kind = "frame"
    parametrization: Parametrization = "matrix_exp"
    scale: Literal["fixed", "learned"] = "fixed"
    centre: bool = False
    zscore: bool = False
    init: Init = "random"
    depth: int = 4
    hidden: int | None = None

    @model_validator(mode="after")
    def _one_size(self) -> MapSpec:
        if (self.rank is None) == (not self.subspaces):
            got = {"rank": self.rank, "subspaces": dict(self.subspaces)}
            raise SettingError("the size of a map", got, "either rank=k or subspaces={name: dims, …}")
        if "extra" in self.subspaces:
            raise SettingError("a subspace name", "extra", "another name: 'extra' is what a rotation leaves over")
        for dims in self.subspaces.values():
            if dims < 1:
                raise SettingError("the number of dims of a subspace", dims, "1 or more")
        if self.kind == "fixed" and self.scale == "learned":
            raise SettingError("the scale of a fixed map", self.scale, "'fixed': that kind does not learn")
        self._check_blocks()
        return self

    def _check_blocks(self) -> None:
        for name, got in (("depth", self.depth), ("hidden", self.hidden)):
            if got is not None and got < 1:
                raise SettingError(f"the {name} of a reversible map", got, "1 or more")
            default = type(self).model_fields[name].default
            if self.kind != "reversible" and got != default:
                raise SettingError(
                    f"{name} of a map of kind {self.kind!r}", got, f"{default}: only 'reversible' has one"
                )

    @property
    def total(self) -> int:
        """Dims of all named subspaces together."""
        return sum(self.subspaces.values()) if self.rank is None else self.rank

    def block(self, subspace: str | None, width: int) -> slice:
        """The shared dims of a subspace; None is all the named ones together."""
        if subspace is None:
            return slice(0, self.total)
        ends = list(accumulate(self.subspaces.values()))
        blocks = {name: slice(end - self.subspaces[name], end) for name, end in zip(self.subspaces, ends, strict=True)}
        if self.kind == "rotation" and self.total < width:
            blocks["extra"] = slice(self.total, width)
        if subspace not in blocks:
            raise UnknownNameError("subspace", subspace, blocks, "the map")
        return blocks[subspace]

    def make(self, width: int, where: str) -> AbstractMap:
        """Make a map of a site of that width, at the identity start. Raises RankError where it does not fit.

        A frame of rank = width is made as a rotation, whose determinant cannot flip.
        """
        if not 1 <= self.total <= width:
            raise RankError(self.total, width, where)
        calibration, learned = Calibration(width, self.centre, self.zscore), self.scale == "learned"
        if self.kind == "rotation" or (self.kind == "frame" and self.total == width):
            return Rotation(width, calibration, learned, self.parametrization)
        if self.kind == "fixed":
            return Fixed(width, self.total, calibration)
        if self.kind == "reversible":
            hidden = width if self.hidden is None else self.hidden
            return Reversible(width, self.total, calibration, self.depth, hidden, learned, self.parametrization)
        return Frame(width, self.total, calibration, learned)
