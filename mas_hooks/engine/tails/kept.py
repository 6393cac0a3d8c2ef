"""What a frozen model computes of each target row below the edit, computed at its first use and then kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mas_hooks.core.inputs import Inputs
from mas_hooks.core.memory import spare_memory
from mas_hooks.hooks import huggingface
from mas_hooks.hooks.hooked_model import HookedModel

CHUNK_TOKENS = 16_384


def make_prompt(model: HookedModel, inputs: Inputs) -> Prompt:
    """Inputs as the model gets them, on its device; a mask only where something is padded."""
    own = {name: tensor.to(model.device) for name, tensor in huggingface.prepare_inputs(inputs).items()}
    mask = own.get("attention_mask")
    if mask is None or bool(mask.all()):
        return Prompt(own["input_ids"], None, None)
    return Prompt(own["input_ids"], mask, own["position_ids"])


@dataclass(eq=False)
class BaseCache:
    """The `Base` of every row of some inputs, in the model's own dtype.

    read: computes that of some rows of the prompt, with their prefixes or without. prefixes: keys and values are kept
    too. `fits` turns False where all rows would take too much memory: then the stream alone is computed anew at each
    use, which costs time and changes no number.
    """

    prompt: Prompt
    read: Callable[[Prompt, bool], Base]
    prefixes: bool
    fits: bool = field(init=False, default=True)
    _known: Tensor = field(init=False)
    _streams: bool = field(init=False)
    _buffers: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self._known = torch.zeros(len(self.prompt.ids), dtype=torch.bool)
        for prefixes in dict.fromkeys((self.prefixes, False)):
            self.prefixes = prefixes
            one_row = self._compute(torch.zeros(1, dtype=torch.int64))
            room, self._streams = self._room(one_row), one_row.stream is not None
            self.fits = room is not None
            self._buffers = room or []
            if self.fits:
                return

    def base(self, index: Int[Tensor, " batch"], end: int) -> Base:
        """What was computed of some rows, in the columns before `end`."""
        index = index.cpu()
        if not self.fits:
            return self._compute(index).until(end)
        missing = index[~self._known[index]].unique()
        size = max(1, CHUNK_TOKENS // self.prompt.ids.shape[1])
        for rows in missing.split(size) if len(missing) else ():
            for buffer, tensor in zip(self._buffers, _tensors(self._compute(rows)), strict=True):
                buffer[rows.to(buffer.device)] = tensor
            self._known[rows] = True
        found = [buffer[..., :end, :][index.to(buffer.device)] for buffer in self._buffers]
        stream = found.pop(0) if self._streams else None
        half = len(found) // 2
        return Base(stream, found[:half], found[half:])

    def _compute(self, rows: Tensor) -> Base:
        return self.read(self.prompt.rows(rows), self.prefixes)

    def _room(self, one_row: Base) -> list[Tensor] | None:
        """Buffers for all rows, or None where they would take too much of a device's free memory."""
        rows, needed, like = len(self.prompt.ids), {}, _tensors(one_row)
        for tensor in like:
            needed[tensor.device] = needed.get(tensor.device, 0) + tensor.nbytes * rows
        if any(size > spare_memory(device) for device, size in needed.items()):
            return None
        # Filled, so that the memory is taken now and the next one to ask sees that it is gone.
        return [tensor.new_full((rows, *tensor.shape[1:]), 0) for tensor in like]


def _tensors(base: Base) -> list[Tensor]:
    return [*([] if base.stream is None else [base.stream]), *base.keys, *base.values]


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
