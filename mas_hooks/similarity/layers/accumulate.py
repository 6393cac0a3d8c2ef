"""Minibatches of rows in, a similarity of all layer pairs out: nothing of a minibatch is kept but its few terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from mas_hooks.core.errors import EmptyError, NotFiniteError, ShapeError, UnknownNameError, UnsupportedError
from mas_hooks.similarity.layers.grid import LayerGrid
from mas_hooks.similarity.layers.hsic import hsic_of_all_pairs, make_features, widen_features
from mas_hooks.similarity.rows import Matrix
from mas_hooks.similarity.rsa import rank_distances

Average = Literal["terms", "ratios"]
Layers: TypeAlias = Sequence[Tensor]
Names: TypeAlias = Sequence[str]
Terms: TypeAlias = Callable[[Layers, Layers, Names, Names], tuple[Matrix, Matrix, Matrix]]


def _hsic(a: Layers, b: Layers, *_: Names, kernel: str, unbiased: bool) -> tuple[Matrix, Matrix, Matrix]:
    dtype, device = widen_features([*a, *b]), a[0].device
    left = [make_features(rows.to(device), kernel, dtype) for rows in a]
    right = left if b is a else [make_features(rows.to(device), kernel, dtype) for rows in b]
    found = hsic_of_all_pairs(left, right, unbiased)
    return found.cross.numpy(), found.a.numpy(), found.b.numpy()


def _spearman(a: Layers, b: Layers, names_a: Names, names_b: Names) -> tuple[Matrix, Matrix, Matrix]:
    """Products of centred ranks of the RDMs: cross and of each layer with itself."""
    left = rank_distances(a, names_a)
    right = left if b is a else rank_distances(b, names_b)
    return left @ right.T, np.square(left).sum(1), np.square(right).sum(1)


MEASURES: dict[str, tuple[int, Terms]] = {
    "cka": (4, partial(_hsic, kernel="linear", unbiased=True)),
    "cka_cosine": (4, partial(_hsic, kernel="cosine", unbiased=True)),
    "cka_biased": (3, partial(_hsic, kernel="linear", unbiased=False)),
    "cka_cosine_biased": (3, partial(_hsic, kernel="cosine", unbiased=False)),
    "rsa": (3, _spearman),
}
"""The fewest rows of a minibatch, and the terms: of all pairs, and of each layer with itself."""


class LayerPairs:
    """Adds up the terms of minibatches; `value = cross / sqrt(a · b)`.

    average="terms" divides the means over minibatches (Nguyen 2021), "ratios" takes the mean of what each gives
    (Brown 2023, App. C), as RSA always does. Every minibatch counts the same.
    a, b: the name of a model and those of its layers. Raises UnknownNameError.
    """

    def __init__(
        self, a: tuple[str, Names], b: tuple[str, Names], measure: str = "cka", average: str = "terms"
    ) -> None:
        if measure not in MEASURES:
            raise UnknownNameError("measure", measure, MEASURES, "cka_layers")
        if average not in get_args(Average):
            raise UnknownNameError("average", average, get_args(Average), "cka_layers")
        self.a, self.b, self.measure = a, b, measure
        self.average = "ratios" if measure == "rsa" else average  # ranks of one minibatch mean nothing in another
        self.names_a, self.names_b = ([f"{model}:{layer}" for layer in layers] for model, layers in (a, b))
        self.rows, self.minibatches = 0, 0
        self._sums, self._squares = np.zeros(1), np.zeros(1)

    def add(self, a: Layers, b: Layers) -> None:
        """One minibatch: the rows (n, width) of each layer of both models, row i of all belonging together.

        With `b is a` kernels are made once. Raises ShapeError, NotFiniteError, UnsupportedError.
        """
        fewest, terms_of = MEASURES[self.measure]
        named = [*zip(self.names_a, a, strict=True), *zip(self.names_b, b, strict=True)]
        self._check_shapes(named, fewest)
        cross, own_a, own_b = terms_of(a, b, self.names_a, self.names_b)
        if not (np.isfinite(own_a).all() and np.isfinite(own_b).all()):
            _refuse_not_finite(named)
        terms = np.stack(np.broadcast_arrays(cross, own_a[:, None], own_b))
        if self.average == "ratios":
            terms = self._ratio(terms, f"minibatch {self.minibatches}")[None]
        self._sums = self._sums + terms
        self._squares = self._squares + terms[:, None] * terms
        self.rows, self.minibatches = self.rows + len(a[0]), self.minibatches + 1

    def result(self) -> LayerGrid:
        """What the minibatches so far say. Raises EmptyError, UnsupportedError."""
        if not self.minibatches:
            raise EmptyError("the list of minibatches", "add one")
        means = self._sums / self.minibatches
        values = means[0] if self.average == "ratios" else self._ratio(means, "the inputs")
        return LayerGrid(
            measure=self.measure,
            model_a=self.a[0],
            model_b=self.b[0],
            layers_a=tuple(self.a[1]),
            layers_b=tuple(self.b[1]),
            values=np.clip(values, -1.0, 1.0),
            errors=self._errors(means, values),
            rows=self.rows,
            minibatches=self.minibatches,
        )

    def _errors(self, means: Matrix, values: Matrix) -> Matrix:
        """Standard error of the values, from how the terms vary over minibatches, by first derivatives."""
        m = self.minibatches
        if m == 1:
            return np.full(values.shape, np.nan)
        slopes = np.ones_like(means)
        if self.average == "terms":
            _, a, b = means
            slopes = np.stack([1 / (np.sqrt(a) * np.sqrt(b)), -values / (2 * a), -values / (2 * b)])
        covariance = (self._squares / m - means[:, None] * means) / (m - 1)
        return np.sqrt(np.einsum("iab,ijab,jab->ab", slopes, covariance, slopes).clip(0))

    def _ratio(self, terms: Matrix, where: str) -> Matrix:
        cross, a, b = terms
        for own, names in ((a[:, 0], self.names_a), (b[0], self.names_b)):
            if (flat := own <= 0).any():
                name = names[int(flat.argmax())]
                what = f"{self.measure} of {name}, whose rows are all alike over {where},"
                raise UnsupportedError(what, "leave that site out, or pass inputs on which it differs")
        return cross / (np.sqrt(a) * np.sqrt(b))

    def _check_shapes(self, named: Sequence[tuple[str, Tensor]], fewest: int) -> None:
        first, n = named[0][0], len(named[0][1])
        for name, rows in named:
            what = f"what passes {name} in minibatch {self.minibatches}"
            if rows.ndim != 2 or len(rows) != n:
                raise ShapeError(what, tuple(rows.shape), f"({n}, width), one row for each of {first},")
        if n < fewest:
            remedy = f"({fewest} or more, width) for {self.measure}: a larger batch_size or longer inputs"
            raise ShapeError(f"what passes {first} in minibatch {self.minibatches}", tuple(named[0][1].shape), remedy)


def _refuse_not_finite(named: Sequence[tuple[str, Tensor]]) -> None:
    for name, rows in named:
        if bad := int((~torch.isfinite(rows)).sum()):
            raise NotFiniteError(f"what passes {name}", bad)
    raise UnsupportedError("a similarity of layers with numbers near the largest of float32", "scale them down")
