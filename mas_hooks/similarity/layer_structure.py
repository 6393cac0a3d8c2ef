"""Grids of layers by layers whose models may differ in depth: matched depths, distances, outliers and blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from mas_hooks.core.errors import NotFiniteError, SettingError, ShapeError
from mas_hooks.similarity.rows import Matrix

OUTLIER_FACTOR = 1.5
"""A member is an outlier where its mean distance to the others is above so many times the mean distance among those."""


def match_depths(grid: ArrayLike) -> Matrix:
    """The values of a grid (layers of a, layers of b) at equal shares of the depth, as many as the deeper one has.

    Of models of equal depth that is the diagonal. Raises ShapeError, NotFiniteError.

    Example:
        >>> from mas_hooks.similarity import match_depths
        >>> match_depths([[1.0, 0.9, 0.2, 0.1], [0.2, 0.3, 0.8, 0.7]])
        array([1. , 0.9, 0.8, 0.7])
    """
    values = _check_grid(grid)
    count = max(values.shape)
    at = [((np.arange(count) + 0.5) / count * layers).astype(int) for layers in values.shape]
    return values[at[0], at[1]]


def depth_distance(grid: ArrayLike) -> float:
    """sqrt of the mean of arccos(CKA)² at matched depths, in radians: 0 for equal layers, π/2 for unrelated ones.

    Of two models of L layers each it is their `arccos_distance` (Brown 2023, eq. 2) over √L, so that families of
    unequal depth can be compared. Raises ShapeError, NotFiniteError.

    Example:
        >>> from mas_hooks.similarity import depth_distance
        >>> depth_distance([[1.0, 0.5], [0.5, 1.0]]), round(depth_distance([[0.0, 0.0]]), 3)
        (0.0, 1.571)
    """
    return float(np.sqrt(np.mean(np.arccos(np.clip(match_depths(grid), -1.0, 1.0)) ** 2)))


@dataclass(frozen=True)
class Outlier:
    """The member that lies farthest out.

    Attributes:
        name: of the member.
        ratio: its mean distance to the others over the mean distance among those.
        flagged: whether that is above the factor.
        ratios: of every member, in the order of the names.

    Example:
        >>> from mas_hooks.similarity import find_outlier
        >>> outlier = find_outlier([[0, 1, 4], [1, 0, 4], [4, 4, 0]], ["a", "b", "c"])
        >>> outlier.name, outlier.ratio, outlier.flagged
        ('c', 4.0, True)
    """

    name: str
    ratio: float
    flagged: bool
    ratios: tuple[float, ...]


def find_outlier(distances: ArrayLike, names: Sequence[str], factor: float = OUTLIER_FACTOR) -> Outlier:
    """Which member of a family, if any, is far from all others: at most one, of three members or more.

    Args:
        distances: (m, m), symmetric, zero on the diagonal.
        names: of the m members.
        factor: an outlier's mean distance to the others is above so many times the mean distance among those.

    Returns:
        The member farthest out, and whether it is an outlier.

    Raises:
        ShapeError: there are fewer than 3 members, or the distances are not (m, m).
        SettingError: others lie at no distance from each other.

    Example:
        >>> from mas_hooks.similarity import find_outlier
        >>> find_outlier([[0, 1, 1], [1, 0, 1], [1, 1, 0]], ["a", "b", "c"]).flagged
        False
    """
    values, m = np.asarray(distances, dtype=np.float64), len(names)
    if m < 3 or values.shape != (m, m):
        raise ShapeError("the distances of a family", values.shape, f"({m}, {m}), of 3 members or more,")
    ratios = []
    for member in range(m):
        others = [other for other in range(m) if other != member]
        among = float(np.mean([values[i, j] for i, j in combinations(others, 2)]))
        if not among > 0:
            raise SettingError(f"the distance among the members beside {names[member]}", among, "above 0")
        ratios.append(float(values[member, others].mean()) / among)
    far = int(np.argmax(ratios))
    return Outlier(names[far], ratios[far], ratios[far] > factor, tuple(ratios))


@dataclass(frozen=True)
class Blocks:
    """Early, middle and late layers of one model, cut where they differ most.

    Attributes:
        cuts: the first middle and the first late layer.
        within: mean CKA of two different layers in one block.
        across: mean CKA of two layers in two blocks.
        smooth: what `within − across` is, cut where it is highest, if a value depended on how far two layers are apart
            alone: a similarity that merely falls with distance has that much, and no blocks.

    Example:
        >>> import numpy as np
        >>> from mas_hooks.similarity import find_blocks
        >>> grid = np.kron(np.eye(3), np.ones((2, 2)))
        >>> blocks = find_blocks(grid)
        >>> blocks.cuts, blocks.contrast, blocks.visible
        ((2, 4), 1.0, True)
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
    """The three blocks of consecutive layers with the highest contrast; of one model with itself, 4 layers or more.

    Raises ShapeError, NotFiniteError.

    Example:
        >>> import numpy as np
        >>> from mas_hooks.similarity import find_blocks
        >>> find_blocks(np.kron(np.eye(3), np.ones((2, 2)))).cuts
        (2, 4)
    """
    values = _check_grid(grid)
    layers = len(values)
    if values.shape != (layers, layers) or layers < 4:
        raise ShapeError("the similarity of the layers of one model", values.shape, "(layers, layers), 4 or more")
    cuts, within, across = _cut_best(values)
    apart = np.abs(np.subtract.outer(np.arange(layers), np.arange(layers)))
    means = np.array([values[apart == distance].mean() for distance in range(layers)])
    _, smooth_within, smooth_across = _cut_best(means[apart])
    return Blocks(cuts, within, across, smooth_within - smooth_across)


def _cut_best(values: Matrix) -> tuple[tuple[int, int], float, float]:
    layers, candidates = len(values), []
    other = ~np.eye(layers, dtype=bool)
    for first, second in combinations(range(1, layers), 2):
        block = np.repeat([0, 1, 2], [first, second - first, layers - second])
        same = block[:, None] == block[None, :]
        within, across = float(values[same & other].mean()), float(values[~same].mean())
        candidates.append((within - across, (first, second), within, across))
    _, cuts, within, across = max(candidates)
    return cuts, within, across


def _check_grid(grid: ArrayLike) -> Matrix:
    values = np.asarray(grid, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise ShapeError("the similarity of layers", values.shape, "(layers of a, layers of b)")
    if bad := int((~np.isfinite(values)).sum()):
        raise NotFiniteError("the similarity of layers", bad)
    return values
