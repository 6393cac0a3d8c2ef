"""Where in a model something happens: a `Site` is a named place, a `Where` is cells inside a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mas_hooks.core.errors import PositionError, SettingError, ShapeError

Side = Literal["input", "output"]


@dataclass(frozen=True, eq=False)
class Where:
    """Cells (row, column) of a batch; columns count from the left, padding included.

    rows (n,) int, columns (n,) int. A row may occur any number of times, a cell once.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> where = mh.Where.one_per_row([2, 0])  # column 2 of row 0, column 0 of row 1
        >>> h = torch.arange(12).reshape(2, 3, 2)
        >>> where.gather(h)
        tensor([[4, 5],
                [6, 7]])
    """

    rows: Int[Tensor, " n"]
    columns: Int[Tensor, " n"]

    def __init__(self, rows: Tensor | Sequence[int], columns: Tensor | Sequence[int]) -> None:
        for name, given in (("rows", rows), ("columns", columns)):
            value = torch.as_tensor(given)
            if value.is_floating_point() and not torch.equal(value, value.round()):
                raise SettingError(f"Where({name})", given, "a list of integers")
            device = None if name == "rows" else self.rows.device
            object.__setattr__(self, name, value.to(device=device, dtype=torch.int64))
        if self.rows.ndim != 1 or self.rows.shape != self.columns.shape:
            got = (tuple(self.rows.shape), tuple(self.columns.shape))
            raise ShapeError("Where(rows, columns)", got, "two equally long lists of integers")

    @classmethod
    def one_per_row(cls, columns: Tensor | Sequence[int]) -> Where:
        """One cell in every row: row i at columns[i]."""
        columns = torch.as_tensor(columns, dtype=torch.int64)
        return cls(torch.arange(len(columns), device=columns.device), columns)

    @classmethod
    def from_mask(cls, mask: Bool[Tensor, "batch position"]) -> Where:
        """All cells where `mask` is True, row by row."""
        rows, columns = mask.nonzero(as_tuple=True)
        return cls(rows, columns)

    @classmethod
    def cat(cls, several: Sequence[Where]) -> Where:
        """The cells of several, in order."""
        return cls(torch.cat([where.rows for where in several]), torch.cat([where.columns for where in several]))

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device) -> Where:
        """The same cells with their index tensors on `device`."""
        return Where(self.rows.to(device), self.columns.to(device))

    def gather(self, h: Float[Tensor, "batch position width"]) -> Float[Tensor, "n width"]:
        """The vectors of these cells."""
        return h[self.rows, self.columns]

    def scatter(
        self, h: Float[Tensor, "batch position width"], vectors: Float[Tensor, "n width"]
    ) -> Float[Tensor, "batch position width"]:
        """A copy of `h` with these cells replaced; gradients flow to both."""
        return h.index_put((self.rows, self.columns), vectors.to(h.dtype))

    def check(self, batch: int, positions: int, mask: Tensor | None, where: str) -> None:
        """Raise PositionError at the first cell outside a batch or on padding.

        Args:
            batch: rows of the batch.
            positions: columns of the batch.
            mask: (batch, positions) bool, False on padding; None for a batch without padding.
            where: what the error calls the batch, such as "the inputs".

        Raises:
            PositionError: a cell is not in the batch, or is padding.
        """
        outside = (self.rows < 0) | (self.rows >= batch) | (self.columns < 0) | (self.columns >= positions)
        if outside.any():
            self._refuse(outside, where, f"rows run 0 to {batch - 1}, positions 0 to {positions - 1}")
        if mask is not None:
            padded = ~mask.to(self.rows.device)[self.rows, self.columns]
            if padded.any():
                self._refuse(
                    padded, where, "that cell is padding (attention_mask 0); mas_hooks.positions counts tokens"
                )

    def _refuse(self, bad: Tensor, where: str, allowed: str) -> None:
        first = int(bad.nonzero()[0])
        raise PositionError(int(self.rows[first]), int(self.columns[first]), where, allowed)


@runtime_checkable
class ModelHandle(Protocol):
    """What a site knows of the model it is in (a `HookedModel`, or nothing that runs)."""

    @property
    def name(self) -> str:
        """The model's name in tables and errors."""
        ...


@dataclass(frozen=True)
class Site:
    """A named place in a model, `width` units wide; `side` says whether it is a module's input or its output.

    basis: `raw`, or how TransformerLens' compatibility mode has changed the vectors there (`centred`, `folded`).
    """

    model: ModelHandle
    name: str
    width: int
    side: Side = "output"
    basis: str = "raw"

    def __str__(self) -> str:
        return f"{self.model.name}:{self.name}" + (":input" if self.side == "input" else "")


@dataclass(frozen=True, eq=False)
class Recording:
    """A site without a model: activations measured elsewhere. It can be the source of a swap, never its target.

    Attributes:
        name: of the site.
        activations: (row, position, width) float32.
        variables: name -> (row, position) values at each cell.
    """

    name: str
    activations: Float[Tensor, "row position width"]
    variables: Mapping[str, np.ndarray[Any, Any]]

    @property
    def width(self) -> int:
        """Units recorded."""
        return self.activations.shape[-1]

    def __str__(self) -> str:
        return self.name


def recording(
    activations: Tensor | np.ndarray[Any, Any], variables: Mapping[str, Sequence[Any] | np.ndarray[Any, Any]], name: str
) -> Recording:
    """Make a site from recorded activations and the variables at their cells.

    Args:
        activations: (rows, width) or (rows, positions, width).
        variables: name -> values (rows,) or (rows, positions), as the activations are.
        name: of the recording, in tables and errors.

    Returns:
        A site without a model: it can be the source of a swap, never its target.

    Raises:
        ShapeError: the activations have another number of axes, or a variable other cells than they.

    Example:
        >>> import numpy as np
        >>> import mas_hooks as mh
        >>> spikes = np.random.default_rng(0).normal(size=(4, 8))
        >>> brain = mh.recording(spikes, {"count": [1, 2, 3, 4]}, name="area 7a")
        >>> brain.width, tuple(brain.activations.shape)
        (8, (4, 1, 8))
    """
    values = torch.as_tensor(activations).detach().to(torch.float32)
    if values.ndim not in (2, 3):
        raise ShapeError(f"recording {name!r}", tuple(values.shape), "(rows, width) or (rows, positions, width)")
    cells = tuple(values.shape[:-1])
    arrays = {key: np.asarray(value) for key, value in variables.items()}
    for key, array in arrays.items():
        if array.shape != cells:
            raise ShapeError(f"variable {key!r} of recording {name!r}", array.shape, str(cells))
    if values.ndim == 2:
        values, arrays = values[:, None], {key: array[:, None] for key, array in arrays.items()}
    return Recording(name, values, arrays)
