"""The only place that displaces a module's `forward`, for the length of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from torch import Tensor, nn

from mas_hooks.hooks.taps import StopForward


@contextmanager
def displace_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
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


@contextmanager
def skip_blocks(blocks: Sequence[nn.Module], entries: Sequence[int], stream: Tensor | None) -> Iterator[None]:
    """The last of the blocks gives the stream, and those below it what they get.

    entries: of each block, how many its output has, of which the stream is the first; 0 for a bare tensor.
    """
    with ExitStack() as undo:
        for block, count in zip(blocks, entries, strict=True):
            value = stream if block is blocks[-1] else None
            undo.enter_context(displace_forward(block, _giving(value, count)))
        yield


@contextmanager
def stop_after(module: nn.Module) -> Iterator[None]:
    """A forward ends once this module has run and its hooks have seen what it gave."""

    def stop(*_: Any) -> None:
        raise StopForward

    handle = module.register_forward_hook(stop)
    try:
        with suppress(StopForward):
            yield
    finally:
        handle.remove()


def _giving(value: Tensor | None, count: int) -> Any:
    def forward(*args: Any, **kwargs: Any) -> Any:
        hidden = args[0] if args else next(iter(kwargs.values()))
        given = hidden if value is None else value.to(hidden.device)
        return (given, *[None] * (count - 1)) if count else given

    return forward
