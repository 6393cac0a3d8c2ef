"""Patched forwards of a model with a `layer_path` from the site's block on, without the columns nothing needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from mas_hooks import inputs as model_inputs
from mas_hooks.engine.kept import Kept
from mas_hooks.engine.labelled import AbstractRunner, Labelled, Part, join
from mas_hooks.engine.passes import Batch, run_passes, spans
from mas_hooks.hooks.block_tail import Base, Prompt
from mas_hooks.hooks.handle import HookedModel
from mas_hooks.hooks.stream_tail import StreamStart, read_stream, run_stream
from mas_hooks.hooks.taps import Edit
from mas_hooks.inputs import Inputs
from mas_hooks.sites import Site, Where

PASS_COST = {"cpu": 2**26, "cuda": 2**33}
"""What one more pass costs, in tokens × weights: rows are split by position only where that saves more."""


@dataclass(frozen=True, eq=False)
class StreamTailRunner(AbstractRunner):
    """Only what the edit can change or is wanted: blocks from the site on, columns up to the last wanted one.

    narrow: the module after which only the wanted cells are run, None to run all positions to the end. cost: of a pass
    in tokens, None for what the device and the model make likely.
    """

    model: HookedModel
    site: Site
    start: StreamStart
    narrow: str | None = None
    cost: int | None = None
    kept: dict[int, tuple[Inputs, Kept]] = field(default_factory=dict)
    name = "tail"

    def run(self, parts: Sequence[Part]) -> Labelled:
        lengths = [model_inputs.leading(part.pairs.run_inputs).shape[1] for part in parts]
        if len(set(lengths)) > 1:
            return join([self.run([part]) for part in parts])
        batch = Batch.of(parts)
        kept = [self._kept(part.pairs.run_inputs) for part in parts]
        groups = spans(lengths[0] - batch.ends(), lengths[0], self._cost())  # an end mirrored is a begin
        return run_passes(parts, batch, groups, lambda rows, cells: self._pass(batch, kept, rows, cells))

    def _cost(self) -> int:
        """Of a pass, in tokens: the larger the model, the less counts what comes with every pass."""
        if self.cost is not None:
            return self.cost
        weights = sum(parameter.numel() for parameter in self.model.module.parameters())
        return PASS_COST.get(self.model.device.type, PASS_COST["cpu"]) // max(1, weights)

    def _pass(self, batch: Batch, kept: Sequence[Kept], rows: Tensor, cells: Where) -> Tensor:
        """Logits at some cells, from one forward over some rows of the batch."""
        end, owners = int(cells.columns.max()) + 1, batch.owners(rows)
        where, vectors = batch.edits_in(rows, end)
        base = Base.cat([kept[number].base(index, end) for number, index in owners])
        prompt = Prompt.cat([kept[number].prompt.rows(index) for number, index in owners]).until(end)
        edit = Edit(self.site, lambda _h, given: given, where, vectors)
        return run_stream(self.model, self.start, base.stream, prompt.ids, edit, cells, narrow=self.narrow)

    def _kept(self, inputs: Inputs) -> Kept:
        """What is kept of these target inputs; directions that share them share it."""
        if id(inputs) not in self.kept:
            prompt = Prompt(model_inputs.leading(inputs).to(self.model.device), None, None)
            self.kept[id(inputs)] = (inputs, Kept(prompt, self._read, prefixes=False))
        return self.kept[id(inputs)][1]  # the inputs are kept beside, so that their id stays theirs

    def _read(self, prompt: Prompt, _prefixes: bool) -> Base:
        return Base(read_stream(self.model, self.start, prompt.ids))
