"""Every similarity measure by its name, in one table: which estimator it is, and what it compares. No torch.

A name says the family, the kernel or the metric, and the estimator, so that no name means two numbers. Matched rows
are compared by `cka`, `rsa`, `shape_distance` and `procrustes`, each a function of its own; layer grids by
`compare_layers(measure=NAME)`.

Names of 0.1.0 stay accepted and stay the keys of records, where a record with `layer_a` is of a layer grid and one
without of matched rows: `cka` is linear and unbiased on a grid, and of cosines and biased on matched rows.

Example:
    >>> from mas_hooks.similarity import MEASURES, find_measure
    >>> [measure.name for measure in MEASURES.values() if measure.rows and measure.layers]
    ['cka_linear_unbiased', 'cka_linear_biased', 'cka_cosine_unbiased', 'cka_cosine_biased', 'rsa_cosine_spearman']
    >>> find_measure("cka", "layers").name, find_measure("cka", "rows").name
    ('cka_linear_unbiased', 'cka_cosine_biased')
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mas_hooks.core.errors import UnknownNameError, UnsupportedError

Compared = Literal["rows", "layers"]

_WORDS: dict[Compared, str] = {"rows": "matched rows", "layers": "layer grids"}


@dataclass(frozen=True, kw_only=True)
class SimilarityMeasure:
    """One row of the table.

    Attributes:
        name: the registry name, with the estimator in it.
        family: `cka`, `rsa` or `procrustes`.
        kernel: how rows are compared within one side: `linear` or `cosine`; None where no kernel is made.
        estimator: `unbiased`, `biased`, `spearman`, `angular` or `euclidean`.
        fewest: rows of a sample or of a minibatch that it needs.
        rows: whether there is a function of matched rows for it.
        layers: whether `compare_layers` takes it.
        summary: one line.

    Example:
        >>> from mas_hooks.similarity import MEASURES
        >>> measure = MEASURES["cka_cosine_biased"]
        >>> measure.family, measure.kernel, measure.estimator, measure.fewest
        ('cka', 'cosine', 'biased', 3)
    """

    name: str
    family: str
    kernel: str | None
    estimator: str
    fewest: int
    rows: bool
    layers: bool
    summary: str

    def compares(self, compared: Compared) -> bool:
        """Whether it compares matched rows, or layer grids."""
        return self.rows if compared == "rows" else self.layers


def _cka(kernel: str, estimator: str, summary: str) -> SimilarityMeasure:
    return SimilarityMeasure(
        name=f"cka_{kernel}_{estimator}",
        family="cka",
        kernel=kernel,
        estimator=estimator,
        fewest=4 if estimator == "unbiased" else 3,
        rows=True,
        layers=True,
        summary=summary,
    )


def _procrustes(estimator: str, summary: str) -> SimilarityMeasure:
    return SimilarityMeasure(
        name=f"procrustes_{estimator}",
        family="procrustes",
        kernel=None,
        estimator=estimator,
        fewest=3,
        rows=True,
        layers=False,
        summary=summary,
    )


_RSA = SimilarityMeasure(
    name="rsa_cosine_spearman",
    family="rsa",
    kernel="cosine",
    estimator="spearman",
    fewest=3,
    rows=True,
    layers=True,
    summary="Spearman correlation of the distances 1 − cosine between rows (Grant 2025, A.3).",
)

MEASURES: dict[str, SimilarityMeasure] = {
    measure.name: measure
    for measure in (
        _cka("linear", "unbiased", "CKA of centred rows by HSIC₁ (Nguyen 2021): 0 for unrelated rows."),
        _cka("linear", "biased", "CKA of centred rows (Kornblith 2019): few wide rows look alike."),
        _cka("cosine", "unbiased", "CKA of cosines of z-scored units, by HSIC₁."),
        _cka("cosine", "biased", "CKA of cosines of z-scored units (Grant 2025, A.4)."),
        _RSA,
        _procrustes("angular", "Angle left after the best rotation (Williams 2021): a metric."),
        _procrustes("euclidean", "‖X − Y Q‖ under the best rotation Q (Ding 2021): a metric."),
    )
}
"""Registry name -> measure. Add a measure here first."""

ALIASES: dict[Compared, dict[str, str]] = {
    "rows": {
        "cka": "cka_cosine_biased",
        "cka_cosine": "cka_cosine_biased",
        "cka_linear": "cka_linear_biased",
        "rsa": "rsa_cosine_spearman",
        "shape_distance": "procrustes_angular",
        "procrustes": "procrustes_euclidean",
    },
    "layers": {
        "cka": "cka_linear_unbiased",
        "cka_biased": "cka_linear_biased",
        "cka_cosine": "cka_cosine_unbiased",
        "rsa": "rsa_cosine_spearman",
    },
}
"""Names of 0.1.0 -> registry names, of matched rows and of layer grids: in settings, and in records on disk.

The first alias of a measure is its key in records, see `find_record_key`.
"""


def find_measure(name: str, compared: Compared, where: str = "the table of similarity measures") -> SimilarityMeasure:
    """The measure of a registry name, or of a name of 0.1.0.

    Args:
        name: a registry name, such as `cka_linear_unbiased`, or an alias.
        compared: `rows` for matched rows, `layers` for layer grids.
        where: who looks it up, for the error.

    Returns:
        The row of the table.

    Raises:
        UnknownNameError: the table has no such name; says the nearest.
        UnsupportedError: the measure compares the other kind only.

    Example:
        >>> from mas_hooks.similarity import find_measure
        >>> find_measure("cka_biased", "layers").name
        'cka_linear_biased'
    """
    aliases = ALIASES[compared]
    measure = MEASURES.get(aliases.get(name, name))
    allowed = [known.name for known in MEASURES.values() if known.compares(compared)]
    if measure is None:
        raise UnknownNameError("measure", name, [*allowed, *aliases], where)
    if not measure.compares(compared):
        raise UnsupportedError(f"the measure {name!r} of {_WORDS[compared]}", f"choose one of {', '.join(allowed)}")
    return measure


def find_record_key(name: str, compared: Compared) -> str:
    """What records call a measure: its name of 0.1.0, so that old and new results are drawn together.

    Example:
        >>> from mas_hooks.similarity.registry import find_record_key
        >>> find_record_key("cka_linear_unbiased", "layers"), find_record_key("cka_cosine_biased", "layers")
        ('cka', 'cka_cosine_biased')
    """
    registered = find_measure(name, compared).name
    return next((alias for alias, measure in ALIASES[compared].items() if measure == registered), registered)
