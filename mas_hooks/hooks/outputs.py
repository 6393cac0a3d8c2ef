"""What a module takes and returns: pick the activation out, put an edited one back, compare two outputs.

Nothing else unpacks outputs. An activation is seen as (batch, position, width); a module that gives (batch, width) has
one position per call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from mas_hooks.core.errors import NoLogitsError, NoTensorError

TOLERANCE, LOW_PRECISION_TOLERANCE = 1e-4, 3e-2
"""How far two results of one computation may lie apart, as a share of the largest value: float32 and above, below."""


def describe_output(value: object) -> str:
    """Describe a value for an error: its type, and its shape or size."""
    if isinstance(value, Tensor):
        words = f"{str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    elif isinstance(value, tuple | list):
        words = f"{type(value).__name__} of {len(value)} ({', '.join(type(item).__name__ for item in value)})"
    else:
        words = type(value).__name__
    return f"{'an' if words[0] in 'AEIOaeio' else 'a'} {words}"


def take_tensor(value: object, site: str, time_first: bool = False) -> Float[Tensor, "batch position width"]:
    """Take the activation out of what a module took or gave.

    Args:
        value: A bare tensor, or a tuple or list whose first entry is one.
        site: The name of the site, for errors.
        time_first: Whether the module puts positions before the batch.

    Returns:
        The activation, as a view of the tensor.

    Raises:
        NoTensorError: There is no floating tensor of two or three axes.
    """
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
    """Put an edited activation in place of that in `value`: the twin of `take_tensor`.

    Args:
        value: What the module took or gave.
        edited: The edited activation.
        time_first: Whether the module puts positions before the batch.

    Returns:
        Something of the same form as `value`.
    """
    if isinstance(value, tuple | list):
        rest = [put_tensor(value[0], edited, time_first), *value[1:]]
        return type(value)(*rest) if hasattr(value, "_fields") else type(value)(rest)
    if value.ndim == 2:
        return edited[:, 0]
    return edited.transpose(0, 1) if time_first else edited


def default_logits(output: object) -> Tensor:
    """Pick `.logits` or ["logits"], else the only floating tensor. Raises NoLogitsError when there is neither."""
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    entries = (
        output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else [output]
    )
    tensors = [entry for entry in entries if isinstance(entry, Tensor) and entry.is_floating_point()]
    if len(tensors) == 1:
        return tensors[0]
    raise NoLogitsError(describe_output(output))


def agree_up_to_rounding(result: Tensor, expected: Tensor) -> bool:
    """Whether two tensors of one shape are the same up to the rounding of the dtype of `expected`."""
    tolerance = TOLERANCE if expected.dtype in (torch.float32, torch.float64) else LOW_PRECISION_TOLERANCE
    return bool((result - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1.0))
