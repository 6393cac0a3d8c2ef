"""The only place that knows what a module takes and returns: pick the activation out, put an edited one back.

An activation is seen as (batch, position, width); a module that gives (batch, width) has one position per call.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from mas_hooks.errors import NoLogitsError, NoTensorError


def describe(value: object) -> str:
    """What a value is, in words for an error: its type, and its shape or size."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)} ({', '.join(type(item).__name__ for item in value)})"
    return f"a {type(value).__name__}"


def take(value: object, site: str) -> Float[Tensor, "batch position width"]:
    """The activation in what a module returned: a bare tensor, or the first entry of a tuple or list."""
    first = value[0] if isinstance(value, tuple | list) and value else value
    if not isinstance(first, Tensor) or not first.is_floating_point() or first.ndim not in (2, 3):
        raise NoTensorError(site, describe(value))
    return first if first.ndim == 3 else first[:, None]


def put(value: Any, edited: Float[Tensor, "batch position width"]) -> Any:
    """`value` with its activation replaced: the twin of `take`."""
    if isinstance(value, tuple | list):
        first = edited if value[0].ndim == 3 else edited[:, 0]
        rest = [first, *value[1:]]
        return type(value)(*rest) if hasattr(value, "_fields") else type(value)(rest)
    return edited if value.ndim == 3 else edited[:, 0]


def default_logits(output: object) -> Tensor:
    """`.logits` where there is one, else the only floating tensor. Raises NoLogitsError where neither is clear."""
    found = getattr(output, "logits", None)
    if isinstance(found, Tensor):
        return found
    if isinstance(output, Tensor):
        return output
    if isinstance(output, dict):
        tensors = [value for value in output.values() if isinstance(value, Tensor) and value.is_floating_point()]
        if len(tensors) == 1:
            return tensors[0]
    elif isinstance(output, tuple | list):
        tensors = [value for value in output if isinstance(value, Tensor) and value.is_floating_point()]
        if len(tensors) == 1:
            return tensors[0]
    raise NoLogitsError(describe(output))
