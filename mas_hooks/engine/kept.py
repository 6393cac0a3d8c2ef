"""What a frozen model computes of each target row below the edit, computed at its first use and then kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from mas_hooks.hooks import huggingface
from mas_hooks.hooks.block_tail import Base, Prompt
from mas_hooks.hooks.handle import HookedModel
from mas_hooks.inputs import Inputs

CHUNK_TOKENS = 16_384
SHARE, RESERVE = 0.4, 0.2
"""How much of a device's free memory may be kept there, and how much of all its memory stays free for the passes."""


def prompt_of(model: HookedModel, inputs: Inputs) -> Prompt:
    """Inputs as the model gets them, on its device; a mask only where something is padded."""
    own = {name: tensor.to(model.device) for name, tensor in huggingface.prepared(inputs).items()}
    mask = own.get("attention_mask")
    if mask is None or bool(mask.all()):
        return Prompt(own["input_ids"], None, None)
    return Prompt(own["input_ids"], mask, own["position_ids"])


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device; on the CPU what the system could give, where it says so."""
    return _memory(device)[0]


def total_bytes(device: torch.device) -> int:
    """All memory of a device."""
    return _memory(device)[1]


def room_on(device: torch.device) -> float:
    """What one more store may take: however many ask in turn, the passes themselves keep their reserve."""
    free = free_bytes(device)
    return min(SHARE * free, free - RESERVE * total_bytes(device))


def _memory(device: torch.device) -> tuple[int, int]:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)
    told = Path("/proc/meminfo")
    if told.exists():
        found = dict(line.split(":") for line in told.read_text().splitlines())
        free, total = (int(found[name].split()[0]) * 1024 for name in ("MemAvailable", "MemTotal"))
        return free, total
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return total // 2, total


@dataclass(eq=False)
class Kept:
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
        if any(size > room_on(device) for device, size in needed.items()):
            return None
        # Filled, so that the memory is taken now and the next one to ask sees that it is gone.
        return [tensor.new_full((rows, *tensor.shape[1:]), 0) for tensor in like]


def _tensors(base: Base) -> list[Tensor]:
    return [*([] if base.stream is None else [base.stream]), *base.keys, *base.values]
