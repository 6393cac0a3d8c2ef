"""Free and total memory of a device, and how much of it may be spent on keeping activations."""

from __future__ import annotations

import psutil
import torch

SHARE, RESERVE = 0.4, 0.2
"""How much of a device's free memory may be kept there, and how much of all its memory stays free for the passes."""


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device; on the CPU what the system could give."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def total_bytes(device: torch.device) -> int:
    """All memory of a device."""
    return torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else psutil.virtual_memory().total


def spare_memory(device: torch.device) -> float:
    """Bytes that one more store may take: however many ask in turn, the passes themselves keep their reserve."""
    return min(SHARE * free_bytes(device), free_bytes(device) - RESERVE * total_bytes(device))
