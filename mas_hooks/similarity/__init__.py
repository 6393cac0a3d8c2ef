"""Correlational measures of two networks: matched rows in, a number with its spread out. They imply no shared cause."""

from mas_hooks.similarity.cka import cka
from mas_hooks.similarity.layer_structure import FACTOR as OUTLIER_FACTOR
from mas_hooks.similarity.layer_structure import (
    Blocks,
    Outlier,
    depth_distance,
    find_blocks,
    find_outlier,
    match_depths,
)
from mas_hooks.similarity.layers.accumulate import MEASURES, LayerPairs
from mas_hooks.similarity.layers.compare import cka_layers
from mas_hooks.similarity.layers.grid import LayerGrid
from mas_hooks.similarity.model_distance import Tree, arccos_distance, cluster_models
from mas_hooks.similarity.procrustes import procrustes, shape_distance
from mas_hooks.similarity.resampling import Measure
from mas_hooks.similarity.rsa import dissimilarity_matrix, rsa

__all__ = [
    "MEASURES",
    "OUTLIER_FACTOR",
    "Blocks",
    "LayerGrid",
    "LayerPairs",
    "Measure",
    "Outlier",
    "Tree",
    "arccos_distance",
    "cka",
    "cka_layers",
    "cluster_models",
    "depth_distance",
    "dissimilarity_matrix",
    "find_blocks",
    "find_outlier",
    "match_depths",
    "procrustes",
    "rsa",
    "shape_distance",
]
