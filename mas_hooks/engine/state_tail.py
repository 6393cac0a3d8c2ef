"""Patched forwards of a recurrent model from the patched state, or from the first patched position below it, on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mas_hooks import inputs as model_inputs
from mas_hooks.engine.cache import gather_site
from mas_hooks.engine.labelled import AbstractRunner, Labelled, Part, join, labelled, rows_of, wanted
from mas_hooks.errors import UnsupportedError
from mas_hooks.hooks.handle import HookedModel
from mas_hooks.hooks.state_tail import Packed, has_tail, only_state, own_start, run_tail
from mas_hooks.hooks.taps import Edit
from mas_hooks.pairs import Pairs
from mas_hooks.sites import Site, Where


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of one part within the batch. begin: its first row there.

    first (batch,): the first column of each row that is run. row, step (m,): of the wanted cells, where `step` counts
    the columns run up to there. pair, column (m,): the same cells in the pairs.
    """

    part: Part
    begin: int
    first: Int[Tensor, " batch"]
    row: Int[Tensor, " m"]
    step: Int[Tensor, " m"]
    pair: Int[Tensor, " m"]
    column: Int[Tensor, " m"]

    @classmethod
    def of(cls, part: Part, begin: int, lead: int) -> _Rows:
        """lead: how many columns after the first edited one the run begins."""
        index = rows_of(part)
        row, column = wanted(part.pairs)[index].nonzero(as_tuple=True)
        first = first_edits(part.pairs)[index] + lead
        return cls(part, begin, first, row + begin, column - first[row] + 1, index[row], column)

    def inputs(self, packed: Packed) -> tuple[Tensor, Tensor]:
        """What the model reads in these rows, and where in the packed order."""
        device = packed.rows.device
        inside = ((packed.rows >= self.begin) & (packed.rows < self.begin + len(self.first))).nonzero()[:, 0]
        row = packed.rows[inside] - self.begin
        column = self.first.to(device)[row] + packed.steps[inside]
        read = model_inputs.leading(self.part.pairs.run_inputs).to(device)
        return read[self.part.index.to(device)[row], column], inside

    def edits(self) -> tuple[Tensor, Tensor]:
        """(row of the batch, columns run before it) of every edited cell."""
        which, row = self.part.pairs.cells(rows_of(self.part))
        return row + self.begin, self.part.pairs.target_where.columns.to(row.device)[which] - self.first[row]

    def told(self, logits: Tensor) -> Labelled:
        """Logits of the wanted cells with what the pairs say of them."""
        row = (self.row - self.begin).to(logits.device)
        return labelled(logits, self.part.pairs, self.pair, self.column, row, len(self.part.index))


@dataclass(frozen=True, eq=False)
class StateTailRunner(AbstractRunner):
    """Only the continuation, from what the swap changes first on: a patched state, or a position below the recurrence.

    starts: for a site below, the unedited state before the first edit of every row of some pairs.
    """

    model: HookedModel
    site: Site
    starts: dict[int, tuple[Pairs, Tensor]] = field(default_factory=dict)
    name = "tail"

    def run(self, parts: Sequence[Part]) -> Labelled:
        device, below = self.model.device, self.state is not self.site
        begins = accumulate((len(part.index) for part in parts), initial=0)
        rows = [_Rows.of(part, begin, 0 if below else 1) for part, begin in zip(parts, begins, strict=False)]
        row, step = (torch.cat([getattr(own, name) for own in rows]).to(device) for name in ("row", "step"))
        lengths = torch.zeros(sum(len(part.index) for part in parts), dtype=torch.int64, device=device)
        lengths.scatter_reduce_(0, row, step, "amax")
        packed = Packed.of(lengths)
        pieces, order = zip(*(own.inputs(packed) for own in rows), strict=True)
        inputs = torch.cat(pieces)[torch.cat(order).argsort()]
        vectors = torch.cat([part.vectors for part in parts])
        if below:
            starts = torch.cat([self._starts(part.pairs)[part.index.to(device)] for part in parts])
            edit = self._edit(rows, lengths, packed, vectors)
        else:
            starts, edit = vectors, None
        logits = run_tail(self.model, self.state, starts, packed, inputs, (row, step), edit)
        told = logits.split([len(own.row) for own in rows])
        return join([own.told(piece) for own, piece in zip(rows, told, strict=True)])

    @cached_property
    def state(self) -> Site:
        """The state that the run goes on from: the site itself, or the one above it."""
        if has_tail(self.model, self.site):
            return self.site
        state = only_state(self.model)
        if state is None:  # `suited` holds the door
            raise UnsupportedError(f"a tail from {self.site}", "run whole forwards: path='reference'")
        return state

    def _edit(self, rows: Sequence[_Rows], lengths: Tensor, packed: Packed, vectors: Tensor) -> Edit:
        """The swap at the packed places of its cells, without those that nothing wanted comes after."""
        device = lengths.device
        row, step = (torch.cat(own).to(device) for own in zip(*(each.edits() for each in rows), strict=True))
        seen = (step < lengths[row]).nonzero()[:, 0]
        place = packed.place(row[seen], step[seen])
        return Edit(self.site, lambda _h, given: given, Where(torch.zeros_like(place), place), vectors[seen])

    def _starts(self, pairs: Pairs) -> Float[Tensor, "n width"]:
        """The unedited state before each row's first edit: the module's own where that is the first column."""
        if id(pairs) not in self.starts:  # the pairs are kept beside, so that their id stays theirs
            self.starts[id(pairs)] = (pairs, self._computed(pairs))
        return self.starts[id(pairs)][1]

    def _computed(self, pairs: Pairs) -> Tensor:
        inputs, first = model_inputs.leading(pairs.run_inputs), first_edits(pairs)
        opening = own_start(self.model, self.state, self.site, inputs[:1])
        assert opening is not None
        rows = (first > 0).nonzero()[:, 0]
        found = opening.float().repeat(len(pairs), 1)
        found[rows.to(found.device)] = gather_site(self.model, self.state, inputs, Where(rows, first[rows] - 1))
        return found


def first_edits(pairs: Pairs) -> Int[Tensor, " n"]:
    """The first edited column of each row; behind the last column for a row without one."""
    where, (rows, positions) = pairs.target_where, pairs.labels.shape
    first = torch.full((rows,), positions, device=where.rows.device)
    return first.scatter_reduce_(0, where.rows, where.columns, "amin").to(pairs.labels.device)


def suited(model: HookedModel, site: Site, pairs: Pairs) -> bool:
    """Whether these pairs can be run from the swap on, with nothing wanted before it.

    The site is a state, swapped once a row, or lies below the only recurrence: all of it has passed when that begins.
    """
    inputs = pairs.target_inputs
    if not isinstance(inputs, Tensor):
        return False
    first = first_edits(pairs)
    before = torch.arange(pairs.labels.shape[1], device=first.device) < first[:, None]
    if (wanted(pairs) & before).any():
        return False
    if has_tail(model, site):
        return pairs.single
    state = only_state(model)
    return state is not None and own_start(model, state, site, inputs[:1]) is not None
