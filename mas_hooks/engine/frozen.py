"""Models that take no gradient for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import nn


@contextmanager
def frozen(modules: Sequence[nn.Module]) -> Iterator[None]:
    """No gradient to these modules' parameters inside the block; afterwards each is as it was."""
    with ExitStack() as undo:
        for parameter in (parameter for module in modules for parameter in module.parameters()):
            if parameter.requires_grad:
                undo.callback(parameter.requires_grad_, True)
                parameter.requires_grad_(False)
        yield
