"""A similarity of every layer of one model with every layer of another, with its error and as records."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mas_hooks.core.records import Record
from mas_hooks.similarity.registry import find_record_key
from mas_hooks.similarity.rows import Matrix


@dataclass(frozen=True, eq=False)
class LayerGrid:
    """`values[i, j]` compares layer i of model a with layer j of model b; all (layers_a, layers_b), float64.

    Attributes:
        measure: a registry name of `similarity.MEASURES`.
        model_a, model_b: the names of the models.
        layers_a, layers_b: the names of their layers.
        values: the similarities, in [−1, 1].
        errors: standard error over minibatches (delta method), NaN where there was but one. It says how much the choice
            of rows matters, not how another pair of models would do.
        rows: how many were compared, in `minibatches`.

    Example:
        >>> import numpy as np
        >>> from mas_hooks.similarity import LayerGrid
        >>> values = np.array([[1.0, 0.25]])
        >>> grid = LayerGrid("cka_linear_unbiased", "a", "b", ("first",), ("first", "last"), values, 0 * values, 60, 3)
        >>> print(grid)
        cka_linear_unbiased of a (rows) and b (columns), 60 rows in 3 minibatches
        first  1.000  0.250
        >>> [(row.measure, row.layer_b, row.value) for row in grid.records()]
        [('cka', 'first', 1.0), ('cka', 'last', 0.25)]
    """

    measure: str
    model_a: str
    model_b: str
    layers_a: tuple[str, ...]
    layers_b: tuple[str, ...]
    values: Matrix
    errors: Matrix
    rows: int
    minibatches: int

    def __str__(self) -> str:
        compared = f"{self.rows:,} rows in {self.minibatches} minibatches"
        lines = [f"{self.measure} of {self.model_a} (rows) and {self.model_b} (columns), {compared}"]
        wide = max(len(name) for name in self.layers_a)
        for name, row in zip(self.layers_a, self.values, strict=True):
            lines.append(f"{name:<{wide}} " + " ".join(f"{value:6.3f}" for value in row))
        return "\n".join(lines)

    def records(
        self,
        recipe: str | None = None,
        comparison: str | None = None,
        control: str | None = None,
        seed: int | None = None,
    ) -> list[Record]:
        """One record for each layer pair, row by row; bounds are 1.96 standard errors away, inside [−1, 1].

        Args:
            recipe: the recipe's name.
            comparison: what is compared, default both models' names.
            control: the name of the control, where it is one.
            seed: the seed of what is compared.

        Returns:
            The records. Their `measure` is the key of 0.1.0 (`cka` for `cka_linear_unbiased`).
        """
        key = find_record_key(self.measure, "layers")
        low, high = (np.clip(self.values + 1.96 * sign * self.errors, -1, 1) for sign in (-1, 1))
        return [
            Record(
                recipe=recipe,
                comparison=comparison or f"{self.model_a} × {self.model_b}",
                source_model=self.model_a,
                target_model=self.model_b,
                seed=seed,
                control=control,
                measure=key,
                layer_a=layer_a,
                layer_b=layer_b,
                value=float(self.values[i, j]),
                value_low=None if np.isnan(low[i, j]) else float(low[i, j]),
                value_high=None if np.isnan(high[i, j]) else float(high[i, j]),
            )
            for i, layer_a in enumerate(self.layers_a)
            for j, layer_b in enumerate(self.layers_b)
        ]
