"""The tail of a decoder of a known family: blocks from the site on, positions from the first edit on.

The model's own forward is called with its own ids, mask and positions. Blocks below the site give the stored residual
stream back in place of running (their `forward` is displaced for that one call), a key-value cache holds the unchanged
prefix, and the vocabulary is projected at the labelled cells only. The result equals a whole forward with a hook;
`engine/runner.py` proves that on real pairs before the tail is used.
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
from mas_hooks.engine.batch import AbstractRunner, LabelledLogits, PatchBatch, join_labelled
from mas_hooks.engine.passes import JoinedBatch, run_passes, split_by_position
from mas_hooks.engine.tails.kept import Base, BaseCache, Prompt, find_base_cache, join_rows, make_prompt
from mas_hooks.hooks import checks, outputs
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.names import HookPoint, blocks_path
from mas_hooks.hooks.skipping import skip_blocks, stop_after
from mas_hooks.hooks.taps import Edit, ReadTap, put_vectors

PASS_COST = {"cpu": 64, "cuda": 4096}
"""What one more pass costs, in tokens: rows are split by position only where that saves more."""


@dataclass(frozen=True)
class TailStart:
    """Where a run begins.

    Attributes:
        first: The lowest block that runs.
        whole: Whether the site is the stream that enters that block, so that the stored stream itself is patched.
            Otherwise the site lies within the block (or below all blocks) and a hook edits it.
    """

    first: int
    whole: bool


@dataclass(frozen=True, eq=False)
class BlockTailRunner(AbstractRunner):
    """Runs only what the edit can change: blocks from the site on, positions from the edit on, labelled logits.

    Attributes:
        model: The model to run.
        site: The patched site.
        start: Where a run begins.
        reuse: Whether to keep the keys and values of unchanged prefixes and start behind them.
        caches: What is kept of target inputs, by their id (see `find_base_cache`).
    """

    model: HookedModel
    site: Site
    start: TailStart
    reuse: bool = True
    caches: dict[int, tuple[Inputs, BaseCache]] = field(default_factory=dict)
    name = "tail"

    def run(self, batches: Sequence[PatchBatch]) -> LabelledLogits:
        lengths = [model_inputs.leading_tensor(batch.pairs.run_inputs).shape[1] for batch in batches]
        if len(set(lengths)) > 1:
            return join_labelled([self.run([batch]) for batch in batches])
        joined = JoinedBatch.of(batches)
        caches = [self._find_cache(batch.pairs) for batch in batches]
        prefixes = all(cache.prefixes for cache in caches)
        begins = joined.first_columns() if prefixes else torch.zeros_like(joined.batch)
        spread = begins if prefixes else lengths[0] - joined.end_columns()  # an end mirrored is a begin
        groups = split_by_position(spread, lengths[0], PASS_COST.get(self.model.device.type, PASS_COST["cpu"]))
        return run_passes(
            batches,
            joined,
            groups,
            lambda rows, cells: self._run_pass(joined, caches, rows, int(begins[rows].min()), cells),
        )

    def _run_pass(
        self, joined: JoinedBatch, caches: Sequence[BaseCache], rows: Tensor, begin: int, cells: Where
    ) -> Tensor:
        """Logits at some cells, from one forward over some rows of the joined batch."""
        needed = join_rows(joined, caches, rows, int(cells.columns.max()) + 1)
        edit = Edit(self.site, put_vectors, needed.where, needed.vectors)
        return run_decoder_tail(self.model, self.start, needed.base, needed.prompt, edit, cells, begin)

    def _find_cache(self, pairs: Pairs) -> BaseCache:
        inputs = pairs.run_inputs

        def make() -> BaseCache:
            reuse = self.reuse and not _edits_first_column(pairs)
            return BaseCache(make_prompt(self.model, inputs), self._read_rows, reuse)

        return find_base_cache(self.caches, inputs, make)

    def _read_rows(self, prompt: Prompt, prefixes: bool) -> Base:
        return read_base(self.model, self.start, prompt, prefixes=prefixes)


def find_tail_start(model: HookedModel, site: Site) -> TailStart | None:
    """Find where a run with an edit at a site can begin; None for models and sites that need a whole forward.

    Example:
        >>> from torch import nn
        >>> from mas_hooks.engine import find_tail_start
        >>> from mas_hooks.hooks import wrap
        >>> model = wrap(nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5)))  # no decoder of a known family
        >>> find_tail_start(model, model.at("embed")) is None
        True
    """
    core: Any = model.module
    if model.family is None or not model.family.decoder or core.get_output_embeddings() is None:
        return None
    point, path = model.point(site.name, site.side), _path_of_blocks(model)
    if point == model.point("embed"):
        return TailStart(0, whole=False)
    if not point.path.startswith(f"{path}."):
        return None
    key, _, within = point.path.removeprefix(f"{path}.").partition(".")
    index = list(_blocks_by_key(model)).index(key)
    if within or (index == 0 and point.side == "input"):
        return TailStart(index, whole=False)
    return TailStart(index if point.side == "input" else index + 1, whole=True)


def read_base(model: HookedModel, start: TailStart, prompt: Prompt, *, prefixes: bool) -> Base:
    """Run some rows once without an edit and keep what a tail needs of them.

    Args:
        model: The model to run.
        start: Where its tail begins.
        prompt: The rows.
        prefixes: Whether to run all blocks and keep their keys and values.

    Returns:
        The stream that enters the tail, and the keys and values of its blocks.
    """
    from transformers import DynamicCache

    core: Any = model.module
    read, cache = ReadTap("the residual stream", None), DynamicCache() if prefixes else None
    keys = list(_blocks_by_key(model))[: start.first]
    below = [HookPoint(f"{_path_of_blocks(model)}.{key}") for key in keys[-1:]]
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
    """Run some rows from a block on, under an edit.

    Args:
        model: The model to run.
        start: Where its tail begins.
        base: What the model computes of these rows without the edit.
        prompt: The rows.
        edit: The edit; its columns are those of the whole prompt.
        cells: The cells whose logits are needed; their columns are those of the whole prompt.
        begin: The first column that runs. Those before it, which hold no edit and none of the cells, come from the
            stored keys and values.

    Returns:
        The logits at the cells.
    """
    core: Any = model.module
    stream = None if base.stream is None else base.stream[:, begin:]
    if start.whole and stream is not None:
        assert isinstance(edit.where, Where)
        inside = Where(edit.where.rows, edit.where.columns - begin).to(stream.device)
        vectors = () if edit.vectors is None else (edit.vectors.to(stream.device),)
        stream = inside.scatter(stream, edit.fn(inside.gather(stream), *vectors))
    cache = _fill_cache(start, base, begin) if begin else None
    with ExitStack() as undo:
        undo.enter_context(checks.checkpointing_off(core))
        undo.enter_context(skip_blocks(*_blocks_below(model, start.first), stream))
        undo.enter_context(_project_only(core.get_output_embeddings(), Where(cells.rows, cells.columns - begin)))
        if not start.whole:
            undo.enter_context(model.hooks(edit))
        out = core(**prompt.span(begin), use_cache=cache is not None, past_key_values=cache)
    return (model.logits or outputs.default_logits)(out)[0]


def _path_of_blocks(model: HookedModel) -> str:
    assert model.family is not None
    return blocks_path(model.module, model.family)


def _blocks_by_key(model: HookedModel) -> dict[str, nn.Module]:
    """The blocks, by their keys in the list of blocks."""
    return dict(model.module.get_submodule(_path_of_blocks(model)).named_children())


def _blocks_below(model: HookedModel, first: int) -> tuple[list[nn.Module], list[int]]:
    """The blocks below `first`, and how many entries each gives (0: a bare tensor)."""
    assert model.family is not None
    blocks = list(_blocks_by_key(model).values())[:first]
    return blocks, [2 if model.family.tuples else 0] * len(blocks)


def _fill_cache(start: TailStart, base: Base, begin: int) -> Any:
    """A fresh key-value cache of the columns before `begin`.

    Blocks that are skipped need no entry, but transformers reads the length of the prefix from the first one.
    """
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
def _project_only(head: nn.Module, cells: Where) -> Iterator[None]:
    """Let the head project these cells only, (1, m, width) in place of (row, position, width)."""

    def gather(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = args[0]
        flat = (cells.rows * hidden.shape[1] + cells.columns).to(hidden.device)
        chosen = hidden.flatten(0, 1).index_select(0, flat)[None]  # its backward adds rows, and sorts nothing
        return (chosen, *args[1:])

    handle = head.register_forward_pre_hook(gather, prepend=True)
    try:
        yield
    finally:
        handle.remove()


def _edits_first_column(pairs: Pairs) -> bool:
    """Whether every row is edited in its first column: no prefix is unchanged, so no keys and values can be reused."""
    return int((pairs.target_where.columns == 0).sum()) == len(pairs)
