"""Free and total memory of a device, and how much of it may be spent on keeping activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import psutil
import torch

Value = TypeVar("Value")

SHARE, RESERVE = 0.4, 0.2
"""The share of free memory that kept activations may take, and the share of all memory that stays free."""


def free_bytes(device: torch.device) -> int:
    """Free memory of a device; on the CPU, what the system could give."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def total_bytes(device: torch.device) -> int:
    """All memory of a device."""
    return torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else psutil.virtual_memory().total


def spare_memory(device: torch.device) -> float:
    """Bytes that one more store may take: however many stores ask in turn, the forward passes keep their reserve."""
    return min(SHARE * free_bytes(device), free_bytes(device) - RESERVE * total_bytes(device))


class ProcessCache(Generic[Value]):
    """Keeps values that are costly to make in this process: those of the last `most` keys, each made once."""

    def __init__(self, most: int = 1) -> None:
        self.most = most
        self._values: dict[str, Value] = {}

    def get(self, key: str, make: Callable[[], Value]) -> Value:
        """Return the value of a key. Make it when it is not kept, after the oldest values have made room."""
        if key in self._values:
            self._values[key] = self._values.pop(key)
            return self._values[key]
        while len(self._values) >= self.most:
            self._values.pop(next(iter(self._values)))
        self._values[key] = make()
        return self._values[key]

    def clear(self) -> None:
        """Forget every value."""
        self._values.clear()
