"""The tail of a recurrent model: one fused call from given states on, logits only at the labelled positions.

The model's own forward is called on the continuation alone, with the recurrent module's `forward` displaced for that
one call. It then starts from the given states (patched ones, or those before the first edit below the recurrence) and
gives only the outputs that are needed. Sequences travel packed: no step is spent on padding. This is right for
models that treat positions alike below and above the recurrence; `engine/runner.py` proves that on real pairs before
the tail is used.
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
    join_labelled,
    label_logits,
    labelled_positions,
)
from mas_hooks.engine.cache import gather_site
from mas_hooks.hooks import recurrent
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.skipping import displace_forward
from mas_hooks.hooks.taps import Edit, ReadTap, StopForward, put_vectors


@dataclass(frozen=True, eq=False)
class Packed:
    """Ragged continuations in time-major packed order.

    Attributes:
        rank: The place of each row when the rows are sorted by length, longest first.
        sizes: How many rows still run at each step.
        rows: Which row each packed input belongs to.
        steps: Which step of that row it is.
    """

    rank: Int[Tensor, " n"]
    sizes: Int[Tensor, " step"]
    rows: Int[Tensor, " total"]
    steps: Int[Tensor, " total"]

    @classmethod
    def of(cls, lengths: Int[Tensor, " n"]) -> Packed:
        """Pack rows of so many steps each (zero allowed)."""
        longest = int(lengths.max()) if len(lengths) else 0
        order = lengths.argsort(descending=True, stable=True)
        running = torch.arange(longest, device=lengths.device)[:, None] < lengths[order]
        steps, place = running.nonzero(as_tuple=True)
        return cls(order.argsort(), running.sum(1), order[place], steps)

    def find_places(self, rows: Tensor, steps: Tensor) -> Int[Tensor, " m"]:
        """Where (row, step) lies in the packed order."""
        begins = self.sizes.cumsum(0) - self.sizes
        return begins[steps] + self.rank[rows]


@dataclass(frozen=True, eq=False)
class _BatchRows:
    """The rows of one batch within the joined ones.

    begin: the number of its first row there. first (batch,): the first column of each row that is run. row, step (m,):
    of the labelled cells, where `step` counts the columns that are run up to there. pair, column (m,): the same cells
    in the pairs.
    """

    batch: PatchBatch
    begin: int
    first: Int[Tensor, " batch"]
    row: Int[Tensor, " m"]
    step: Int[Tensor, " m"]
    pair: Int[Tensor, " m"]
    column: Int[Tensor, " m"]

    @classmethod
    def of(cls, batch: PatchBatch, begin: int, lead: int) -> _BatchRows:
        """lead: how many columns after the first edited one the run begins."""
        index = batch_rows(batch)
        row, column = labelled_positions(batch.pairs)[index].nonzero(as_tuple=True)
        first = first_edited_columns(batch.pairs)[index] + lead
        return cls(batch, begin, first, row + begin, column - first[row] + 1, index[row], column)

    def select_inputs(self, packed: Packed) -> tuple[Tensor, Tensor]:
        """What the model reads in these rows, and where each lies in the packed order."""
        device = packed.rows.device
        inside = ((packed.rows >= self.begin) & (packed.rows < self.begin + len(self.first))).nonzero()[:, 0]
        row = packed.rows[inside] - self.begin
        column = self.first.to(device)[row] + packed.steps[inside]
        inputs = model_inputs.leading_tensor(self.batch.pairs.run_inputs).to(device)
        return inputs[self.batch.index.to(device)[row], column], inside

    def select_edits(self) -> tuple[Tensor, Tensor]:
        """(row of the joined batch, columns run before it) of every edited cell."""
        which, row = self.batch.pairs.cells(batch_rows(self.batch))
        return row + self.begin, self.batch.pairs.target_where.columns.to(row.device)[which] - self.first[row]

    def label_rows(self, logits: Tensor) -> LabelledLogits:
        """Put to the logits of the labelled cells what the pairs say of them."""
        row = (self.row - self.begin).to(logits.device)
        return label_logits(logits, self.batch.pairs, self.pair, self.column, row, len(self.batch.index))


@dataclass(frozen=True, eq=False)
class StateTailRunner(AbstractRunner):
    """Runs only the continuation, from what the swap changes first on.

    Attributes:
        model: The model to run.
        site: A state of the model, or a site below its recurrence.
        starts: For a site below, by the id of some pairs: these pairs, and the unedited state before the first edit
            of each of their rows.
    """

    model: HookedModel
    site: Site
    starts: dict[int, tuple[Pairs, Tensor]] = field(default_factory=dict)
    name = "tail"

    @cached_property
    def state(self) -> Site:
        """The state that the run goes on from: the site itself, or the one above it.

        Raises UnsupportedError when the model has no such state.
        """
        if is_single_layer_state(self.model, self.site):
            return self.site
        state = find_only_state(self.model)
        if state is None:  # never after `suits_state_tail`
            raise UnsupportedError(f"a tail from {self.site}", "run whole forwards: path='reference'")
        return state

    def run(self, batches: Sequence[PatchBatch]) -> LabelledLogits:
        device, below = self.model.device, self.state is not self.site
        begins = accumulate((len(batch.index) for batch in batches), initial=0)
        rows = [_BatchRows.of(batch, begin, 0 if below else 1) for batch, begin in zip(batches, begins, strict=False)]
        row = torch.cat([members.row for members in rows]).to(device)
        step = torch.cat([members.step for members in rows]).to(device)
        lengths = torch.zeros(sum(len(batch.index) for batch in batches), dtype=torch.int64, device=device)
        lengths.scatter_reduce_(0, row, step, "amax")
        packed = Packed.of(lengths)
        pieces, order = zip(*(members.select_inputs(packed) for members in rows), strict=True)
        inputs = torch.cat(pieces)[torch.cat(order).argsort()]
        vectors = torch.cat([batch.vectors for batch in batches])
        if below:
            starts = torch.cat([self._find_starts(batch.pairs)[batch.index.to(device)] for batch in batches])
            edit = self._pack_edit(rows, lengths, packed, vectors)
        else:
            starts, edit = vectors, None
        logits = run_state_tail(self.model, self.state, starts, packed, inputs, (row, step), edit)
        split = logits.split([len(members.row) for members in rows])
        return join_labelled([members.label_rows(piece) for members, piece in zip(rows, split, strict=True)])

    def _pack_edit(self, rows: Sequence[_BatchRows], lengths: Tensor, packed: Packed, vectors: Tensor) -> Edit:
        """The swap at the packed places of its cells, without those that no labelled cell comes after."""
        device = lengths.device
        row, step = (torch.cat(axis).to(device) for axis in zip(*(each.select_edits() for each in rows), strict=True))
        needed = (step < lengths[row]).nonzero()[:, 0]
        place = packed.find_places(row[needed], step[needed])
        return Edit(self.site, put_vectors, Where(torch.zeros_like(place), place), vectors[needed])

    def _find_starts(self, pairs: Pairs) -> Float[Tensor, "n width"]:
        """The unedited state before each row's first edit: the module's own where that is the first column."""
        if id(pairs) not in self.starts:  # the pairs are kept beside, so that their id stays theirs
            self.starts[id(pairs)] = (pairs, self._compute_starts(pairs))
        return self.starts[id(pairs)][1]

    def _compute_starts(self, pairs: Pairs) -> Tensor:
        inputs, first = model_inputs.leading_tensor(pairs.run_inputs), first_edited_columns(pairs)
        opening = find_state_start(self.model, self.state, self.site, inputs[:1])
        assert opening is not None
        rows = (first > 0).nonzero()[:, 0]
        states = opening.float().repeat(len(pairs), 1)
        states[rows.to(states.device)] = gather_site(self.model, self.state, inputs, Where(rows, first[rows] - 1))
        return states


def suits_state_tail(model: HookedModel, site: Site, pairs: Pairs) -> bool:
    """Whether some pairs can be run from the swap on.

    Args:
        model: The model to run.
        site: The patched site.
        pairs: The pairs.

    Returns:
        True where no position before the swap is labelled, and the site is a state, swapped once a row, or lies below
        the only recurrence of the model, which begins after all of the site has passed.
    """
    inputs = pairs.target_inputs
    if not isinstance(inputs, Tensor):
        return False
    first = first_edited_columns(pairs)
    before = torch.arange(pairs.labels.shape[1], device=first.device) < first[:, None]
    if (labelled_positions(pairs) & before).any():
        return False
    if is_single_layer_state(model, site):
        return pairs.single
    state = find_only_state(model)
    return state is not None and find_state_start(model, state, site, inputs[:1]) is not None


def first_edited_columns(pairs: Pairs) -> Int[Tensor, " n"]:
    """The first edited column of each row; behind the last column for a row without one."""
    where, (rows, positions) = pairs.target_where, pairs.labels.shape
    first = torch.full((rows,), positions, device=where.rows.device)
    return first.scatter_reduce_(0, where.rows, where.columns, "amin").to(pairs.labels.device)


def is_single_layer_state(model: HookedModel, site: Site) -> bool:
    """Whether a site is the state of a single-layer fused recurrent module."""
    point = model.point(site.name, site.side)
    return point.kind == "fused" and recurrent.count_layers(model.module.get_submodule(point.path)) == 1


def find_only_state(model: HookedModel) -> Site | None:
    """Find the state of the single-layer fused module that is a model's only recurrence; None where there is none."""
    if "state" not in model.hook_points():
        return None
    site = model.at("state")
    return site if is_single_layer_state(model, site) else None


def find_state_start(
    model: HookedModel, state: Site, below: Site, inputs: Tensor
) -> Float[Tensor, "batch width"] | None:
    """Find the states that a model's own recurrence begins with. Nothing above the recurrence is run.

    Args:
        model: The model to run.
        state: The state of its recurrence.
        below: A site below.
        inputs: Some rows.

    Returns:
        The states; None where `below` has not wholly passed when the recurrence begins.
    """
    module, read = _recurrent_module(model, state), ReadTap(str(below), None)
    starts: list[Tensor] = []

    def forward(input: Tensor, hx: Any = None) -> Any:  # noqa: A002 (may be called by keyword)
        if isinstance(input, Tensor):  # and no PackedSequence
            zeros = input.new_zeros(len(inputs), recurrent.count_state_vectors(module) * module.hidden_size)
            starts.append(zeros if hx is None else recurrent.pack_state(hx)[0])
        raise StopForward

    with (
        torch.no_grad(),
        suppress(StopForward),
        displace_forward(module, forward),
        model.tap([(model.point(below.name, below.side), read)]),
    ):
        model.call(inputs)
    return starts[0] if starts and not read.missing() else None


def run_state_tail(
    model: HookedModel,
    site: Site,
    starts: Float[Tensor, "n width"],
    packed: Packed,
    packed_inputs: Tensor,
    cells: tuple[Int[Tensor, " m"], Int[Tensor, " m"]],
    edit: Edit | None = None,
) -> Float[Tensor, "m vocabulary"]:
    """Run continuations from given states.

    Args:
        model: The model to run.
        site: The state of its recurrence.
        starts: The state that each row starts from.
        packed: The packing of the rows.
        packed_inputs: The model's inputs after each start, (total, …), in packed order.
        cells: (row, steps after its start) of the cells whose logits are needed; step 0 is the prediction from the
            start itself.
        edit: An edit below the recurrence, its cells in row 0 at their places in the packed order.

    Returns:
        The logits at the cells.
    """
    module, (rows, steps) = _recurrent_module(model, site), cells
    place, later = rows.clone(), steps > 0
    place[later] = len(starts) + packed.find_places(rows[later], steps[later] - 1)
    time = 1 if module.batch_first else 0

    def forward(input: Tensor, hx: Any = None) -> Any:  # noqa: A002, ARG001 (may be called by keyword)
        states = starts.to(input.dtype)
        hidden, last = _continue_states(module, input.squeeze(1 - time), states, packed)
        return torch.cat([states[:, : module.hidden_size], hidden])[place].unsqueeze(1 - time), last

    with ExitStack() as undo:
        undo.enter_context(displace_forward(module, forward))
        if edit is not None:
            undo.enter_context(model.hooks(edit))
        logits = model.forward(packed_inputs[None])
    return logits[0]


def _recurrent_module(model: HookedModel, site: Site) -> nn.RNNBase:
    module = model.module.get_submodule(model.point(site.name).path)
    if not isinstance(module, nn.RNNBase):  # never after `is_single_layer_state`
        raise TypeError(f"{site} is no fused recurrent module")
    return module


def _continue_states(module: nn.RNNBase, data: Tensor, states: Tensor, packed: Packed) -> tuple[Tensor, Any]:
    """Packed outputs of the steps after the given states, and the last states in the order of the rows."""
    order = packed.rank.argsort()
    starts = states[order]
    if not len(data):
        return data.new_zeros(0, module.hidden_size), recurrent.unpack_state(module, states[None])
    weights = module.all_weights[0]
    begin = recurrent.unpack_state(module, starts[None, : int(packed.sizes[0])])
    train = torch.is_grad_enabled()  # cuDNN keeps what its backward needs only then; there is no dropout here
    call = recurrent.torch_function(module)
    out, *last = call(data, packed.sizes.cpu(), begin, weights, module.bias, 1, 0.0, train, False)
    running = recurrent.pack_state(last[0] if len(last) == 1 else last)[0]
    ended = torch.cat([running, starts[int(packed.sizes[0]) :]])
    return out, recurrent.unpack_state(module, ended[packed.rank][None])
