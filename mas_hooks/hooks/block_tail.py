"""Run a decoder from a block on: blocks below the site are not run, and neither are positions before the first edit.

The model's own forward is called with its own ids, mask and positions. Blocks below give the stored residual stream
back in place of running (their `forward` is displaced for that one call), a key-value cache holds the unchanged
prefix, and the vocabulary is projected at the wanted cells only. Equal to a whole forward with a hook; `engine/run.py`
proves that on real pairs before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mas_hooks.hooks import condition, outputs
from mas_hooks.hooks.handle import HookedModel
from mas_hooks.hooks.names import Point, blocks_path
from mas_hooks.hooks.skipped import skipped, stopped_after
from mas_hooks.hooks.taps import Edit, ReadTap
from mas_hooks.sites import Site, Where


@dataclass(frozen=True)
class Start:
    """Where a run begins: `first` is the lowest block that runs.

    whole: the site is the stream that enters it, so that the stored stream itself is patched; otherwise the site lies
    within the block (or below all blocks) and is edited by a hook.
    """

    first: int
    whole: bool


@dataclass(frozen=True, eq=False)
class Base:
    """What a decoder computed of some rows without an edit.

    stream (row, position, width): what enters block `first`; None where no block is skipped. keys, values: of each
    block from `first` on, (row, head, position, width of a head); empty where prefixes are not reused.
    """

    stream: Float[Tensor, "row position width"] | None
    keys: Sequence[Tensor] = ()
    values: Sequence[Tensor] = ()

    @classmethod
    def cat(cls, several: Sequence[Base]) -> Base:
        """The rows of several as one."""
        if len(several) == 1:
            return several[0]
        streams = [one.stream for one in several if one.stream is not None]
        keys, values = (
            [torch.cat(layer) for layer in zip(*own, strict=True)]
            for own in ([one.keys for one in several], [one.values for one in several])
        )
        return cls(torch.cat(streams) if streams else None, keys, values)

    def until(self, end: int) -> Base:
        """Only the columns before `end`."""
        stream = None if self.stream is None else self.stream[:, :end]
        return Base(stream, [one[:, :, :end] for one in self.keys], [one[:, :, :end] for one in self.values])


@dataclass(frozen=True, eq=False)
class Prompt:
    """ids (row, position); mask and positions of the same shape, or None where nothing is padded."""

    ids: Int[Tensor, "row position"]
    mask: Tensor | None
    positions: Tensor | None

    @classmethod
    def cat(cls, several: Sequence[Prompt]) -> Prompt:
        """The rows of several, of one length, as one."""
        ids = torch.cat([one.ids for one in several])
        if all(one.mask is None for one in several):
            return cls(ids, None, None)
        plain = [torch.arange(one.ids.shape[1], device=ids.device).expand(one.ids.shape) for one in several]
        masks = [torch.ones_like(one.ids) if one.mask is None else one.mask for one in several]
        positions = [own if one.positions is None else one.positions for one, own in zip(several, plain, strict=True)]
        return cls(ids, torch.cat(masks), torch.cat(positions))

    def rows(self, index: Int[Tensor, " n"]) -> Prompt:
        """Some rows."""
        return self._each(lambda tensor: tensor[index.to(tensor.device)])

    def until(self, end: int) -> Prompt:
        """Only the columns before `end`."""
        return self._each(lambda tensor: tensor[:, :end])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Prompt:
        own = (self.ids, self.mask, self.positions)
        return Prompt(*(None if tensor is None else change(tensor) for tensor in own))  # pyright: ignore

    def span(self, begin: int) -> dict[str, Tensor]:
        """The model's own inputs from a column on; the mask covers the columns before it too."""
        own = {"input_ids": self.ids[:, begin:]}
        if self.mask is not None and self.positions is not None:
            own |= {"attention_mask": self.mask, "position_ids": self.positions[:, begin:]}
        return own


def start_of(model: HookedModel, site: Site) -> Start | None:
    """Where a run with an edit at this site can begin; None for models and sites that need a whole forward."""
    core: Any = model.module
    if model.family is None or not model.family.decoder or core.get_output_embeddings() is None:
        return None
    point, path = model.point(site.name, site.side), _path(model)
    if point == model.point("embed"):
        return Start(0, whole=False)
    if not point.path.startswith(f"{path}."):
        return None
    key, _, within = point.path.removeprefix(f"{path}.").partition(".")
    index = _keys(model).index(key)
    if within or (index == 0 and point.side == "input"):
        return Start(index, whole=False)
    return Start(index if point.side == "input" else index + 1, whole=True)


def read_base(model: HookedModel, start: Start, prompt: Prompt, *, prefixes: bool) -> Base:
    """One unedited forward of some rows; with `prefixes` all blocks run and their keys and values are kept."""
    from transformers import DynamicCache

    core: Any = model.module
    read, cache = ReadTap("the residual stream", None), DynamicCache() if prefixes else None
    below = [Point(f"{_path(model)}.{key}") for key in _keys(model)[: start.first][-1:]]
    with ExitStack() as undo:
        undo.enter_context(torch.no_grad())
        undo.enter_context(model.tapped([(point, read) for point in below]))
        for point in () if prefixes else below:
            undo.enter_context(stopped_after(core.get_submodule(point.path)))
        if prefixes or below:
            core(**prompt.span(0), use_cache=prefixes, past_key_values=cache, logits_to_keep=1)
    layers: list[Any] = [] if cache is None else cache.layers[start.first :]
    stream = read.result() if below else None
    return Base(stream, [layer.keys for layer in layers], [layer.values for layer in layers])


def run_from(
    model: HookedModel, start: Start, base: Base, prompt: Prompt, edit: Edit, cells: Where, begin: int = 0
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
        undo.enter_context(condition.checkpointing_off(core))
        undo.enter_context(skipped(*_below(model, start.first), stream))
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


def _prefix(start: Start, base: Base, begin: int) -> Any:
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
