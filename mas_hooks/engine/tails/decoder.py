"""Run a decoder from a block on: blocks below the site are not run, and neither are positions before the first edit.

The model's own forward is called with its own ids, mask and positions. Blocks below give the stored residual stream
back in place of running (their `forward` is displaced for that one call), a key-value cache holds the unchanged
prefix, and the vocabulary is projected at the wanted cells only. Equal to a whole forward with a hook; `engine/run.py`
proves that on real pairs before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mas_hooks.core import inputs as model_inputs
from mas_hooks.core.inputs import Inputs
from mas_hooks.core.sites import Site, Where
from mas_hooks.data.pairs import Pairs
from mas_hooks.engine.batch import AbstractRunner, LabelledLogits, PatchBatch, join_batches
from mas_hooks.engine.passes import Batch, run_passes, split_by_position
from mas_hooks.engine.tails.kept import Base, BaseCache, Prompt, make_prompt
from mas_hooks.hooks import checks, outputs
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.names import HookPoint, blocks_path
from mas_hooks.hooks.skipping import skip_blocks, stop_after
from mas_hooks.hooks.taps import Edit, ReadTap


@dataclass(frozen=True)
class TailStart:
    """Where a run begins: `first` is the lowest block that runs.

    whole: the site is the stream that enters it, so that the stored stream itself is patched; otherwise the site lies
    within the block (or below all blocks) and is edited by a hook.
    """

    first: int
    whole: bool


def find_tail_start(model: HookedModel, site: Site) -> TailStart | None:
    """Where a run with an edit at this site can begin; None for models and sites that need a whole forward."""
    core: Any = model.module
    if model.family is None or not model.family.decoder or core.get_output_embeddings() is None:
        return None
    point, path = model.point(site.name, site.side), _path(model)
    if point == model.point("embed"):
        return TailStart(0, whole=False)
    if not point.path.startswith(f"{path}."):
        return None
    key, _, within = point.path.removeprefix(f"{path}.").partition(".")
    index = _keys(model).index(key)
    if within or (index == 0 and point.side == "input"):
        return TailStart(index, whole=False)
    return TailStart(index if point.side == "input" else index + 1, whole=True)


def read_base(model: HookedModel, start: TailStart, prompt: Prompt, *, prefixes: bool) -> Base:
    """One unedited forward of some rows; with `prefixes` all blocks run and their keys and values are kept."""
    from transformers import DynamicCache

    core: Any = model.module
    read, cache = ReadTap("the residual stream", None), DynamicCache() if prefixes else None
    below = [HookPoint(f"{_path(model)}.{key}") for key in _keys(model)[: start.first][-1:]]
    with ExitStack() as undo:
        undo.enter_context(torch.no_grad())
        undo.enter_context(model.tap([(point, read) for point in below]))
        for point in () if prefixes else below:
            undo.enter_context(stop_after(core.get_submodule(point.path)))
        if prefixes or below:
            core(**prompt.span(0), use_cache=prefixes, past_key_values=cache, logits_to_keep=1)
    layers: list[Any] = [] if cache is None else cache.layers[start.first :]
    stream = read.result() if below else None
    return Base(stream, [layer.keys for layer in layers], [layer.values for layer in layers])


def run_decoder_tail(
    model: HookedModel, start: TailStart, base: Base, prompt: Prompt, edit: Edit, cells: Where, begin: int = 0
) -> Float[Tensor, "m vocabulary"]:
    """Logits at `cells` under the edit. All columns are those of the whole prompt.

    begin: the first column that runs; those before it, which hold no edit and no wanted cell, come from the stored keys
    and values.
    """
    core: Any = model.module
    stream = None if base.stream is None else base.stream[:, begin:]
    if start.whole and stream is not None:
        assert isinstance(edit.where, Where)
        inside = Where(edit.where.rows, edit.where.columns - begin).to(stream.device)
        found = inside.gather(stream)
        own = () if edit.vectors is None else (edit.vectors.to(stream.device),)
        stream = inside.scatter(stream, edit.fn(found, *own))
    cache = _prefix(start, base, begin) if begin else None
    wanted = Where(cells.rows, cells.columns - begin)
    with ExitStack() as undo:
        undo.enter_context(checks.checkpointing_off(core))
        undo.enter_context(skip_blocks(*_below(model, start.first), stream))
        undo.enter_context(_projecting(core.get_output_embeddings(), wanted))
        if not start.whole:
            undo.enter_context(model.hooks(edit))
        out = core(**prompt.span(begin), use_cache=cache is not None, past_key_values=cache)
    return (model.logits or outputs.default_logits)(out)[0]


def _path(model: HookedModel) -> str:
    assert model.family is not None
    return blocks_path(model.module, model.family)


def _keys(model: HookedModel) -> list[str]:
    """What each block is called in the list of blocks."""
    return [name for name, _ in model.module.get_submodule(_path(model)).named_children()]


def _below(model: HookedModel, first: int) -> tuple[list[nn.Module], list[int]]:
    """The blocks below `first`, and how many entries each gives (0: a bare tensor)."""
    assert model.family is not None
    blocks = [module for _, module in model.module.get_submodule(_path(model)).named_children()][:first]
    return blocks, [2 if model.family.tuples else 0] * len(blocks)


def _prefix(start: TailStart, base: Base, begin: int) -> Any:
    """A fresh cache that holds the first columns. Blocks that are skipped need none, but the first tells the length."""
    from transformers import DynamicCache

    cache = DynamicCache()
    if start.first:
        stream = base.stream
        assert stream is not None
        blank = stream.new_zeros(1).expand(len(stream), 1, begin, 1)
        cache.update(blank, blank, 0)
    for index, (keys, values) in enumerate(zip(base.keys, base.values, strict=True), start.first):
        cache.update(keys[:, :, :begin], values[:, :, :begin], index)
    return cache


@contextmanager
def _projecting(head: nn.Module, cells: Where) -> Iterator[None]:
    """The vocabulary is projected at these cells only, (1, m, width) in place of (row, position, width)."""

    def gather(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = args[0]
        flat = (cells.rows * hidden.shape[1] + cells.columns).to(hidden.device)
        return (
            hidden.flatten(0, 1).index_select(0, flat)[None],
            *args[1:],
        )  # its backward adds rows, and sorts nothing

    handle = head.register_forward_pre_hook(gather, prepend=True)
    try:
        yield
    finally:
        handle.remove()


PASS_COST = {"cpu": 64, "cuda": 4096}
"""What one more pass costs, in tokens: rows are split by position only where that saves more."""


@dataclass(frozen=True, eq=False)
class BlockTailRunner(AbstractRunner):
    """Only what the edit can change: blocks from the site on, positions from the edit on, logits where wanted.

    reuse: keep the keys and values of unchanged prefixes and start behind them.
    """

    model: HookedModel
    site: Site
    start: TailStart
    reuse: bool = True
    kept: dict[int, tuple[Inputs, BaseCache]] = field(default_factory=dict)
    name = "tail"

    def run(self, parts: Sequence[PatchBatch]) -> LabelledLogits:
        lengths = [model_inputs.leading_tensor(part.pairs.run_inputs).shape[1] for part in parts]
        if len(set(lengths)) > 1:
            return join_batches([self.run([part]) for part in parts])
        batch = Batch.of(parts)
        kept = [self._base_of(part.pairs) for part in parts]
        prefixes = all(own.prefixes for own in kept)
        begins = batch.begins() if prefixes else torch.zeros_like(batch.part)
        spread = begins if prefixes else lengths[0] - batch.ends()  # an end mirrored is a begin
        groups = split_by_position(spread, lengths[0], PASS_COST.get(self.model.device.type, PASS_COST["cpu"]))
        return run_passes(
            parts, batch, groups, lambda rows, cells: self._pass(batch, kept, rows, int(begins[rows].min()), cells)
        )

    def _pass(self, batch: Batch, kept: Sequence[BaseCache], rows: Tensor, begin: int, cells: Where) -> Tensor:
        """Logits at some cells, from one forward over some rows of the batch."""
        end, owners = int(cells.columns.max()) + 1, batch.owners(rows)
        where, vectors = batch.edits_in(rows, end)
        base = Base.cat([kept[number].base(index, end) for number, index in owners])
        prompt = Prompt.cat([kept[number].prompt.rows(index) for number, index in owners]).until(end)
        edit = Edit(self.site, lambda _h, given: given, where, vectors)
        return run_decoder_tail(self.model, self.start, base, prompt, edit, cells, begin)

    def _base_of(self, pairs: Pairs) -> BaseCache:
        """What is kept of these target inputs; directions that share them share it."""
        inputs = pairs.run_inputs
        if id(inputs) not in self.kept:
            made = BaseCache(
                make_prompt(self.model, inputs), self._read_rows, self.reuse and not _edits_first_column(pairs)
            )
            self.kept[id(inputs)] = (inputs, made)  # the inputs are kept beside, so that their id stays theirs
        return self.kept[id(inputs)][1]

    def _read_rows(self, prompt: Prompt, prefixes: bool) -> Base:
        return read_base(self.model, self.start, prompt, prefixes=prefixes)


def _edits_first_column(pairs: Pairs) -> bool:
    """Whether every row is edited in its first column: there is no unchanged prefix whose keys and values would do."""
    return int((pairs.target_where.columns == 0).sum()) == len(pairs)
