"""The call that is under way: the inputs it began with, and which columns a forward carries.

In generation one call is many forwards. Each carries the columns after those in its key-value cache, and the rows may
be repeated (beams, several sequences a prompt).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mas_hooks.core import inputs as model_inputs
from mas_hooks.core.inputs import Inputs


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a model.

    Attributes:
        rows: How many rows the inputs have.
        length: How many positions they have.
        mask: (batch, position) bool, True on real tokens; None where nothing is padded.
        generating: Whether the model goes on to write tokens.
    """

    rows: int
    length: int
    mask: Tensor | None
    generating: bool = False

    def repeats(self, rows: int) -> int:
        """How often generation repeats each row of the inputs, where a forward has so many rows."""
        return rows // self.rows if self.generating and rows % self.rows == 0 else 1


_CALL: ContextVar[Call | None] = ContextVar("call", default=None)


@contextmanager
def track_call(inputs: Inputs, *, generating: bool = False) -> Iterator[None]:
    """Count every forward inside as one call on these inputs."""
    rows, length = (*model_inputs.leading_tensor(inputs).shape, 1)[:2]
    mask = model_inputs.padding_mask(inputs)
    padded = mask is not None and not mask.all()
    token = _CALL.set(Call(rows, length, mask if padded else None, generating))
    try:
        yield
    finally:
        _CALL.reset(token)


def current_call() -> Call | None:
    """The call under way; None where the model was called directly."""
    return _CALL.get()


def column_offset(kwargs: Mapping[str, Any]) -> int:
    """The column at which a forward starts: how many tokens its key-value cache holds already."""
    count = getattr(kwargs.get("past_key_values"), "get_seq_length", None)
    return 0 if count is None else int(count())  # a static cache counts in a tensor that goes on changing
