"""The only place that displaces a module's `forward`, for the length of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def displaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Put another forward into the instance, and back whatever was there (other libraries use that slot too)."""
    slot = module.__dict__
    before = slot.get("forward")
    slot["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del slot["forward"]
        else:
            slot["forward"] = before
