"""Patched forwards of a recurrent model from the patched state on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from mas_hooks import inputs as model_inputs
from mas_hooks.engine.labelled import AbstractRunner, Labelled, Part, join, labelled, rows_of, wanted
from mas_hooks.hooks.handle import HookedModel
from mas_hooks.hooks.state_tail import Packed, has_tail, run_tail
from mas_hooks.pairs import Pairs
from mas_hooks.sites import Site


@dataclass(frozen=True, eq=False)
class StateTailRunner(AbstractRunner):
    """Only the continuation, from the patched recurrent state on."""

    model: HookedModel
    site: Site
    name = "tail"

    def run(self, parts: Sequence[Part]) -> Labelled:
        device = self.model.device
        begins = torch.tensor([0, *(len(part.index) for part in parts)]).cumsum(0)
        cells = [self._cells(part, int(begin)) for part, begin in zip(parts, begins, strict=False)]
        row, steps = (torch.cat([cell[key] for cell in cells]).to(device) for key in (0, 1))
        lengths = torch.zeros(int(begins[-1]), dtype=torch.int64, device=device)
        lengths.scatter_reduce_(0, row, steps, "amax")
        packed = Packed.of(lengths)
        inputs = self._packed_inputs(parts, begins.to(device), packed)
        states = torch.cat([part.vectors for part in parts])
        logits = run_tail(self.model, self.site, states, packed, inputs, (row, steps))
        pieces = logits.split([len(cell[0]) for cell in cells])
        return join(
            [
                labelled(piece, part.pairs, rows, columns, (row - int(begin)).to(device), len(part.index))
                for piece, part, begin, (row, _, rows, columns) in zip(pieces, parts, begins, cells, strict=False)
            ]
        )

    def _cells(self, part: Part, begin: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(row of the batch, steps after the swap, row of the pairs, column) of every wanted position."""
        index = rows_of(part)
        row, columns = wanted(part.pairs)[index].nonzero(as_tuple=True)
        rows = index[row]
        return row + begin, columns - part.pairs.target_where.columns.to(rows.device)[rows], rows, columns

    def _packed_inputs(self, parts: Sequence[Part], begins: Tensor, packed: Packed) -> Tensor:
        """The model's inputs after each swap, in packed order."""
        device = packed.rows.device
        pieces, order = [], []
        for part, begin in zip(parts, begins, strict=False):
            inside = ((packed.rows >= begin) & (packed.rows < begin + len(part.index))).nonzero()[:, 0]
            rows = part.index.to(device)[packed.rows[inside] - begin]
            columns = part.pairs.target_where.columns.to(device)[rows] + packed.steps[inside] + 1
            pieces.append(model_inputs.leading(part.pairs.run_inputs).to(device)[rows, columns])
            order.append(inside)
        return torch.cat(pieces)[torch.cat(order).argsort()]


def steps_after(pairs: Pairs) -> Int[Tensor, "n position"]:
    """How far each position lies behind the swap of its row."""
    columns = pairs.target_where.columns.to(pairs.labels.device)
    return torch.arange(pairs.labels.shape[1], device=columns.device) - columns[:, None]


def suited(model: HookedModel, site: Site, pairs: Pairs) -> bool:
    """Whether these pairs can be run from the patched state on: one swap a row, nothing wanted before it."""
    return (
        has_tail(model, site)
        and pairs.single
        and isinstance(pairs.target_inputs, Tensor)
        and bool((steps_after(pairs)[wanted(pairs)] >= 0).all())
    )
