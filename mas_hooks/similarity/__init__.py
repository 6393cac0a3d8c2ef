"""Correlational measures of two networks: matched rows in, a number with its spread out. They imply no shared cause."""

from mas_hooks.similarity.cka import cka
from mas_hooks.similarity.layer_structure import Blocks, Outlier, depth_distance, find_blocks, find_outlier
from mas_hooks.similarity.layers.accumulate import LayerPairs
from mas_hooks.similarity.layers.grid import LayerGrid
from mas_hooks.similarity.model_distance import Tree, arccos_distance, cluster_models
from mas_hooks.similarity.procrustes import procrustes, shape_distance
from mas_hooks.similarity.resampling import Measure
from mas_hooks.similarity.rsa import dissimilarity_matrix, rsa

__all__ = [
    "Blocks",
    "LayerGrid",
    "LayerPairs",
    "Measure",
    "Outlier",
    "Tree",
    "arccos_distance",
    "cka",
    "cluster_models",
    "depth_distance",
    "dissimilarity_matrix",
    "find_blocks",
    "find_outlier",
    "procrustes",
    "rsa",
    "shape_distance",
]
