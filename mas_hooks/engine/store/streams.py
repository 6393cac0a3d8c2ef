"""What goes through a model to be collected: a data set cut into batches, or batches as they come."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias, cast

import torch
from torch import Tensor

from mas_hooks.core import inputs as model_inputs
from mas_hooks.core.errors import EmptyError, SettingError, ShapeError, UnsupportedError
from mas_hooks.core.inputs import Inputs
from mas_hooks.core.sites import Where
from mas_hooks.hooks.hooked_model import HookedModel
from mas_hooks.hooks.outputs import describe_output

Batch: TypeAlias = tuple[Inputs, Where]
Stream: TypeAlias = Iterable[tuple[Inputs, Where | None]]
CPU = torch.device("cpu")


def cut_batches(
    model: HookedModel, inputs: Inputs | Stream, where: Where | None, size: int
) -> tuple[Iterator[Batch], int | None]:
    """Turn a data set, or batches as they come, into checked batches.

    A whole data set is checked now, a stream of batches as they come.

    Args:
        model: The model that reads them.
        inputs: A whole data set, or batches (inputs, Where).
        where: The cells of the whole data set; None for every one that is no padding.
        size: How many rows of the whole data set go into a batch.

    Returns:
        The batches, and how many there are (None where nobody knows).

    Raises:
        EmptyError: There are no cells.
        PositionError: A cell lies outside the inputs or on padding.
        SettingError: The inputs or a batch are something else.
        ShapeError: The inputs have no positions.
        UnsupportedError: `where` comes beside batches.
    """
    if isinstance(inputs, Tensor | Mapping):
        whole = cast("Inputs", inputs)
        where = _check_cells(model, whole, where, "the inputs")
        if not len(where):
            raise EmptyError("where", "name at least one cell")
        return _cut_rows(whole, where, size), -(-len(where.rows.unique_consecutive()) // size)
    if not isinstance(inputs, Iterable):
        raise SettingError(
            "inputs", describe_output(inputs), "a tensor, a mapping of tensors or batches (inputs, Where)"
        )
    if where is not None:
        raise UnsupportedError(
            "a where of its own beside inputs that come in batches", "name the cells in each batch: (inputs, Where)"
        )
    return _check_stream(model, inputs), operator.length_hint(inputs) or None


def _check_cells(model: HookedModel, inputs: Inputs, where: Where | None, what: str) -> Where:
    """The cells, checked against the inputs; every one that is no padding where none are named."""
    shape, mask = tuple(model_inputs.leading_tensor(inputs).shape), model_inputs.padding_mask(inputs)
    if len(shape) < 2:
        raise ShapeError(f"{what} of {model.name}", shape, "(batch, position, …)")
    if where is None:
        where = Where.from_mask(torch.ones(shape[:2], dtype=torch.bool) if mask is None else mask)
    where = where.to(CPU)
    where.check(shape[0], shape[1], mask, f"{what} of {model.name}")
    return where


def _cut_rows(inputs: Inputs, where: Where, size: int) -> Iterator[Batch]:
    """Batches of a whole data set: each the next `size` rows that `where` names, without the rows that it does not."""
    used, local = where.rows.unique_consecutive(return_inverse=True)
    for begin in range(0, len(used), size):
        first, last = torch.searchsorted(local, torch.tensor([begin, begin + size])).tolist()
        cells = Where(local[first:last] - begin, where.columns[first:last])
        yield model_inputs.select_rows(inputs, used[begin : begin + size]), cells


def _check_stream(model: HookedModel, stream: Stream) -> Iterator[Batch]:
    """The batches of a stream, each checked as it comes."""
    for number, batch in enumerate(stream):
        what = f"batch {number} of the inputs"
        if not (isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[0], Tensor | Mapping)):
            raise SettingError(what, describe_output(batch), "a pair (inputs, Where)")
        yield batch[0], _check_cells(model, batch[0], batch[1], what)
