"""One distance between whole models, and groups of models by such distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mas_hooks.core.errors import NotFiniteError, SettingError, ShapeError, UnknownNameError
from mas_hooks.similarity.layers.grid import LayerGrid
from mas_hooks.similarity.rows import Matrix

LINKAGES = ("average", "complete", "single", "weighted")


def arccos_distance(similarity: LayerGrid | ArrayLike) -> float:
    """sqrt(Σ_l arccos(CKA of layer l of both)²), in radians, between models of equal depth (Brown 2023, eq. 2).

    similarity: what `compare_layers` gives, of which the diagonal is taken, or one value a layer. Values are clamped to
    [−1, 1]. With linear CKA over the same rows it obeys the triangle inequality.
    Raises ShapeError for unequal depths, NotFiniteError.

    Example:
        >>> from mas_hooks.similarity import arccos_distance
        >>> arccos_distance([1.0, 1.0]), round(arccos_distance([[1.0, 0.5], [0.5, 0.0]]), 3)
        (0.0, 1.571)
    """
    values = np.asarray(similarity.values if isinstance(similarity, LayerGrid) else similarity, dtype=np.float64)
    if values.ndim == 2 and values.shape[0] == values.shape[1]:
        values = values.diagonal()
    if values.ndim != 1 or not len(values):
        expected = "(layers,) or (layers, layers) of two models of equal depth"
        raise ShapeError("the similarity of layers", values.shape, expected)
    if bad := int((~np.isfinite(values)).sum()):
        raise NotFiniteError("the similarity of layers", bad)
    return float(np.linalg.norm(np.arccos(np.clip(values, -1.0, 1.0))))


@dataclass(frozen=True, eq=False)
class Tree:
    """A hierarchical clustering: merges (m − 1, 4) as SciPy's `linkage` gives and its `dendrogram` takes them.

    Example:
        >>> from mas_hooks.similarity import cluster_models
        >>> tree = cluster_models([[0, 5, 1], [5, 0, 6], [1, 6, 0]], ["a", "b", "c"])
        >>> tree.groups(2), tree.order
        ([['a', 'c'], ['b']], ['b', 'a', 'c'])
    """

    names: tuple[str, ...]
    merges: Matrix

    def groups(self, count: int) -> list[list[str]]:
        """The names in `count` groups, in the order of their first members."""
        from scipy.cluster.hierarchy import cut_tree

        if not 1 <= count <= len(self.names):
            raise SettingError("the number of groups", count, f"1 to {len(self.names)}, the number of models")
        labels = cut_tree(self.merges, n_clusters=count)[:, 0].tolist()
        groups: dict[int, list[str]] = {}
        for name, label in zip(self.names, labels, strict=True):
            groups.setdefault(label, []).append(name)
        return list(groups.values())

    @property
    def order(self) -> list[str]:
        """The names such that those that are merged stand side by side."""
        from scipy.cluster.hierarchy import leaves_list

        return [self.names[index] for index in leaves_list(self.merges)]


def cluster_models(distances: ArrayLike, names: Sequence[str], linkage: str = "average") -> Tree:
    """Merge models by their distances, nearest first (SciPy).

    Args:
        distances: (m, m), symmetric, zero on the diagonal, m ≥ 2.
        names: of the m models.
        linkage: the distance of two groups, by those of their models: `average`, `complete`, `single` or `weighted`.

    Returns:
        The tree of merges.

    Raises:
        ShapeError, NotFiniteError: the distances are no finite square of the names.
        SettingError: a distance is negative, differs both ways, or is not 0 of a model from itself.
        UnknownNameError: there is no such linkage.

    Example:
        >>> from mas_hooks.similarity import cluster_models
        >>> cluster_models([[0, 5, 1], [5, 0, 6], [1, 6, 0]], ["a", "b", "c"]).groups(2)
        [['a', 'c'], ['b']]
    """
    from scipy.cluster.hierarchy import linkage as merge
    from scipy.spatial.distance import squareform

    values = np.asarray(distances, dtype=np.float64)
    m = len(names)
    if m < 2 or values.shape != (m, m):
        raise ShapeError("the distances", values.shape, f"({m}, {m}), one row and column for each of 2 names or more,")
    if count := int((~np.isfinite(values)).sum()):
        raise NotFiniteError("the distances", count)
    if linkage not in LINKAGES:
        raise UnknownNameError("linkage", linkage, LINKAGES, "cluster")
    equal = np.isclose(values, values.T, rtol=0, atol=1e-6 * float(np.abs(values).max()))
    bad = (values < 0) | ~equal | (np.eye(m, dtype=bool) & (values != 0))
    if bad.any():
        i, j = np.argwhere(bad)[0].tolist()
        allowed = "the same both ways, 0 of a model from itself and nowhere below 0"
        raise SettingError(f"the distance of {names[i]} and {names[j]}", float(values[i, j]), allowed)
    return Tree(tuple(names), merge(squareform((values + values.T) / 2, checks=False), method=linkage))
