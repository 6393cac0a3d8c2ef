"""Correlational measures of two networks: matched rows in, a number with its spread out. They imply no shared cause."""

from mas_hooks.similarity.cka import cka
from mas_hooks.similarity.measure import Measure
from mas_hooks.similarity.rsa import rdm, rsa

__all__ = ["Measure", "cka", "rdm", "rsa"]
