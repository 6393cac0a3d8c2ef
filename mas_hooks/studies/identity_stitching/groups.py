"""What the records of `identity-stitching` say of its two groups, with models as the unit of chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mas_hooks.core.records import Record
from mas_hooks.evaluation import GroupTest, PairTable, compare_groups, student_interval
from mas_hooks.similarity import Tree, arccos_distance, cluster_models

Pair = tuple[str, str]
Scores = Mapping[Pair, float]


@dataclass(frozen=True)
class Groups:
    """labels: the group of each model. accuracy: by (split, model). stitched: by (split, layer), of (source, target).
    cka: by layer, of (model, model). Layers are counted from 0, in their order."""

    labels: Mapping[str, str]
    accuracy: Mapping[Pair, float]
    stitched: Mapping[tuple[str, int], Scores]
    cka: Mapping[int, Scores]
    examples: Mapping[str, int]

    @classmethod
    def of(cls, rows: Iterable[Record]) -> Groups:
        """From the records of a run."""
        rows = list(rows)
        accuracies = [row for row in rows if row.measure == "accuracy"]
        names = list(dict.fromkeys(row.layer_a for row in rows if row.layer_a is not None))
        stitched: dict[tuple[str, int], dict[Pair, float]] = {}
        cka: dict[int, dict[Pair, float]] = {}
        for row in rows:
            if row.layer_a is not None:
                layer, pair = names.index(row.layer_a), (str(row.source_model), str(row.target_model))
                inside = row.measure == "stitched_accuracy"
                place = stitched.setdefault((str(row.split), layer), {}) if inside else cka.setdefault(layer, {})
                place[pair] = float(row.value or 0.0)
        return cls(
            {str(row.source_model): str(row.comparison).partition(" → ")[0] for row in accuracies},
            {(str(row.split), str(row.source_model)): float(row.value or 0.0) for row in accuracies},
            stitched,
            cka,
            {str(row.split): row.trials or 0 for row in accuracies},
        )

    @property
    def layers(self) -> int:
        """Blocks of each model."""
        return len(self.cka)

    @property
    def kinds(self) -> Pair:
        """The names of the groups."""
        first, second = dict.fromkeys(self.labels.values())
        return first, second

    def depth(self, layer: int) -> float:
        """The share of the blocks that come from the source."""
        return (layer + 1) / self.layers

    def penalties(self, split: str, layer: int) -> dict[Pair, float]:
        """Accuracy of the target minus that of the stitch; positive is worse. A model with itself included."""
        return {way: self.accuracy[split, way[1]] - value for way, value in self.stitched[split, layer].items()}

    def ways(self, split: str, layer: int) -> dict[str, tuple[float, float, float, float, float]]:
        """Mean penalty of each way between the groups: with its interval over models, then that over pairs."""
        costs, (first, second) = {}, self.kinds
        penalties = self.penalties(split, layer)
        for source, target in ((first, first), (second, second), (first, second), (second, first)):
            values = {
                (a, b): value
                for (a, b), value in penalties.items()
                if a != b and (source == target or self.labels[a] == source or self.labels[a] == self.labels[b])
            }
            table = compare_groups(PairTable.of(values, self.labels, "mean"), "both")
            group = table.groups[0 if (source, target) == (first, first) else 2 if source == target else 1]
            between = [
                v for (a, b), v in penalties.items() if a != b and (self.labels[a], self.labels[b]) == (source, target)
            ]
            ends = (group.low, group.high) if group.low is not None and group.high is not None else (np.nan, np.nan)
            costs[f"{source} → {target}"] = (group.mean, *ends, *student_interval(between))
        return costs

    def groups_part(self, split: str, layer: int) -> GroupTest:
        """How much more a stitch between the groups costs than one within them: the effect is above 0 then."""
        scores = {way: -value for way, value in self.penalties(split, layer).items()}
        return compare_groups(PairTable.of(scores, self.labels, "mean"), "both")

    def alike(self, layer: int) -> GroupTest:
        """How much higher the CKA within the groups is than between them."""
        return compare_groups(PairTable.of(self.cka[layer], self.labels, "mean"), "both")

    @cached_property
    def distances(self) -> dict[Pair, float]:
        """The arccos distance of every two models over all layers."""
        return {pair: arccos_distance([self.cka[layer][pair] for layer in range(self.layers)]) for pair in self.cka[0]}

    @cached_property
    def tree(self) -> Tree:
        """The models clustered by their distances."""
        table = PairTable.of(self.distances, self.labels, "mean")
        return cluster_models(table.scores, table.models)

    @property
    def misplaced(self) -> int:
        """Models that two clusters put with the other group, at the better of both readings."""
        first = set(self.tree.groups(2)[0])
        wrong = sum((name in first) != (label == self.kinds[0]) for name, label in self.labels.items())
        return min(wrong, len(self.labels) - wrong)
