"""Grids of layers by layers whose models may differ in depth: matched depths, distances, outliers and blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from mas_hooks.core.errors import NotFiniteError, SettingError, ShapeError
from mas_hooks.similarity.rows import Matrix

FACTOR = 1.5


def match_depths(grid: ArrayLike) -> Matrix:
    """The values of a grid (layers of a, layers of b) at equal shares of the depth, as many as the deeper one has.

    Of models of equal depth that is the diagonal. Raises ShapeError, NotFiniteError.
    """
    values = _check_grid(grid)
    count = max(values.shape)
    at = [((np.arange(count) + 0.5) / count * layers).astype(int) for layers in values.shape]
    return values[at[0], at[1]]


def depth_distance(grid: ArrayLike) -> float:
    """sqrt of the mean of arccos(CKA)² at matched depths, in radians: 0 for equal layers, π/2 for unrelated ones.

    Of two models of L layers each it is their `arccos_distance` (Brown 2023, eq. 2) over √L, so that families of
    unequal depth can be compared.
    """
    return float(np.sqrt(np.mean(np.arccos(np.clip(match_depths(grid), -1.0, 1.0)) ** 2)))


@dataclass(frozen=True)
class Outlier:
    """The member that lies farthest out. ratio: its mean distance to the others over the mean distance among those;
    flagged: whether that is above the factor."""

    name: str
    ratio: float
    flagged: bool
    ratios: tuple[float, ...]


def find_outlier(distances: ArrayLike, names: Sequence[str], factor: float = FACTOR) -> Outlier:
    """Which member of a family, if any, is far from all others: at most one, of three members or more.

    distances (m, m): symmetric, zero on the diagonal. ratios: in the order of the names. Raises ShapeError, and
    SettingError for others that lie at no distance from each other.
    """
    values, m = np.asarray(distances, dtype=np.float64), len(names)
    if m < 3 or values.shape != (m, m):
        raise ShapeError("the distances of a family", values.shape, f"({m}, {m}), of 3 members or more,")
    ratios = []
    for one in range(m):
        others = [other for other in range(m) if other != one]
        among = float(np.mean([values[i, j] for i, j in combinations(others, 2)]))
        if not among > 0:
            raise SettingError(f"the distance among the members beside {names[one]}", among, "above 0")
        ratios.append(float(values[one, others].mean()) / among)
    far = int(np.argmax(ratios))
    return Outlier(names[far], ratios[far], ratios[far] > factor, tuple(ratios))


@dataclass(frozen=True)
class Blocks:
    """Early, middle and late layers of one model, cut where they differ most.

    cuts: the first middle and the first late layer. within, across: mean CKA of two different layers in one block, and
    in two. smooth: what `within − across` is, cut where it is highest, if a value depended on how far two layers are
    apart alone: a similarity that merely falls with distance has that much, and no blocks.
    """

    cuts: tuple[int, int]
    within: float
    across: float
    smooth: float

    @property
    def contrast(self) -> float:
        """within − across."""
        return self.within - self.across

    @property
    def visible(self) -> bool:
        """Whether there is more of it than a fall with distance brings."""
        return self.contrast > self.smooth


def find_blocks(grid: ArrayLike) -> Blocks:
    """The three blocks of consecutive layers with the highest contrast; of one model with itself, 4 layers or more."""
    values = _check_grid(grid)
    layers = len(values)
    if values.shape != (layers, layers) or layers < 4:
        raise ShapeError("the similarity of the layers of one model", values.shape, "(layers, layers), 4 or more")
    cuts, within, across = _best(values)
    apart = np.abs(np.subtract.outer(np.arange(layers), np.arange(layers)))
    means = np.array([values[apart == distance].mean() for distance in range(layers)])
    _, smooth_within, smooth_across = _best(means[apart])
    return Blocks(cuts, within, across, smooth_within - smooth_across)


def _best(values: Matrix) -> tuple[tuple[int, int], float, float]:
    layers, found = len(values), []
    other = ~np.eye(layers, dtype=bool)
    for first, second in combinations(range(1, layers), 2):
        block = np.repeat([0, 1, 2], [first, second - first, layers - second])
        same = block[:, None] == block[None, :]
        within, across = float(values[same & other].mean()), float(values[~same].mean())
        found.append((within - across, (first, second), within, across))
    _, cuts, within, across = max(found)
    return cuts, within, across


def _check_grid(grid: ArrayLike) -> Matrix:
    values = np.asarray(grid, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise ShapeError("the similarity of layers", values.shape, "(layers of a, layers of b)")
    if bad := int((~np.isfinite(values)).sum()):
        raise NotFiniteError("the similarity of layers", bad)
    return values
