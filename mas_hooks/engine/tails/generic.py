"""Run a model of no known family from a block on: its blocks are those of the `layer_path` it was wrapped with.

The model's own forward is called with its own ids. Blocks below give the stored residual stream back in place of
running. What some module in or at the end of the last block gives is narrowed to the wanted cells, as one row, before
the rest of the model sees it. Columns after the last wanted one may be left out by the caller. This is right for
causal blocks with nothing but position-wise parts after the narrow place; `engine/run.py` proves that on real pairs
before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mas_hooks.core import inputs as model_inputs
from mas_hooks.core.inputs import Inputs
from mas_hooks.core.sites import Site, Where
from mas_hooks.engine.batch import AbstractRunner, LabelledLogits, PatchBatch, join_batches
from mas_hooks.engine.passes import Batch, run_passes, split_by_position
from mas_hooks.engine.tails.decoder import TailStart
from mas_hooks.engine.tails.kept import Base, BaseCache, Prompt
from mas_hooks.hooks import checks, outputs
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.names import HookPoint
from mas_hooks.hooks.skipping import skip_blocks, stop_after
from mas_hooks.hooks.taps import Edit, ReadTap


@dataclass(frozen=True)
class StreamStart:
    """Where a run begins (`TailStart`), in which blocks (dotted paths), and what these give.

    entries: of each block, how many entries its output has, the stream first; 0 for a bare tensor.
    """

    start: TailStart
    paths: tuple[str, ...]
    entries: tuple[int, ...]


def find_stream_start(model: HookedModel, site: Site, inputs: Tensor) -> StreamStart | None:
    """Where a run with an edit at this site can begin; None for models and sites that need a whole forward.

    inputs: a row or more, run once to see that every block runs once, in order, and what it gives.
    """
    if model.layer_path is None:
        return None
    keys = [name for name, _ in model.module.get_submodule(model.layer_path).named_children()]
    paths = tuple(f"{model.layer_path}.{key}".removeprefix(".") for key in keys)
    seen, before = _watch_modules(model, site, paths, inputs)
    if [path for path, _ in seen] != list(paths) or any(count is None for _, count in seen):
        return None
    start = _start(model.point(site.name, site.side), paths, before)
    return None if start is None else StreamStart(start, paths, tuple(count or 0 for _, count in seen))


def _start(point: HookPoint, paths: Sequence[str], before: bool) -> TailStart | None:
    """before: whether the site has passed when the first block begins."""
    if before:
        return TailStart(0, whole=False)
    for index, path in enumerate(paths):
        if point.path == path and point.kind == "module":
            return TailStart(index if point.side == "input" else index + 1, whole=True)
        if f"{point.path}.".startswith(f"{path}."):
            return TailStart(index, whole=False)
    return None


def _watch_modules(
    model: HookedModel, site: Site, paths: Sequence[str], inputs: Tensor
) -> tuple[list[tuple[str, int | None]], bool]:
    """Which blocks ran, with the entries they gave (None for what is no stream); whether the site passed before."""
    seen: list[tuple[str, int | None]] = []
    read, before = ReadTap(str(site), None), [False]

    def begins(*_: Any) -> None:
        before[0] = not read.missing()

    def given(path: str, _module: nn.Module, _args: Any, output: Any) -> None:
        seen.append((path, 0 if isinstance(output, Tensor) else len(output) if type(output) is tuple else None))

    with ExitStack() as undo:
        undo.enter_context(torch.no_grad())
        undo.enter_context(model.tap([(model.point(site.name, site.side), read)]))
        blocks = [model.module.get_submodule(path) for path in paths]
        undo.callback(blocks[0].register_forward_pre_hook(begins).remove)
        for path, block in zip(paths, blocks, strict=True):
            undo.callback(block.register_forward_hook(partial(given, path)).remove)
        model.call(inputs)
    return seen, before[0]


def narrow_places(model: HookedModel, start: StreamStart) -> list[str]:
    """Where a run might be narrowed, the earliest first: after each child of the last block that runs, after itself."""
    last = start.paths[-1]
    children = model.module.get_submodule(last).named_children() if start.start.first < len(start.paths) else ()
    return [*(f"{last}.{name}" for name, _ in children), last]


def read_stream(model: HookedModel, start: StreamStart, ids: Tensor) -> Float[Tensor, "row position width"] | None:
    """What enters the first block that runs, of some rows without an edit; None where no block is skipped."""
    if not start.start.first:
        return None
    path, read = start.paths[start.start.first - 1], ReadTap("the residual stream", None)
    with torch.no_grad(), model.tap([(HookPoint(path), read)]), stop_after(model.module.get_submodule(path)):
        model.call(ids)
    return read.result()


def run_stream(
    model: HookedModel,
    start: StreamStart,
    stream: Float[Tensor, "row position width"] | None,
    ids: Tensor,
    edit: Edit,
    cells: Where,
    *,
    narrow: str | None = None,
) -> Float[Tensor, "m vocabulary"]:
    """Logits at `cells` under the edit.

    stream: what enters the first block that runs, without the edit. narrow: the module after which only the cells are
    run; None to run all positions to the end.
    """
    first, blocks = start.start.first, [model.module.get_submodule(path) for path in start.paths]
    if start.start.whole and stream is not None:
        assert isinstance(edit.where, Where)
        where = edit.where.to(stream.device)
        stream = where.scatter(stream, edit.fn(where.gather(stream), edit.vectors))
    with ExitStack() as undo:
        undo.enter_context(checks.checkpointing_off(model.module))
        undo.enter_context(skip_blocks(blocks[:first], start.entries[:first], stream))
        if stream is None or not start.start.whole:
            undo.enter_context(model.hooks(edit))
        if narrow is not None:
            undo.enter_context(_narrow_rows(model.module.get_submodule(narrow), cells))
        logits = model.forward(ids)
    return cells.to(logits.device).gather(logits) if narrow is None else logits[0]


@contextmanager
def _narrow_rows(module: nn.Module, cells: Where) -> Iterator[None]:
    """A module gives these cells only, (1, m, width) in place of (row, position, width), after other hooks of it."""

    def gather(_module: nn.Module, _args: Any, output: Any) -> Any:
        hidden = outputs.take_tensor(output, "the residual stream")
        flat = (cells.rows * hidden.shape[1] + cells.columns).to(hidden.device)
        return outputs.put_tensor(output, hidden.flatten(0, 1).index_select(0, flat)[None])

    handle = module.register_forward_hook(gather)
    try:
        yield
    finally:
        handle.remove()


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
    kept: dict[int, tuple[Inputs, BaseCache]] = field(default_factory=dict)
    name = "tail"

    def run(self, parts: Sequence[PatchBatch]) -> LabelledLogits:
        lengths = [model_inputs.leading_tensor(part.pairs.run_inputs).shape[1] for part in parts]
        if len(set(lengths)) > 1:
            return join_batches([self.run([part]) for part in parts])
        batch = Batch.of(parts)
        kept = [self._stream_of(part.pairs.run_inputs) for part in parts]
        groups = split_by_position(lengths[0] - batch.ends(), lengths[0], self._cost())  # an end mirrored is a begin
        return run_passes(parts, batch, groups, lambda rows, cells: self._pass(batch, kept, rows, cells))

    def _cost(self) -> int:
        """Of a pass, in tokens: the larger the model, the less counts what comes with every pass."""
        if self.cost is not None:
            return self.cost
        weights = sum(parameter.numel() for parameter in self.model.module.parameters())
        return PASS_COST.get(self.model.device.type, PASS_COST["cpu"]) // max(1, weights)

    def _pass(self, batch: Batch, kept: Sequence[BaseCache], rows: Tensor, cells: Where) -> Tensor:
        """Logits at some cells, from one forward over some rows of the batch."""
        end, owners = int(cells.columns.max()) + 1, batch.owners(rows)
        where, vectors = batch.edits_in(rows, end)
        base = Base.cat([kept[number].base(index, end) for number, index in owners])
        prompt = Prompt.cat([kept[number].prompt.rows(index) for number, index in owners]).until(end)
        edit = Edit(self.site, lambda _h, given: given, where, vectors)
        return run_stream(self.model, self.start, base.stream, prompt.ids, edit, cells, narrow=self.narrow)

    def _stream_of(self, inputs: Inputs) -> BaseCache:
        """What is kept of these target inputs; directions that share them share it."""
        if id(inputs) not in self.kept:
            prompt = Prompt(model_inputs.leading_tensor(inputs).to(self.model.device), None, None)
            self.kept[id(inputs)] = (inputs, BaseCache(prompt, self._read_rows, prefixes=False))
        return self.kept[id(inputs)][1]  # the inputs are kept beside, so that their id stays theirs

    def _read_rows(self, prompt: Prompt, _prefixes: bool) -> Base:
        return Base(read_stream(self.model, self.start, prompt.ids))
