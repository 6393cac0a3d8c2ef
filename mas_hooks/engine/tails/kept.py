"""What a frozen model computes of target rows below the edit: computed at its first use, then kept for later batches.

A `Prompt` is what the model reads in some rows, a `Base` what it computes of them without an edit. A `BaseCache` keeps
the `Base` of every row of some inputs, and `join_rows` collects from several caches what one pass needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mas_hooks.core.inputs import Inputs
from mas_hooks.core.memory import spare_memory
from mas_hooks.core.sites import Where
from mas_hooks.engine.passes import JoinedBatch
from mas_hooks.engine.prefixes import CHUNK_TOKENS
from mas_hooks.hooks import huggingface
from mas_hooks.hooks.hooked_model import HookedModel


@dataclass(frozen=True, eq=False)
class Prompt:
    """What a model reads in some rows.

    Attributes:
        ids: The tokens, (row, position).
        mask: The attention mask, (row, position); None where nothing is padded.
        positions: The position of each token, (row, position); None where nothing is padded.
    """

    ids: Int[Tensor, "row position"]
    mask: Tensor | None
    positions: Tensor | None

    @classmethod
    def cat(cls, prompts: Sequence[Prompt]) -> Prompt:
        """Join the rows of several prompts of one length."""
        ids = torch.cat([prompt.ids for prompt in prompts])
        if all(prompt.mask is None for prompt in prompts):
            return cls(ids, None, None)
        masks, positions = [], []
        for prompt in prompts:
            unpadded = torch.arange(prompt.ids.shape[1], device=ids.device).expand(prompt.ids.shape)
            masks.append(torch.ones_like(prompt.ids) if prompt.mask is None else prompt.mask)
            positions.append(unpadded if prompt.positions is None else prompt.positions)
        return cls(ids, torch.cat(masks), torch.cat(positions))

    def rows(self, index: Int[Tensor, " n"]) -> Prompt:
        """Select rows."""
        return self._change_each(lambda tensor: tensor[index.to(tensor.device)])

    def until(self, end: int) -> Prompt:
        """Keep only the columns before `end`."""
        return self._change_each(lambda tensor: tensor[:, :end])

    def span(self, begin: int) -> dict[str, Tensor]:
        """The keywords of the model from column `begin` on; the mask covers the columns before it too."""
        keywords = {"input_ids": self.ids[:, begin:]}
        if self.mask is not None and self.positions is not None:
            keywords |= {"attention_mask": self.mask, "position_ids": self.positions[:, begin:]}
        return keywords

    def _change_each(self, change: Callable[[Tensor], Tensor]) -> Prompt:
        tensors = (self.ids, self.mask, self.positions)
        return Prompt(*(None if tensor is None else change(tensor) for tensor in tensors))  # pyright: ignore


@dataclass(frozen=True, eq=False)
class Base:
    """What a model computes of some rows without an edit.

    Attributes:
        stream: What enters the lowest block that runs, (row, position, width); None where no block is skipped.
        keys: Of each block from the lowest that runs on, (row, head, position, width of a head); empty where
            prefixes are not reused.
        values: As the keys.
    """

    stream: Float[Tensor, "row position width"] | None
    keys: Sequence[Tensor] = ()
    values: Sequence[Tensor] = ()

    @classmethod
    def cat(cls, bases: Sequence[Base]) -> Base:
        """Join the rows of several."""
        if len(bases) == 1:
            return bases[0]
        streams = [base.stream for base in bases if base.stream is not None]
        keys = [torch.cat(layer) for layer in zip(*(base.keys for base in bases), strict=True)]
        values = [torch.cat(layer) for layer in zip(*(base.values for base in bases), strict=True)]
        return cls(torch.cat(streams) if streams else None, keys, values)

    def until(self, end: int) -> Base:
        """Keep only the columns before `end`."""
        stream = None if self.stream is None else self.stream[:, :end]
        return Base(stream, [keys[:, :, :end] for keys in self.keys], [values[:, :, :end] for values in self.values])

    @property
    def tensors(self) -> list[Tensor]:
        """The stream where there is one, then the keys, then the values."""
        return [*([] if self.stream is None else [self.stream]), *self.keys, *self.values]


@dataclass(eq=False)
class BaseCache:
    """The `Base` of every row of some inputs, in the model's own dtype.

    Attributes:
        prompt: The inputs.
        read: Computes the `Base` of some rows of the prompt, with keys and values or without.
        prefixes: Whether keys and values are kept too.
        fits: False where all rows would take too much memory. Then the stream alone is computed again at each use,
            which costs time and changes no number.
    """

    prompt: Prompt
    read: Callable[[Prompt, bool], Base]
    prefixes: bool
    fits: bool = field(init=False, default=True)
    _known: Tensor = field(init=False)
    _has_stream: bool = field(init=False)
    _buffers: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self._known = torch.zeros(len(self.prompt.ids), dtype=torch.bool)
        for prefixes in dict.fromkeys((self.prefixes, False)):
            self.prefixes = prefixes
            one_row = self._compute(torch.zeros(1, dtype=torch.int64))
            buffers, self._has_stream = self._allocate_buffers(one_row), one_row.stream is not None
            self.fits = buffers is not None
            self._buffers = buffers or []
            if self.fits:
                return

    def base(self, index: Int[Tensor, " batch"], end: int) -> Base:
        """What the model computes of some rows in the columns before `end`; computed now where it is not kept yet."""
        index = index.cpu()
        if not self.fits:
            return self._compute(index).until(end)
        missing = index[~self._known[index]].unique()
        size = max(1, CHUNK_TOKENS // self.prompt.ids.shape[1])
        for rows in missing.split(size) if len(missing) else ():
            for buffer, tensor in zip(self._buffers, self._compute(rows).tensors, strict=True):
                buffer[rows.to(buffer.device)] = tensor
            self._known[rows] = True
        tensors = [buffer[..., :end, :][index.to(buffer.device)] for buffer in self._buffers]
        stream = tensors.pop(0) if self._has_stream else None
        half = len(tensors) // 2
        return Base(stream, tensors[:half], tensors[half:])

    def _compute(self, rows: Tensor) -> Base:
        return self.read(self.prompt.rows(rows), self.prefixes)

    def _allocate_buffers(self, one_row: Base) -> list[Tensor] | None:
        """Buffers for all rows; None where they would take too much of a device's free memory."""
        rows, needed = len(self.prompt.ids), {}
        for tensor in one_row.tensors:
            needed[tensor.device] = needed.get(tensor.device, 0) + tensor.nbytes * rows
        if any(size > spare_memory(device) for device, size in needed.items()):
            return None
        # Filled, so that the memory is taken now and the next one to ask sees that it is gone.
        return [tensor.new_full((rows, *tensor.shape[1:]), 0) for tensor in one_row.tensors]


@dataclass(frozen=True, eq=False)
class PassRows:
    """What one pass over some rows of a batch needs.

    Attributes:
        base: What the model computes of these rows without an edit.
        prompt: What the model reads in them.
        where: The edited cells, at their places among the rows.
        vectors: One for each of these cells, (n, width).
    """

    base: Base
    prompt: Prompt
    where: Where
    vectors: Float[Tensor, "n width"]


def make_prompt(model: HookedModel, inputs: Inputs) -> Prompt:
    """Turn inputs into what the model reads, on its device; with a mask only where something is padded."""
    keywords = {name: tensor.to(model.device) for name, tensor in huggingface.prepare_inputs(inputs).items()}
    mask = keywords.get("attention_mask")
    if mask is None or bool(mask.all()):
        return Prompt(keywords["input_ids"], None, None)
    return Prompt(keywords["input_ids"], mask, keywords["position_ids"])


def find_base_cache(
    caches: dict[int, tuple[Inputs, BaseCache]], inputs: Inputs, make: Callable[[], BaseCache]
) -> BaseCache:
    """Find the cache of some inputs, or make it at their first use. Directions that share inputs share their cache.

    Args:
        caches: By the id of the inputs: these inputs, which keep their id as long as they are held here, and their
            cache. A new cache is added.
        inputs: What the target model reads.
        make: Makes a new cache.

    Returns:
        The cache of these inputs.
    """
    if id(inputs) not in caches:
        caches[id(inputs)] = (inputs, make())
    return caches[id(inputs)][1]


def join_rows(joined: JoinedBatch, caches: Sequence[BaseCache], rows: Int[Tensor, " m"], end: int) -> PassRows:
    """Collect what a pass over some rows of a batch needs, in the columns before `end`.

    Args:
        joined: The batches that run together.
        caches: The cache of each of these batches.
        rows: Rows of the joined batch.
        end: The first column that the pass leaves out.

    Returns:
        The rows in the order of their batches.
    """
    where, vectors = joined.select_edits(rows, end)
    owners = joined.split_by_batch(rows)
    base = Base.cat([caches[number].base(pairs, end) for number, pairs in owners])
    prompt = Prompt.cat([caches[number].prompt.rows(pairs) for number, pairs in owners]).until(end)
    return PassRows(base, prompt, where, vectors)
