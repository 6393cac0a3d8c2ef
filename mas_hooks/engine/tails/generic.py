"""The tail of a model of no known family: blocks from the site on, those of the `layer_path` it was wrapped with.

The model's own forward is called with its own ids. Blocks below the site give the stored residual stream back in place
of running. What a module in or at the end of the last block gives is narrowed to the labelled cells, as one row, before
the rest of the model sees it. The caller may leave out columns after the last labelled one. This is right for causal
blocks with nothing but position-wise modules after the narrow place; `engine/runner.py` proves that on real pairs
before the tail is used.
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
from mas_hooks.engine.batch import AbstractRunner, LabelledLogits, PatchBatch, join_labelled
from mas_hooks.engine.passes import JoinedBatch, run_passes, split_by_position
from mas_hooks.engine.tails.decoder import TailStart
from mas_hooks.engine.tails.kept import Base, BaseCache, Prompt, find_base_cache, join_rows
from mas_hooks.hooks import checks, outputs
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.names import HookPoint
from mas_hooks.hooks.skipping import skip_blocks, stop_after
from mas_hooks.hooks.taps import Edit, ReadTap, put_vectors

PASS_WORK = {"cpu": 2**26, "cuda": 2**33}
"""What one more pass costs, in tokens × weights: rows are split by position only where that saves more."""


@dataclass(frozen=True)
class StreamStart:
    """Where a run begins, in which blocks, and what these give.

    Attributes:
        start: The block where it begins, as in decoders.
        paths: The dotted path of every block.
        entries: How many entries the output of each block has, the stream first; 0 for a bare tensor.
    """

    start: TailStart
    paths: tuple[str, ...]
    entries: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class StreamTailRunner(AbstractRunner):
    """Runs only what the edit can change or is labelled: blocks from the site on, columns up to the last labelled one.

    Attributes:
        model: The model to run.
        site: The patched site.
        start: Where a run begins.
        narrow: The module after which only the labelled cells are run; None to run all positions to the end.
        cost: What a pass costs, in tokens; None for what the device and the size of the model make likely.
        caches: What is kept of target inputs, by their id (see `find_base_cache`).
    """

    model: HookedModel
    site: Site
    start: StreamStart
    narrow: str | None = None
    cost: int | None = None
    caches: dict[int, tuple[Inputs, BaseCache]] = field(default_factory=dict)
    name = "tail"

    def run(self, batches: Sequence[PatchBatch]) -> LabelledLogits:
        lengths = [model_inputs.leading_tensor(batch.pairs.run_inputs).shape[1] for batch in batches]
        if len(set(lengths)) > 1:
            return join_labelled([self.run([batch]) for batch in batches])
        joined = JoinedBatch.of(batches)
        caches = [self._find_cache(batch.pairs.run_inputs) for batch in batches]
        mirrored = lengths[0] - joined.end_columns()  # an end mirrored is a begin
        groups = split_by_position(mirrored, lengths[0], self._estimate_cost())
        return run_passes(batches, joined, groups, lambda rows, cells: self._run_pass(joined, caches, rows, cells))

    def _estimate_cost(self) -> int:
        """What a pass costs, in tokens: the larger the model, the less counts what comes with every pass."""
        if self.cost is not None:
            return self.cost
        weights = sum(parameter.numel() for parameter in self.model.module.parameters())
        return PASS_WORK.get(self.model.device.type, PASS_WORK["cpu"]) // max(1, weights)

    def _run_pass(self, joined: JoinedBatch, caches: Sequence[BaseCache], rows: Tensor, cells: Where) -> Tensor:
        """Logits at some cells, from one forward over some rows of the joined batch."""
        needed = join_rows(joined, caches, rows, int(cells.columns.max()) + 1)
        edit = Edit(self.site, put_vectors, needed.where, needed.vectors)
        ids, stream = needed.prompt.ids, needed.base.stream
        return run_stream_tail(self.model, self.start, stream, ids, edit, cells, narrow=self.narrow)

    def _find_cache(self, inputs: Inputs) -> BaseCache:
        def make() -> BaseCache:
            prompt = Prompt(model_inputs.leading_tensor(inputs).to(self.model.device), None, None)
            return BaseCache(prompt, self._read_rows, prefixes=False)

        return find_base_cache(self.caches, inputs, make)

    def _read_rows(self, prompt: Prompt, _prefixes: bool) -> Base:
        return Base(read_stream(self.model, self.start, prompt.ids))


def find_stream_start(model: HookedModel, site: Site, inputs: Tensor) -> StreamStart | None:
    """Find where a run with an edit at a site can begin.

    Args:
        model: The model, wrapped with a `layer_path`.
        site: The site of the edit.
        inputs: A row or more, run once to see that every block runs once, in order, and what it gives.

    Returns:
        The start; None for models and sites that need a whole forward.
    """
    if model.layer_path is None:
        return None
    keys = [name for name, _ in model.module.get_submodule(model.layer_path).named_children()]
    paths = tuple(f"{model.layer_path}.{key}".removeprefix(".") for key in keys)
    seen, before = _watch_modules(model, site, paths, inputs)
    if [path for path, _ in seen] != list(paths) or any(count is None for _, count in seen):
        return None
    start = _find_start(model.point(site.name, site.side), paths, before)
    return None if start is None else StreamStart(start, paths, tuple(count or 0 for _, count in seen))


def list_narrow_places(model: HookedModel, start: StreamStart) -> list[str]:
    """List where a run may be narrowed, the earliest first: after each child of the last block that runs, after it."""
    last = start.paths[-1]
    children = model.module.get_submodule(last).named_children() if start.start.first < len(start.paths) else ()
    return [*(f"{last}.{name}" for name, _ in children), last]


def read_stream(model: HookedModel, start: StreamStart, ids: Tensor) -> Float[Tensor, "row position width"] | None:
    """Read what enters the first block that runs, without an edit.

    Args:
        model: The model to run.
        start: Where its tail begins.
        ids: What it reads.

    Returns:
        The stream of these rows; None where no block is skipped.
    """
    if not start.start.first:
        return None
    path, read = start.paths[start.start.first - 1], ReadTap("the residual stream", None)
    with torch.no_grad(), model.tap([(HookPoint(path), read)]), stop_after(model.module.get_submodule(path)):
        model.call(ids)
    return read.result()


def run_stream_tail(
    model: HookedModel,
    start: StreamStart,
    stream: Float[Tensor, "row position width"] | None,
    ids: Tensor,
    edit: Edit,
    cells: Where,
    *,
    narrow: str | None = None,
) -> Float[Tensor, "m vocabulary"]:
    """Run some rows from a block on, under an edit.

    Args:
        model: The model to run.
        start: Where its tail begins.
        stream: What enters the first block that runs, without the edit.
        ids: What the model reads in these rows.
        edit: The edit.
        cells: The cells whose logits are needed.
        narrow: The module after which only these cells are run; None to run all positions to the end.

    Returns:
        The logits at the cells.
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


def _find_start(point: HookPoint, paths: Sequence[str], before: bool) -> TailStart | None:
    """Find the block where a run begins. before: whether the site has passed when the first block begins."""
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
    """Which blocks run and how many entries each gives (None for what is no stream); whether the site passes before."""
    seen: list[tuple[str, int | None]] = []
    read, before = ReadTap(str(site), None), [False]

    def note_begin(*_: Any) -> None:
        before[0] = not read.missing()

    def note_output(path: str, _module: nn.Module, _args: Any, output: Any) -> None:
        seen.append((path, 0 if isinstance(output, Tensor) else len(output) if type(output) is tuple else None))

    with ExitStack() as undo:
        undo.enter_context(torch.no_grad())
        undo.enter_context(model.tap([(model.point(site.name, site.side), read)]))
        blocks = [model.module.get_submodule(path) for path in paths]
        undo.callback(blocks[0].register_forward_pre_hook(note_begin).remove)
        for path, block in zip(paths, blocks, strict=True):
            undo.callback(block.register_forward_hook(partial(note_output, path)).remove)
        model.call(inputs)
    return seen, before[0]


@contextmanager
def _narrow_rows(module: nn.Module, cells: Where) -> Iterator[None]:
    """Let a module give these cells only, (1, m, width) in place of (row, position, width), after its other hooks."""

    def gather(_module: nn.Module, _args: Any, output: Any) -> Any:
        hidden = outputs.take_tensor(output, "the residual stream")
        flat = (cells.rows * hidden.shape[1] + cells.columns).to(hidden.device)
        return outputs.put_tensor(output, hidden.flatten(0, 1).index_select(0, flat)[None])

    handle = module.register_forward_hook(gather)
    try:
        yield
    finally:
        handle.remove()
