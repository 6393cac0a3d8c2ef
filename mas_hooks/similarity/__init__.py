"""Correlational measures of two networks: matched rows in, a number with its spread out. They imply no shared cause."""

from mas_hooks.similarity.cka import cka
from mas_hooks.similarity.layer_structure import Blocks, Outlier, blocks, depth_distance, outlier
from mas_hooks.similarity.layers.accumulate import LayerPairs
from mas_hooks.similarity.layers.grid import LayerGrid
from mas_hooks.similarity.model_distance import Tree, arccos_distance, cluster
from mas_hooks.similarity.procrustes import procrustes, shape_distance
from mas_hooks.similarity.resampling import Measure
from mas_hooks.similarity.rsa import rdm, rsa

__all__ = [
    "Blocks",
    "LayerGrid",
    "LayerPairs",
    "Measure",
    "Outlier",
    "Tree",
    "arccos_distance",
    "blocks",
    "cka",
    "cluster",
    "depth_distance",
    "outlier",
    "procrustes",
    "rdm",
    "rsa",
    "shape_distance",
]
