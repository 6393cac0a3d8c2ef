"""Patched forwards of a decoder from the site's block, and from the first edited position, on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mas_hooks import inputs as model_inputs
from mas_hooks.engine.kept import Kept, prompt_of
from mas_hooks.engine.labelled import AbstractRunner, Labelled, Part, join
from mas_hooks.engine.passes import Batch, run_passes, spans
from mas_hooks.hooks.block_tail import Base, Prompt, Start, read_base, run_from
from mas_hooks.hooks.handle import HookedModel
from mas_hooks.hooks.taps import Edit
from mas_hooks.inputs import Inputs
from mas_hooks.pairs import Pairs
from mas_hooks.sites import Site, Where

PASS_COST = {"cpu": 64, "cuda": 4096}
"""What one more pass costs, in tokens: rows are split by position only where that saves more."""


@dataclass(frozen=True, eq=False)
class BlockTailRunner(AbstractRunner):
    """Only what the edit can change: blocks from the site on, positions from the edit on, logits where wanted.

    reuse: keep the keys and values of unchanged prefixes and start behind them.
    """

    model: HookedModel
    site: Site
    start: Start
    reuse: bool = True
    kept: dict[int, tuple[Inputs, Kept]] = field(default_factory=dict)
    name = "tail"

    def run(self, parts: Sequence[Part]) -> Labelled:
        lengths = [model_inputs.leading(part.pairs.run_inputs).shape[1] for part in parts]
        if len(set(lengths)) > 1:
            return join([self.run([part]) for part in parts])
        batch = Batch.of(parts)
        kept = [self._kept(part.pairs) for part in parts]
        prefixes = all(own.prefixes for own in kept)
        begins = batch.begins() if prefixes else torch.zeros_like(batch.part)
        spread = begins if prefixes else lengths[0] - batch.ends()  # an end mirrored is a begin
        groups = spans(spread, lengths[0], PASS_COST.get(self.model.device.type, PASS_COST["cpu"]))
        return run_passes(
            parts, batch, groups, lambda rows, cells: self._pass(batch, kept, rows, int(begins[rows].min()), cells)
        )

    def _pass(self, batch: Batch, kept: Sequence[Kept], rows: Tensor, begin: int, cells: Where) -> Tensor:
        """Logits at some cells, from one forward over some rows of the batch."""
        end, owners = int(cells.columns.max()) + 1, batch.owners(rows)
        where, vectors = batch.edits_in(rows, end)
        base = Base.cat([kept[number].base(index, end) for number, index in owners])
        prompt = Prompt.cat([kept[number].prompt.rows(index) for number, index in owners]).until(end)
        edit = Edit(self.site, lambda _h, given: given, where, vectors)
        return run_from(self.model, self.start, base, prompt, edit, cells, begin)

    def _kept(self, pairs: Pairs) -> Kept:
        """What is kept of these target inputs; directions that share them share it."""
        inputs = pairs.run_inputs
        if id(inputs) not in self.kept:
            made = Kept(prompt_of(self.model, inputs), self._read, self.reuse and not _from_the_start(pairs))
            self.kept[id(inputs)] = (inputs, made)  # the inputs are kept beside, so that their id stays theirs
        return self.kept[id(inputs)][1]

    def _read(self, prompt: Prompt, prefixes: bool) -> Base:
        return read_base(self.model, self.start, prompt, prefixes=prefixes)


def _from_the_start(pairs: Pairs) -> bool:
    """Whether every row is edited in its first column: there is no unchanged prefix whose keys and values would do."""
    return int((pairs.target_where.columns == 0).sum()) == len(pairs)
