"""The inputs of a wrapped model: a tensor of ids (or features), or a mapping of tensors as keywords. Batch first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from mas_hooks.core.errors import EmptyError, SettingError

Inputs: TypeAlias = Tensor | Mapping[str, Tensor]
_PRIME = 6_364_136_223_846_793_005  # Knuth's multiplier: prefixes differ modulo 2^64


def leading_tensor(inputs: Inputs) -> Tensor:
    """The tensor whose first axes are (batch, position): the ids, the embeddings, or the first entry."""
    if isinstance(inputs, Tensor):
        return inputs
    if not isinstance(inputs, Mapping) or not all(isinstance(value, Tensor) for value in inputs.values()):
        problem = f"is a {type(inputs).__name__}, not a tensor of ids or a mapping of tensors"
        raise SettingError.because("the input of a model", problem, "turn texts into one by model.encode(texts)")
    if not inputs:
        raise EmptyError("the mapping of inputs", "give it what the model takes, by name")
    return inputs[next((name for name in ("input_ids", "inputs_embeds") if name in inputs), next(iter(inputs)))]


def padding_mask(inputs: Inputs) -> Tensor | None:
    """(batch, position) bool, True on real tokens; None where the inputs carry no `attention_mask`."""
    if isinstance(inputs, Tensor) or "attention_mask" not in inputs:
        return None
    return inputs["attention_mask"].bool()


def select_rows(inputs: Inputs, index: Tensor | slice) -> Inputs:
    """The same inputs with only the batch rows of `index`."""
    if isinstance(inputs, Tensor):
        return inputs[index]
    return {name: value[index] for name, value in inputs.items()}


def have_same_shapes(several: Sequence[Inputs]) -> bool:
    """Whether inputs can be put together: the same tensors, of the same shape but for the batch."""
    shapes = [
        {
            name: tuple(tensor.shape[1:])
            for name, tensor in ({"": batch} if isinstance(batch, Tensor) else batch).items()
        }
        for batch in several
    ]
    return all(shape == shapes[0] for shape in shapes)


def join_inputs(several: Sequence[Inputs]) -> Inputs:
    """Inputs of the same shapes (`have_same_shapes`) as one batch."""
    first = several[0]
    if isinstance(first, Tensor):
        return torch.cat([batch for batch in several if isinstance(batch, Tensor)])
    return {name: torch.cat([batch[name] for batch in several if not isinstance(batch, Tensor)]) for name in first}


def to_device(inputs: Inputs, device: torch.device) -> Inputs:
    """The same inputs on `device`."""
    if isinstance(inputs, Tensor):
        return inputs.to(device)
    return {name: value.to(device) for name, value in inputs.items()}


def call_module(module: torch.nn.Module, inputs: Inputs) -> object:
    """Run `module` on its inputs: a tensor as the one argument, a mapping as keywords."""
    return module(inputs) if isinstance(inputs, Tensor) else module(**inputs)


def prefix_keys(ids: Int[Tensor, "row position"]) -> Int[Tensor, "row position"]:
    """A number for the tokens of a row up to each position: equal for equal prefixes."""
    read, columns = torch.zeros(len(ids), dtype=torch.int64, device=ids.device), []
    for tokens in ids.long().T:
        read = read * _PRIME + tokens + 1
        columns.append(read)
    return torch.stack(columns, 1)
