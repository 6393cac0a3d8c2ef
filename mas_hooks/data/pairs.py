"""Pairs as tensors: a source, a target, and the continuation that is expected after the swap."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mas_hooks.core import inputs as model_inputs
from mas_hooks.core.errors import EmptyError, SettingError, ShapeError, UnknownNameError, UnsupportedError
from mas_hooks.core.inputs import Inputs
from mas_hooks.core.sites import Where


@dataclass(frozen=True, eq=False)
class Pairs:
    """n matched pairs of one direction. The i-th cell of `source_where` gives to the i-th cell of `target_where`.

    Attributes:
        source_inputs: what the source model reads; None when the source is a recording, whose cells `source_where`
            names.
        source_where: the cells that give.
        target_inputs: the target's prefix with the expected continuation; None when the target is a recording.
        target_where: the cells that receive.
        labels: (n, position), the next token wanted at each position.
        label_mask: (n, position), where the loss looks.
        deterministic_mask: (n, position), where the trial must be right.
        source_key: one per cell of `source_where`, equal where the swapped variables are, so that models can be
            matched; default the number of the cell.
        redraws: draws that had to be repeated.
        expected: name -> (cells,) values of the target's variables right after the swap, one per cell of
            `target_where`; None where they are not known.

    Example:
        >>> import mas_hooks as mh
        >>> train, _, _ = mh.task_pairs(["multi_object"], ["count"], sizes=(50, 1, 1))
        >>> pairs = train[0, 0]
        >>> pairs
        Pairs(50 pairs, 50 swapped cells)
        >>> pairs.labels.shape == pairs.target_inputs.shape, pairs.single
        (True, True)
    """

    source_inputs: Inputs | None
    source_where: Where
    target_inputs: Inputs | None
    target_where: Where
    labels: Int[Tensor, "n position"]
    label_mask: Bool[Tensor, "n position"]
    deterministic_mask: Bool[Tensor, "n position"]
    source_key: Int[Tensor, " cells"]
    redraws: int = 0
    expected: Mapping[str, np.ndarray] | None = None

    @classmethod
    def from_tensors(
        cls,
        source_inputs: Inputs | None,
        source_where: Where,
        target_inputs: Inputs | None,
        target_where: Where,
        labels: Tensor,
        label_mask: Tensor,
        deterministic_mask: Tensor | None = None,
        source_key: Tensor | None = None,
        expected: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
    ) -> Pairs:
        """Pairs from a user's tensors.

        Nothing is run in a recording: labels and masks may be (n, 0) where target_inputs is None.

        Args:
            source_inputs: what the source model reads, or None.
            source_where: the cells that give.
            target_inputs: the target's prefix with the expected continuation, or None.
            target_where: the cells that receive, as many.
            labels: (n, position), the next token wanted at each position.
            label_mask: (n, position), where the loss looks.
            deterministic_mask: (n, position), where the trial must be right; default label_mask.
            source_key: one integer per source cell, default its number.
            expected: name -> (cells,) values of the target's variables right after the swap.

        Returns:
            The pairs, checked.

        Raises:
            EmptyError: there is no pair, or a pair has no position to be judged at.
            ShapeError: two parts do not fit.
            SettingError: labels are no integers.
            PositionError: a cell lies outside its inputs, or on padding.

        Example:
            >>> import torch
            >>> import mas_hooks as mh
            >>> ids = torch.tensor([[4, 5, 6], [7, 8, 9]])
            >>> where = mh.Where.one_per_row([1, 1])
            >>> labels, mask = torch.tensor([[5, 6, 0], [8, 9, 0]]), torch.tensor([[0, 1, 0], [0, 1, 0]])
            >>> mh.Pairs.from_tensors(ids, where, ids, where, labels, mask)
            Pairs(2 pairs, 2 swapped cells)
        """
        if len(labels) == 0:
            raise EmptyError("the set of pairs", "give at least one pair")
        if labels.is_floating_point():
            raise SettingError("the dtype of labels", labels.dtype, "an integer: the wanted token at each position")
        det = label_mask if deterministic_mask is None else deterministic_mask
        key = torch.arange(len(source_where)) if source_key is None else source_key
        judged = (labels.long(), label_mask.bool(), det.bool())
        after = None if expected is None else {name: np.asarray(values) for name, values in expected.items()}
        pairs = cls(source_inputs, source_where, target_inputs, target_where, *judged, source_key=key, expected=after)
        pairs._check_labels()
        pairs._check_cells()
        return pairs

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Pairs({len(self)} pairs, {len(self.target_where)} swapped cells)"

    @property
    def run_inputs(self) -> Inputs:
        """What a target model reads. Raises UnsupportedError for pairs that serve the latent loss alone."""
        if self.target_inputs is None or self.labels.shape[1] == 0:
            raise UnsupportedError("running a model on pairs without target inputs or labels", "give pairs with both")
        return self.target_inputs

    @cached_property
    def single(self) -> bool:
        """Whether every pair swaps exactly one cell, in row order."""
        rows = self.target_where.rows
        return len(rows) == len(self) and bool((rows.cpu() == torch.arange(len(self))).all())

    @cached_property
    def fingerprint(self) -> int:
        """A number that differs for other pairs: of labels, masks, cells, swapped and expected values."""
        cells = [axis for where in (self.source_where, self.target_where) for axis in (where.rows, where.columns)]
        tensors = (self.labels, self.label_mask, self.deterministic_mask, self.source_key, *cells)
        after = {name: values.tolist() for name, values in (self.expected or {}).items()}
        return zlib.crc32(b"".join(tensor.cpu().numpy().tobytes() for tensor in tensors) + repr(after).encode())

    @cached_property
    def _begins(self) -> Int[Tensor, " n_and_1"] | None:
        """Where the cells of each row begin among all, and the end of the last; None where rows are not in order."""
        rows = self.target_where.rows.cpu()
        if len(rows) > 1 and bool((rows[1:] < rows[:-1]).any()):
            return None
        return torch.searchsorted(rows, torch.arange(len(self) + 1))

    def cells(self, index: Int[Tensor, " batch"]) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
        """Which cells belong to a batch of pairs, in rising order, and which row of the batch each is in."""
        if self.single or self.target_inputs is None:  # cells of a recording: one a pair, in rows of their own
            return index, torch.arange(len(index), device=index.device)
        if self._begins is not None:  # the work follows the batch, not all pairs
            begins, (rows, row) = self._begins.to(index.device), index.sort()
            counts = begins[rows + 1] - begins[rows]
            skipped = begins[rows] - torch.cat([counts.new_zeros(1), counts.cumsum(0)[:-1]])
            number = torch.arange(int(counts.sum()), device=index.device) + skipped.repeat_interleave(counts)
            return number, row.repeat_interleave(counts)
        rows = self.target_where.rows.to(index.device)
        place = torch.full((len(self),), -1, device=index.device)
        place[index] = torch.arange(len(index), device=index.device)
        number = (place[rows] >= 0).nonzero()[:, 0]
        return number, place[rows[number]]

    def _check_labels(self) -> None:
        if self.labels.ndim != 2:
            raise ShapeError("labels", tuple(self.labels.shape), "(pairs, positions)")
        n, positions = self.labels.shape
        for name, mask in (("label_mask", self.label_mask), ("deterministic_mask", self.deterministic_mask)):
            if mask.shape != self.labels.shape:
                raise ShapeError(name, tuple(mask.shape), f"the shape of labels, {(n, positions)},")
            if self.target_inputs is not None and not mask.any(dim=1).all():
                row = int((~mask.any(dim=1)).nonzero()[0])
                raise EmptyError(f"{name} of pair {row}", "every pair needs a position to be judged at")

    def _check_cells(self) -> None:
        n, positions = self.labels.shape
        if len(self.source_where) != len(self.target_where):
            got = (len(self.source_where), len(self.target_where))
            raise ShapeError("(source_where, target_where)", got, "one source cell for every target cell")
        if self.source_key.shape != (len(self.source_where),):
            allowed = f"({len(self.source_where)},), one key a source cell,"
            raise ShapeError("source_key", tuple(self.source_key.shape), allowed)
        named = {"source": (self.source_inputs, self.source_where), "target": (self.target_inputs, self.target_where)}
        for side, (inputs, where) in named.items():
            if inputs is not None:
                shape = tuple(model_inputs.leading_tensor(inputs).shape)
                if len(shape) < 2 or shape[0] != n or (side == "target" and shape[1] != positions):
                    allowed = f"({n}, {positions}), as the labels have," if side == "target" else f"({n}, positions)"
                    raise ShapeError(f"{side}_inputs", shape, allowed)
                batch, length = shape[:2]
                where.check(batch, length, model_inputs.padding_mask(inputs), f"the {side} sequences")
        cells = (len(self.target_where),)
        for name, values in (self.expected or {}).items():
            if values.shape != cells:
                raise ShapeError(f"expected[{name!r}]", values.shape, f"{cells}, one value per target cell,")


Directed: TypeAlias = Pairs | Mapping[tuple[int, int], Pairs]


def of_direction(pairs: Directed, source: int, target: int) -> Pairs:
    """The pairs of source → target: one set for every direction, or the entry (source, target).

    Args:
        pairs: one set, or {(source, target): Pairs}.
        source: the number of the source model.
        target: the number of the target model.

    Returns:
        The pairs of this direction.

    Raises:
        SettingError: `pairs` is neither.
        EmptyError: there are none.
        UnknownNameError: there are none of this direction.
    """
    if isinstance(pairs, Pairs):
        return pairs
    if not isinstance(pairs, Mapping):
        raise SettingError("the pairs", type(pairs).__name__, "Pairs, or {(source, target): Pairs, …}")
    if not pairs:
        raise EmptyError("the set of pairs", "give Pairs, or {(source, target): Pairs, …} for every trained direction")
    if (source, target) not in pairs:
        raise UnknownNameError("direction", f"{source}→{target}", [f"{s}→{t}" for s, t in pairs], "the set of pairs")
    return pairs[source, target]
