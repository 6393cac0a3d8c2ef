"""Correlational measures of two networks: matched rows in, a number with its spread out. They imply no shared cause.

`MEASURES` lists all of them, with the estimator in each name. `cka`, `rsa`, `shape_distance` and `procrustes` compare
matched rows; `compare_layers` compares every layer of one model with every layer of another.

Example:
    >>> import numpy as np
    >>> import mas_hooks as mh
    >>> x = np.random.default_rng(0).normal(size=(50, 8))
    >>> round(mh.similarity.cka(x, -2 * x).value, 6)  # neither sign nor size of all units counts
    1.0
"""

from mas_hooks.similarity.cka import cka
from mas_hooks.similarity.layer_structure import (
    OUTLIER_FACTOR,
    Blocks,
    Outlier,
    depth_distance,
    find_blocks,
    find_outlier,
    match_depths,
)
from mas_hooks.similarity.layers.accumulate import LayerPairs
from mas_hooks.similarity.layers.compare import compare_layers
from mas_hooks.similarity.layers.grid import LayerGrid
from mas_hooks.similarity.model_distance import Tree, arccos_distance, cluster_models
from mas_hooks.similarity.procrustes import procrustes, shape_distance
from mas_hooks.similarity.registry import MEASURES, SimilarityMeasure, find_measure
from mas_hooks.similarity.resampling import Measure
from mas_hooks.similarity.rsa import rdm, rsa

__all__ = [
    "MEASURES",
    "OUTLIER_FACTOR",
    "Blocks",
    "LayerGrid",
    "LayerPairs",
    "Measure",
    "Outlier",
    "SimilarityMeasure",
    "Tree",
    "arccos_distance",
    "cka",
    "cluster_models",
    "compare_layers",
    "depth_distance",
    "find_blocks",
    "find_measure",
    "find_outlier",
    "match_depths",
    "procrustes",
    "rdm",
    "rsa",
    "shape_distance",
]
