"""A similarity of every layer of one model with every layer of another, with its error and as records."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mas_hooks.core.records import Record
from mas_hooks.similarity.rows import Matrix


@dataclass(frozen=True, eq=False)
class LayerGrid:
    """`values[i, j]` compares layer i of model a with layer j of model b; all (layers_a, layers_b), float64.

    errors: standard error over minibatches (delta method), NaN where there was but one. It tells how much the choice of
    rows matters, not how another pair of models would do. rows: how many were compared, in `minibatches`.
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
        told = f"{self.rows:,} rows in {self.minibatches} minibatches"
        lines = [f"{self.measure} of {self.model_a} (rows) and {self.model_b} (columns), {told}"]
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
        """One record a layer pair, row by row; bounds are 1.96 standard errors away, inside [−1, 1]."""
        low, high = (np.clip(self.values + 1.96 * sign * self.errors, -1, 1) for sign in (-1, 1))
        return [
            Record(
                recipe=recipe,
                comparison=comparison or f"{self.model_a} × {self.model_b}",
                source_model=self.model_a,
                target_model=self.model_b,
                seed=seed,
                control=control,
                measure=self.measure,
                layer_a=layer_a,
                layer_b=layer_b,
                value=float(self.values[i, j]),
                value_low=None if np.isnan(low[i, j]) else float(low[i, j]),
                value_high=None if np.isnan(high[i, j]) else float(high[i, j]),
            )
            for i, layer_a in enumerate(self.layers_a)
            for j, layer_b in enumerate(self.layers_b)
        ]
