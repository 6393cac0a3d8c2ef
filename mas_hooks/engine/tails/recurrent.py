"""Run a recurrent model from given states on: one fused call for the continuation, logits only where wanted.

The model's own forward is called on the continuation alone, with the recurrent module's `forward` displaced for that
one call so that it starts from the given states (patched ones, or those before the first edit below the recurrence)
and gives only the outputs that are asked for. Sequences travel packed: no step is spent on padding. This is right for
models that treat positions alike below and above the recurrence; `engine/run.py` proves that on real pairs before it
is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mas_hooks.core import inputs as model_inputs
from mas_hooks.core.errors import UnsupportedError
from mas_hooks.core.sites import Site, Where
from mas_hooks.data.pairs import Pairs
from mas_hooks.engine.batch import (
    AbstractRunner,
    LabelledLogits,
    PatchBatch,
    batch_rows,
    join_batches,
    label_logits,
    labelled_positions,
)
from mas_hooks.engine.cache import gather_site
from mas_hooks.hooks import recurrent
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.skipping import displace_forward
from mas_hooks.hooks.taps import Edit, ReadTap, StopForward


@dataclass(frozen=True, eq=False)
class Packed:
    """Ragged continuations in time-major packed order.

    rank (n,): each row's place when sorted by length, longest first. sizes (step,): rows still running at each step.
    rows, steps (total,): which row and which step each packed input is.
    """

    rank: Int[Tensor, " n"]
    sizes: Int[Tensor, " step"]
    rows: Int[Tensor, " total"]
    steps: Int[Tensor, " total"]

    @classmethod
    def of(cls, lengths: Int[Tensor, " n"]) -> Packed:
        """The packing of rows with so many steps each (zero allowed)."""
        longest = int(lengths.max()) if len(lengths) else 0
        order = lengths.argsort(descending=True, stable=True)
        running = torch.arange(longest, device=lengths.device)[:, None] < lengths[order]
        steps, place = running.nonzero(as_tuple=True)
        return cls(order.argsort(), running.sum(1), order[place], steps)

    def place(self, rows: Tensor, steps: Tensor) -> Int[Tensor, " m"]:
        """Where (row, step) lies in the packed order."""
        begins = self.sizes.cumsum(0) - self.sizes
        return begins[steps] + self.rank[rows]


def has_tail(model: HookedModel, site: Site) -> bool:
    """Whether the site is the state of a single-layer fused recurrent module."""
    point = model.point(site.name, site.side)
    return point.kind == "fused" and recurrent.layer_count(model.module.get_submodule(point.path)) == 1


def only_state(model: HookedModel) -> Site | None:
    """The state of the single-layer fused module that is the only recurrence of a model; None where there is none."""
    if "state" not in model.hook_points():
        return None
    site = model.at("state")
    return site if has_tail(model, site) else None


def find_state_start(
    model: HookedModel, state: Site, below: Site, inputs: Tensor
) -> Float[Tensor, "batch width"] | None:
    """The states that the model's own recurrence begins with; None where `below` has not wholly passed by then.

    inputs: some rows. Nothing above the recurrence is run.
    """
    module, read = _module(model, state), ReadTap(str(below), None)
    found: list[Tensor] = []

    def forward(input: Tensor, hx: Any = None) -> Any:  # noqa: A002 (may be called by keyword)
        if isinstance(input, Tensor):  # and no PackedSequence
            zeros = input.new_zeros(len(inputs), recurrent.split_weights(module) * module.hidden_size)
            found.append(zeros if hx is None else recurrent.pack(hx)[0])
        raise StopForward

    with (
        torch.no_grad(),
        suppress(StopForward),
        displace_forward(module, forward),
        model.tap([(model.point(below.name, below.side), read)]),
    ):
        model.call(inputs)
    return found[0] if found and not read.missing() else None


def run_state_tail(
    model: HookedModel,
    site: Site,
    starts: Float[Tensor, "n width"],
    packed: Packed,
    packed_inputs: Tensor,
    cells: tuple[Int[Tensor, " m"], Int[Tensor, " m"]],
    edit: Edit | None = None,
) -> Float[Tensor, "m vocabulary"]:
    """Logits at `cells` = (row, steps after its start), 0 being the prediction from the start itself.

    site: the state. packed_inputs (total, …): the model's inputs after each start, in packed order. edit: below the
    recurrence, its cells in row 0 at their places in the packed order.
    """
    module, (rows, steps) = _module(model, site), cells
    place, later = rows.clone(), steps > 0
    place[later] = len(starts) + packed.place(rows[later], steps[later] - 1)
    time = 1 if module.batch_first else 0

    def forward(input: Tensor, hx: Any = None) -> Any:  # noqa: A002, ARG001 (may be called by keyword)
        states = starts.to(input.dtype)
        hidden, last = _continue(module, input.squeeze(1 - time), states, packed)
        return torch.cat([states[:, : module.hidden_size], hidden])[place].unsqueeze(1 - time), last

    with ExitStack() as undo:
        undo.enter_context(displace_forward(module, forward))
        if edit is not None:
            undo.enter_context(model.hooks(edit))
        logits = model.forward(packed_inputs[None])
    return logits[0]


def _module(model: HookedModel, site: Site) -> nn.RNNBase:
    module = model.module.get_submodule(model.point(site.name).path)
    if not isinstance(module, nn.RNNBase):  # has_tail holds the door
        raise TypeError(f"{site} is no fused recurrent module")
    return module


def _continue(module: nn.RNNBase, data: Tensor, states: Tensor, packed: Packed) -> tuple[Tensor, Any]:
    """Packed outputs of the steps after the patched states, and the last states in the rows' own order."""
    order = packed.rank.argsort()
    starts = states[order]
    if not len(data):
        return data.new_zeros(0, module.hidden_size), recurrent.unpack(module, states[None])
    weights = module.all_weights[0]
    begin = recurrent.unpack(module, starts[None, : int(packed.sizes[0])])
    train = torch.is_grad_enabled()  # cuDNN keeps what its backward needs only then; there is no dropout here
    call = recurrent.functional(module)
    out, *last = call(data, packed.sizes.cpu(), begin, weights, module.bias, 1, 0.0, train, False)
    ended = torch.cat([recurrent.pack(last[0] if len(last) == 1 else last)[0], starts[int(packed.sizes[0]) :]])
    return out, recurrent.unpack(module, ended[packed.rank][None])


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of one part within the batch. begin: its first row there.

    first (batch,): the first column of each row that is run. row, step (m,): of the wanted cells, where `step` counts
    the columns run up to there. pair, column (m,): the same cells in the pairs.
    """

    part: PatchBatch
    begin: int
    first: Int[Tensor, " batch"]
    row: Int[Tensor, " m"]
    step: Int[Tensor, " m"]
    pair: Int[Tensor, " m"]
    column: Int[Tensor, " m"]

    @classmethod
    def of(cls, part: PatchBatch, begin: int, lead: int) -> _Rows:
        """lead: how many columns after the first edited one the run begins."""
        index = batch_rows(part)
        row, column = labelled_positions(part.pairs)[index].nonzero(as_tuple=True)
        first = first_edits(part.pairs)[index] + lead
        return cls(part, begin, first, row + begin, column - first[row] + 1, index[row], column)

    def inputs(self, packed: Packed) -> tuple[Tensor, Tensor]:
        """What the model reads in these rows, and where in the packed order."""
        device = packed.rows.device
        inside = ((packed.rows >= self.begin) & (packed.rows < self.begin + len(self.first))).nonzero()[:, 0]
        row = packed.rows[inside] - self.begin
        column = self.first.to(device)[row] + packed.steps[inside]
        read = model_inputs.leading_tensor(self.part.pairs.run_inputs).to(device)
        return read[self.part.index.to(device)[row], column], inside

    def edits(self) -> tuple[Tensor, Tensor]:
        """(row of the batch, columns run before it) of every edited cell."""
        which, row = self.part.pairs.cells(batch_rows(self.part))
        return row + self.begin, self.part.pairs.target_where.columns.to(row.device)[which] - self.first[row]

    def describe_rows(self, logits: Tensor) -> LabelledLogits:
        """Logits of the wanted cells with what the pairs say of them."""
        row = (self.row - self.begin).to(logits.device)
        return label_logits(logits, self.part.pairs, self.pair, self.column, row, len(self.part.index))


@dataclass(frozen=True, eq=False)
class StateTailRunner(AbstractRunner):
    """Only the continuation, from what the swap changes first on: a patched state, or a position below the recurrence.

    starts: for a site below, the unedited state before the first edit of every row of some pairs.
    """

    model: HookedModel
    site: Site
    starts: dict[int, tuple[Pairs, Tensor]] = field(default_factory=dict)
    name = "tail"

    def run(self, parts: Sequence[PatchBatch]) -> LabelledLogits:
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
        logits = run_state_tail(self.model, self.state, starts, packed, inputs, (row, step), edit)
        told = logits.split([len(own.row) for own in rows])
        return join_batches([own.describe_rows(piece) for own, piece in zip(rows, told, strict=True)])

    @cached_property
    def state(self) -> Site:
        """The state that the run goes on from: the site itself, or the one above it."""
        if has_tail(self.model, self.site):
            return self.site
        state = only_state(self.model)
        if state is None:  # `suits_state_tail` holds the door
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
            self.starts[id(pairs)] = (pairs, self._compute_states(pairs))
        return self.starts[id(pairs)][1]

    def _compute_states(self, pairs: Pairs) -> Tensor:
        inputs, first = model_inputs.leading_tensor(pairs.run_inputs), first_edits(pairs)
        opening = find_state_start(self.model, self.state, self.site, inputs[:1])
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


def suits_state_tail(model: HookedModel, site: Site, pairs: Pairs) -> bool:
    """Whether these pairs can be run from the swap on, with nothing wanted before it.

    The site is a state, swapped once a row, or lies below the only recurrence: all of it has passed when that begins.
    """
    inputs = pairs.target_inputs
    if not isinstance(inputs, Tensor):
        return False
    first = first_edits(pairs)
    before = torch.arange(pairs.labels.shape[1], device=first.device) < first[:, None]
    if (labelled_positions(pairs) & before).any():
        return False
    if has_tail(model, site):
        return pairs.single
    state = only_state(model)
    return state is not None and find_state_start(model, state, site, inputs[:1]) is not None
