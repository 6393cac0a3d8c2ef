"""The grids of layers of a family, read from the records of a run, and what is computed from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mas_hooks.core.records import Record
from mas_hooks.similarity import Blocks, Outlier, depth_distance, find_blocks, find_outlier


@dataclass(frozen=True)
class FamilyGrids:
    """The grids of a run by (member, member), the trained members smallest first; `untrained` is the known outlier."""

    members: tuple[str, ...]
    untrained: str | None
    grids: Mapping[tuple[str, str], np.ndarray]

    @classmethod
    def of(cls, rows: Iterable[Record]) -> FamilyGrids:
        """From the records of a run."""
        gathered: dict[tuple[str, str], list[Record]] = {}
        rows = list(rows)
        for row in rows:
            if row.layer_a is not None:
                gathered.setdefault((str(row.source_model), str(row.target_model)), []).append(row)
        grids = {pair: _read_grid(grid_rows) for pair, grid_rows in gathered.items()}
        sizes = {str(row.source_model): row.value or 0.0 for row in rows if row.measure == "parameters"}
        fresh = [str(row.source_model) for row in rows if row.control == "untrained"]
        return cls(tuple(sorted(sizes, key=lambda name: sizes[name])), fresh[0] if fresh else None, grids)

    def grid(self, first: str, second: str) -> np.ndarray:
        """CKA of every layer of the first member with every layer of the second."""
        return self.grids[first, second] if (first, second) in self.grids else self.grids[second, first].T

    def distances(self, names: tuple[str, ...]) -> np.ndarray:
        """Radians at matched depths, all pairs."""
        return np.array([[0.0 if a == b else depth_distance(self.grid(a, b)) for b in names] for a in names])

    def find_farthest(self, *, known: bool = False) -> Outlier:
        """The member farthest out; with the untrained copy among them where `known`."""
        names = (*self.members, *([self.untrained] if known and self.untrained else []))
        return find_outlier(self.distances(names), names)

    def find_blocks(self, name: str) -> Blocks | None:
        """Of a member of four layers or more."""
        grid = self.grid(name, name)
        return find_blocks(grid) if len(grid) >= 4 else None


def _read_grid(rows: list[Record]) -> np.ndarray:
    names = [list(dict.fromkeys(getattr(row, key) for row in rows)) for key in ("layer_a", "layer_b")]
    values = np.full((len(names[0]), len(names[1])), np.nan)
    for row in rows:
        values[names[0].index(row.layer_a), names[1].index(row.layer_b)] = row.value
    return values


def find_thirds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which third of the depth each layer of both sides is in."""
    high, wide = (((np.arange(count) + 0.5) / count * 3).astype(int) for count in values.shape)
    return high, wide


def average_middle(values: np.ndarray) -> float:
    """The mean of the middle thirds of both sides, of three layers or more."""
    high, wide = find_thirds(values)
    return float(values[np.ix_(high == 1, wide == 1)].mean())


def average_off_diagonal(values: np.ndarray) -> float:
    """The mean over two different layers of one model; NaN for one layer."""
    return float(values[~np.eye(len(values), dtype=bool)].mean()) if len(values) > 1 else float("nan")
