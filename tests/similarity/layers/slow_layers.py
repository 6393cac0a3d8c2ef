"""The slow form of every measure between two layers: float64, one pair at a time, as the papers print it."""

import math

import numpy as np


def kernel(x, name):
    x = np.asarray(x, dtype=np.float64)
    x = x - x.mean(0)
    if name == "cosine":
        deviations = x.std(0)
        x = x / np.where(deviations == 0, 1, deviations)
        lengths = np.linalg.norm(x, axis=1, keepdims=True)
        x = x / np.where(lengths == 0, 1, lengths)
    return x @ x.T


def hsic_1(k, other):
    """METHODS of Brown 2023, App. C, with the scalar that its last term must be."""
    n = len(k)
    k, other = k - np.diag(np.diag(k)), other - np.diag(np.diag(other))
    ones = np.ones(n)
    whole = (ones @ k @ ones) * (ones @ other @ ones) / ((n - 1) * (n - 2))
    return (np.trace(k @ other.T) + whole - 2 / (n - 2) * (ones @ k @ other @ ones)) / (n * (n - 3))


def hsic_biased(k, other):
    n = len(k)
    h = np.eye(n) - np.ones((n, n)) / n
    return np.trace(k @ h @ other @ h) / (n - 1) ** 2


def cka_terms(batches, name="linear", hsic=hsic_1):
    """Of minibatches [(x, y), …]: the means of the three terms, divided once."""
    xy, xx, yy = _terms(batches, name, hsic).mean(0)
    return xy / math.sqrt(xx * yy)


def cka_ratios(batches, name="linear", hsic=hsic_1):
    """The mean of what each minibatch gives."""
    xy, xx, yy = _terms(batches, name, hsic).T
    return (xy / np.sqrt(xx * yy)).mean()


def _terms(batches, name, hsic):
    found = []
    for x, y in batches:
        k, other = kernel(x, name), kernel(y, name)
        found.append((hsic(k, other), hsic(k, k), hsic(other, other)))
    return np.array(found)
