"""Rows of activations, checked: tensors or arrays in, matched float64 matrices out."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from mas_hooks.core.errors import EmptyError, NotFiniteError, ShapeError, UnsupportedError

Rows: TypeAlias = torch.Tensor | NDArray
Matrix: TypeAlias = NDArray[np.float64]

# With two rows an RDM is one number and no correlation exists.
FEWEST = 3


def _as_array(x: Rows) -> NDArray:
    """The same numbers as a numpy array; numpy has no bfloat16 (nor float8), which widen to float32 without loss."""
    if not isinstance(x, torch.Tensor):
        return np.asarray(x)
    x = x.detach().cpu()
    narrow = x.is_floating_point() and x.dtype not in {torch.float32, torch.float64}
    return (x.float() if narrow else x).numpy()


def check_rows(x: Rows, name: str) -> NDArray:
    """`x` as an array (n, d) of finite real numbers, n ≥ 3, in a precision of its own.

    Raises ShapeError, EmptyError, UnsupportedError or NotFiniteError, each naming the argument as `name`.
    """
    array = _as_array(x)
    if array.ndim != 2:
        raise ShapeError(name, array.shape, "(n, d), every position flattened to a row of its own,")
    if array.size == 0:
        raise EmptyError(name, f"pass at least {FEWEST} rows of one unit or more")
    if len(array) < FEWEST:
        raise ShapeError(name, array.shape, f"(n, d) with n of {FEWEST} or more")
    if array.dtype.kind not in "fiub":
        raise UnsupportedError(f"{name} of dtype {array.dtype}", "pass real numbers")
    if bad := array.size - int(np.count_nonzero(np.isfinite(array))):
        raise NotFiniteError(name, bad)
    return array


def match_rows(x: Rows, y: Rows) -> tuple[NDArray, NDArray]:
    """Both sides checked, row i of one belonging to row i of the other. Raises as `check_rows`, and ShapeError."""
    left, right = check_rows(x, "x"), check_rows(y, "y")
    if len(left) != len(right):
        raise ShapeError("y", right.shape, f"({len(left)}, d), one row for each row of x,")
    return left, right
