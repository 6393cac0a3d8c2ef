"""Correlational measures of two networks: matched rows in, a number with its spread out. They imply no shared cause."""

from mas_hooks.similarity.cka import cka
from mas_hooks.similarity.distance import Tree, arccos_distance, cluster
from mas_hooks.similarity.layer_grid import LayerGrid
from mas_hooks.similarity.layer_pairs import LayerPairs
from mas_hooks.similarity.measure import Measure
from mas_hooks.similarity.procrustes import procrustes, shape_distance
from mas_hooks.similarity.rsa import rdm, rsa

__all__ = [
    "LayerGrid",
    "LayerPairs",
    "Measure",
    "Tree",
    "arccos_distance",
    "cka",
    "cluster",
    "procrustes",
    "rdm",
    "rsa",
    "shape_distance",
]
