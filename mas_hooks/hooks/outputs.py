"""The only place that knows what a module takes and returns: pick the activation out, put an edited one back.

An activation is seen as (batch, position, width); a module that gives (batch, width) has one position per call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from mas_hooks.core.errors import NoLogitsError, NoTensorError


def describe_output(value: object) -> str:
    """What a value is, in words for an error: its type, and its shape or size."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)} ({', '.join(type(item).__name__ for item in value)})"
    return f"a {type(value).__name__}"


def take_tensor(value: object, site: str, time_first: bool = False) -> Float[Tensor, "batch position width"]:
    """The activation in what a module took or gave: a bare tensor, or the first entry of a tuple or list."""
    first = value[0] if isinstance(value, tuple | list) and value else value
    if (
        isinstance(value, PackedSequence)
        or not isinstance(first, Tensor)
        or not first.is_floating_point()
        or first.ndim not in (2, 3)
    ):
        raise NoTensorError(site, describe_output(value))
    if first.ndim == 2:
        return first[:, None]
    return first.transpose(0, 1) if time_first else first


def put_tensor(value: Any, edited: Float[Tensor, "batch position width"], time_first: bool = False) -> Any:
    """`value` with its activation replaced: the twin of `take_tensor`."""
    if isinstance(value, tuple | list):
        rest = [put_tensor(value[0], edited, time_first), *value[1:]]
        return type(value)(*rest) if hasattr(value, "_fields") else type(value)(rest)
    if value.ndim == 2:
        return edited[:, 0]
    return edited.transpose(0, 1) if time_first else edited


def default_logits(output: object) -> Tensor:
    """`.logits` or ["logits"], else the only floating tensor. Raises NoLogitsError where neither is clear."""
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(found, Tensor):
        return found
    entries = (
        output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else [output]
    )
    tensors = [entry for entry in entries if isinstance(entry, Tensor) and entry.is_floating_point()]
    if len(tensors) == 1:
        return tensors[0]
    raise NoLogitsError(describe_output(output))
