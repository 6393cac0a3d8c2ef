"""Runs of a part of a model: other forwards in place of a module's own, blocks that are skipped, an early end.

Nothing else displaces a module's `forward`. Each change lasts as long as its `with` block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from torch import Tensor, nn

from mas_hooks.hooks.taps import StopForward


@contextmanager
def displace_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Put another forward into a module; afterwards whatever was there is back (other libraries use that slot too)."""
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


@contextmanager
def skip_blocks(blocks: Sequence[nn.Module], entries: Sequence[int], stream: Tensor | None) -> Iterator[None]:
    """Skip blocks: the last of them gives the stream, and those below it give what they get.

    Args:
        blocks: The blocks, bottom up.
        entries: How many entries the output of each block has, the stream first; 0 for a bare tensor.
        stream: What the last block gives; None where no block is skipped.
    """
    with ExitStack() as undo:
        for block, count in zip(blocks, entries, strict=True):
            value = stream if block is blocks[-1] else None
            undo.enter_context(displace_forward(block, _skipped_forward(value, count)))
        yield


@contextmanager
def stop_after(module: nn.Module) -> Iterator[None]:
    """End each forward once this module has run and its other hooks have seen what it gave."""

    def stop(*_: Any) -> None:
        raise StopForward

    handle = module.register_forward_hook(stop)
    try:
        with suppress(StopForward):
            yield
    finally:
        handle.remove()


def _skipped_forward(value: Tensor | None, count: int) -> Any:
    """A forward that gives a value, or what it gets where that is None."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        hidden = args[0] if args else next(iter(kwargs.values()))
        stream = hidden if value is None else value.to(hidden.device)
        return (stream, *[None] * (count - 1)) if count else stream

    return forward
