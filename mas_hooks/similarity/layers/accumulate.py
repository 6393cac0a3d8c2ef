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
from mas_hooks.similarity.registry import SimilarityMeasure, find_measure
from mas_hooks.similarity.rows import Matrix
from mas_hooks.similarity.rsa import rank_distances

Average = Literal["terms", "ratios"]
Layers: TypeAlias = Sequence[Tensor]
Names: TypeAlias = Sequence[str]
Terms: TypeAlias = Callable[[Layers, Layers, Names, Names], tuple[Matrix, Matrix, Matrix]]


def _hsic_terms(a: Layers, b: Layers, *_: Names, kernel: str, unbiased: bool) -> tuple[Matrix, Matrix, Matrix]:
    """HSIC of all layer pairs, and of each layer with itself."""
    dtype, device = widen_features([*a, *b]), a[0].device
    left = [make_features(rows.to(device), kernel, dtype) for rows in a]
    right = left if b is a else [make_features(rows.to(device), kernel, dtype) for rows in b]
    hsic = hsic_of_all_pairs(left, right, unbiased)
    return hsic.cross.numpy(), hsic.a.numpy(), hsic.b.numpy()


def _rank_terms(a: Layers, b: Layers, names_a: Names, names_b: Names) -> tuple[Matrix, Matrix, Matrix]:
    """Products of centred ranks of the RDMs, of all layer pairs, and of each layer with itself."""
    left = rank_distances(a, names_a)
    right = left if b is a else rank_distances(b, names_b)
    return left @ right.T, np.square(left).sum(1), np.square(right).sum(1)


def _find_terms(measure: SimilarityMeasure) -> Terms:
    """What a measure makes of a minibatch: the terms of all layer pairs, and of each layer with itself."""
    if measure.family == "rsa":
        return _rank_terms
    return partial(_hsic_terms, kernel=str(measure.kernel), unbiased=measure.estimator == "unbiased")


class LayerPairs:
    """Adds up the terms of minibatches; `value = cross / sqrt(a · b)`. Every minibatch counts the same.

    Args:
        a: the name of a model and those of its layers.
        b: the same of the other model.
        measure: a name of `similarity.MEASURES` that compares layers, or one of 0.1.0.
        average: `terms` divides the means over minibatches (Nguyen 2021), `ratios` takes the mean of what each gives
            (Brown 2023, App. C), as RSA always does.

    Raises:
        UnknownNameError: there is no such measure or average.
        UnsupportedError: the measure compares matched rows only.

    Example:
        >>> import torch
        >>> from mas_hooks.similarity import LayerPairs
        >>> pairs = LayerPairs(("a", ["first", "last"]), ("b", ["last"]))
        >>> generator = torch.Generator().manual_seed(0)
        >>> for _ in range(3):
        ...     x, y = torch.randn(2, 20, 5, generator=generator)
        ...     pairs.add([x, y], [2 * x])
        >>> grid = pairs.result()
        >>> grid.measure, grid.values.shape, grid.rows, grid.minibatches
        ('cka_linear_unbiased', (2, 1), 60, 3)
        >>> print(f"{grid.values[0, 0]:.3f}")
        1.000
    """

    def __init__(
        self,
        a: tuple[str, Names],
        b: tuple[str, Names],
        measure: str = "cka_linear_unbiased",
        average: str = "terms",
    ) -> None:
        self._measure = find_measure(measure, "layers", "compare_layers")
        if average not in get_args(Average):
            raise UnknownNameError("average", average, get_args(Average), "compare_layers")
        self.a, self.b, self.measure = a, b, self._measure.name
        # Ranks of one minibatch mean nothing in another.
        self.average = "ratios" if self._measure.family == "rsa" else average
        self._terms_of = _find_terms(self._measure)
        self.names_a, self.names_b = ([f"{model}:{layer}" for layer in layers] for model, layers in (a, b))
        self.rows, self.minibatches = 0, 0
        self._sums, self._squares = np.zeros(1), np.zeros(1)

    def add(self, a: Layers, b: Layers) -> None:
        """Add one minibatch: the rows (n, width) of each layer of both models, row i of all belonging together.

        With `b is a` kernels are made once. Raises ShapeError, NotFiniteError and UnsupportedError.
        """
        named = [*zip(self.names_a, a, strict=True), *zip(self.names_b, b, strict=True)]
        self._check_shapes(named)
        cross, self_a, self_b = self._terms_of(a, b, self.names_a, self.names_b)
        if not (np.isfinite(self_a).all() and np.isfinite(self_b).all()):
            _refuse_not_finite(named)
        terms = np.stack(np.broadcast_arrays(cross, self_a[:, None], self_b))
        if self.average == "ratios":
            terms = self._ratio(terms, f"minibatch {self.minibatches}")[None]
        self._sums = self._sums + terms
        self._squares = self._squares + terms[:, None] * terms
        self.rows, self.minibatches = self.rows + len(a[0]), self.minibatches + 1

    def result(self) -> LayerGrid:
        """The grid of the minibatches so far. Raises EmptyError without any, UnsupportedError for rows all alike."""
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
        for with_itself, names in ((a[:, 0], self.names_a), (b[0], self.names_b)):
            if (flat := with_itself <= 0).any():
                name = names[int(flat.argmax())]
                what = f"{self.measure} of {name}, whose rows are all alike over {where},"
                raise UnsupportedError(what, "leave that site out, or pass inputs on which it differs")
        return cross / (np.sqrt(a) * np.sqrt(b))

    def _check_shapes(self, named: Sequence[tuple[str, Tensor]]) -> None:
        first, n, fewest = named[0][0], len(named[0][1]), self._measure.fewest
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
