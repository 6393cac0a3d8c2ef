"""Positions that people mean, as cells: counted among the real tokens of each row, or found by a piece of its text.

Padding may stand on either side. All give a `Where` on the CPU, its cells row by row and from left to right.

Example:
    >>> import torch
    >>> import mas_hooks as mh
    >>> ids = torch.tensor([[5, 6, 7], [0, 8, 9]])
    >>> inputs = {"input_ids": ids, "attention_mask": torch.tensor([[1, 1, 1], [0, 1, 1]])}
    >>> where = mh.positions.last(inputs)
    >>> ids[where.rows, where.columns].tolist()
    [7, 9]
    >>> where = mh.positions.tokens(inputs, [0])  # counted among the real tokens
    >>> ids[where.rows, where.columns].tolist()
    [5, 8]
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from jaxtyping import Bool
from torch import Tensor

from mas_hooks.core import inputs as model_inputs
from mas_hooks.core.errors import EmptyError, PositionError, SettingError, ShapeError
from mas_hooks.core.inputs import Inputs
from mas_hooks.core.sites import Where

Which = Literal["all", "first", "last"]
Fragment: TypeAlias = str | re.Pattern[str]
Span: TypeAlias = tuple[int, int]

REAL = "the real tokens of the inputs"


def every(inputs: Inputs) -> Where:
    """Every real token.

    Example:
        >>> import torch
        >>> from mas_hooks import positions
        >>> ids, mask = torch.tensor([[5, 6], [0, 8]]), torch.tensor([[1, 1], [0, 1]])
        >>> positions.every({"input_ids": ids, "attention_mask": mask}).columns.tolist()
        [0, 1, 1]
    """
    return _to_where(_real_columns(inputs))


def last(inputs: Inputs) -> Where:
    """The last real token of each row. Raises EmptyError for a row that is all padding.

    Example:
        >>> import torch
        >>> from mas_hooks import positions
        >>> positions.last(torch.tensor([[5, 6, 7], [2, 3, 4]])).columns.tolist()
        [2, 2]
    """
    real = _real_columns(inputs)
    for row, columns in enumerate(real):
        if not columns:
            raise EmptyError(f"row {row} of the inputs (its attention_mask is 0 everywhere)", "leave that row out")
    return _to_where([columns[-1:] for columns in real])


def tokens(inputs: Inputs, positions: Sequence[int] | Sequence[Sequence[int]] | Tensor) -> Where:
    """The tokens at these positions among the real ones of a row; negative ones count from its end.

    positions: integers, the same for every row; or one list of them per row, any of which may be empty. Cells come from
    left to right whatever the order given. Raises PositionError past the row's tokens, SettingError for a token named
    twice.

    Example:
        >>> import torch
        >>> from mas_hooks import positions
        >>> ids = torch.tensor([[5, 6, 7], [2, 3, 4]])
        >>> where = positions.tokens(ids, [[0, -1], [1]])
        >>> where.rows.tolist(), where.columns.tolist()
        ([0, 0, 1], [0, 2, 1])
    """
    real = _real_columns(inputs)
    lists = _list_per_row(positions, len(real))
    return _to_where([_choose_columns(row, *both) for row, both in enumerate(zip(real, lists, strict=True))])


def spans(inputs: Inputs, begins: int | Sequence[int], ends: int | Sequence[int | None] | None = None) -> Where:
    """The tokens from `begins` up to, not including, `ends`, counted as `tokens` does. A span may be empty.

    Args:
        inputs: ids, or a mapping with `input_ids` and `attention_mask`.
        begins: where the span of every row begins, or one number for each row.
        ends: the same of its end; None is the end of the row.

    Returns:
        The cells of all spans.

    Raises:
        PositionError: a bound lies past the tokens of its row.
        SettingError: a span ends before it begins, or a bound is no integer.

    Example:
        >>> import torch
        >>> from mas_hooks import positions
        >>> ids = torch.tensor([[5, 6, 7], [2, 3, 4]])
        >>> positions.spans(ids, 0, -1).columns.tolist()
        [0, 1, 0, 1]
        >>> positions.spans(ids, [1, 2]).columns.tolist()
        [1, 2, 2]
    """
    real = _real_columns(inputs)
    chosen = []
    for row, (columns, begin, end) in enumerate(
        zip(real, _entry_per_row("begins", begins, len(real)), _entry_per_row("ends", ends, len(real)), strict=True)
    ):
        first = _count_bound(row, begin, len(columns), "begins")
        behind = len(columns) if end is None else _count_bound(row, end, len(columns), "ends")
        if first > behind:
            raise SettingError(f"the (begin, end) of the span of row {row}", (begin, end), "in rising order")
        chosen.append(columns[first:behind])
    return _to_where(chosen)


def masked(inputs: Inputs, mask: Bool[Tensor, "batch position"]) -> Where:
    """The cells where `mask` is True.

    Raises PositionError for one on padding, SettingError for a mask of numbers, ShapeError for one of another shape.

    Example:
        >>> import torch
        >>> from mas_hooks import positions
        >>> ids = torch.tensor([[5, 6, 7], [2, 3, 4]])
        >>> where = positions.masked(ids, ids == 3)
        >>> where.rows.tolist(), where.columns.tolist()
        ([1], [1])
    """
    shape = _shape(inputs)
    mask = torch.as_tensor(mask)
    if mask.dtype != torch.bool:
        raise SettingError("the dtype of a mask of cells", mask.dtype, "torch.bool, True on the cells that are meant")
    if tuple(mask.shape) != shape:
        raise ShapeError("the mask of cells", tuple(mask.shape), f"{shape}, as the inputs have,")
    where = Where.from_mask(mask.cpu())
    where.check(*shape, model_inputs.padding_mask(inputs), "the inputs")
    return where


def text(
    inputs: Inputs,
    tokenizer: Any,
    texts: str | Sequence[str],
    fragments: Fragment | Sequence[Fragment],
    which: Which = "all",
) -> Where:
    """The tokens that share a character with a piece of the text.

    Args:
        inputs: ids, or a mapping with `input_ids` and `attention_mask`.
        tokenizer: the fast one that made the inputs.
        texts: what the inputs were encoded from, one per row, with or without special tokens.
        fragments: a string or a compiled pattern, the same for every row or one per row; it must occur in each text.
        which: all its occurrences (those of a string may overlap), the first or the last.

    Returns:
        The cells of those tokens.

    Raises:
        SettingError: a fragment, the tokenizer or a text does not fit.
        ShapeError: the inputs are no rows of ids.

    Example:
        >>> import torch
        >>> from mas_hooks import positions
        >>> from mas_hooks.data.text import byte_pairs
        >>> texts = ["the cat sat on the mat"]
        >>> tokenizer = byte_pairs(texts, 300)
        >>> ids = torch.tensor(tokenizer(texts)["input_ids"])
        >>> where = positions.text(ids, tokenizer, texts, "cat")
        >>> tokenizer.decode(ids[where.rows, where.columns])
        ' cat'
    """
    if which not in get_args(Which):
        raise SettingError("which", which, "'all', 'first' or 'last'")
    real = _real_columns(inputs)
    texts = _entry_per_row("texts", [texts] if isinstance(texts, str) else texts, len(real))
    offsets = _find_offsets(_real_ids(inputs, real), tokenizer, texts)
    chosen = []
    for row, fragment in enumerate(_entry_per_row("fragments", fragments, len(real))):
        spans = _find_spans(row, fragment, texts[row], which)
        meant = [any(begin < e and b < end for b, e in spans) for begin, end in offsets[row]]
        if not any(meant):
            allowed = "made of characters that tokens stand for, not of blanks that the tokenizer leaves out"
            raise SettingError(f"the fragment of row {row}", fragment, allowed)
        chosen.append([column for column, hit in zip(real[row], meant, strict=True) if hit])
    return _to_where(chosen)


def _shape(inputs: Inputs) -> tuple[int, int]:
    shape = tuple(model_inputs.leading_tensor(inputs).shape)
    if len(shape) < 2:
        raise ShapeError("the inputs", shape, "(batch, position)")
    return shape[0], shape[1]


def _real_columns(inputs: Inputs) -> list[list[int]]:
    """The columns of the real tokens of each row."""
    shape = _shape(inputs)
    mask = model_inputs.padding_mask(inputs)
    if mask is None:
        return [list(range(shape[1])) for _ in range(shape[0])]
    if tuple(mask.shape) != shape:
        raise ShapeError("attention_mask", tuple(mask.shape), f"{shape}, as the inputs have,")
    return [row.nonzero()[:, 0].tolist() for row in mask.cpu()]


def _to_where(columns: Sequence[Sequence[int]]) -> Where:
    """Cells from the columns of each row."""
    rows = [row for row, chosen in enumerate(columns) for _ in chosen]
    return Where(torch.tensor(rows, dtype=torch.int64), [column for chosen in columns for column in chosen])


def _as_lists(given: Any) -> Any:
    return given.tolist() if hasattr(given, "tolist") else given


def _check_integer(what: str, given: object) -> int:
    value = _as_lists(given)
    if not isinstance(value, int) or isinstance(value, bool):
        raise SettingError(what, value, "an integer (cells of a mask are for `masked`)")
    return value


def _list_per_row(positions: Any, rows: int) -> Sequence[Any]:
    """One list of positions for each row."""
    positions = _as_lists(positions)
    if isinstance(positions, str | Mapping) or not isinstance(positions, Sequence):
        raise SettingError("positions", positions, "a list of integers for every row, or one list of them per row")
    entries = [_as_lists(entry) for entry in positions]
    several = [isinstance(entry, Sequence) and not isinstance(entry, str) for entry in entries]
    if not any(several):
        return [positions] * rows
    if not all(several):
        raise SettingError("positions", positions, "integers only, or lists only, one per row")
    return _entry_per_row("lists of positions", entries, rows)


def _entry_per_row(what: str, given: Any, rows: int) -> Sequence[Any]:
    """One entry for each row; a single value stands for all rows."""
    given = _as_lists(given)
    if isinstance(given, str) or not isinstance(given, Sequence):
        return [given] * rows
    if len(given) != rows:
        raise SettingError(f"the number of {what}", len(given), f"{rows}, one per row of the inputs")
    return given


def _choose_columns(row: int, columns: Sequence[int], positions: Sequence[int]) -> list[int]:
    """The columns of a row at some positions among its real tokens."""
    count, chosen = len(columns), set()
    for given in positions:
        position = _check_integer(f"a position of row {row}", given)
        if not -count <= position < count:
            allowed = f"that row has {count}" + (f", counted 0 to {count - 1} or {-count} to -1" if count else "")
            raise PositionError(row, position, REAL, allowed)
        chosen.add(columns[position])
    if len(chosen) < len(positions):
        allowed = f"a list that names each of its {count} real tokens once at most"
        raise SettingError(f"the list of positions of row {row}", list(positions), allowed)
    return sorted(chosen)


def _count_bound(row: int, given: object, count: int, what: str) -> int:
    """Where a span begins or ends, 0 to count."""
    bound = _check_integer(f"where the span of row {row} {what}", given)
    if not -count <= bound <= count:
        raise PositionError(row, bound, REAL, f"that row has {count}, so its span {what} at {-count} to {count}")
    return bound + count if bound < 0 else bound


def _real_ids(inputs: Inputs, real: Sequence[Sequence[int]]) -> list[list[int]]:
    """The ids of the real tokens of each row."""
    ids = model_inputs.leading_tensor(inputs)
    if ids.ndim != 2 or ids.is_floating_point():
        raise ShapeError("the inputs", tuple(ids.shape), "(batch, position) of token ids")
    return [[row[column] for column in columns] for row, columns in zip(ids.tolist(), real, strict=True)]


def _find_offsets(ids: Sequence[list[int]], tokenizer: Any, texts: Sequence[str]) -> list[list[Span]]:
    """For each token which characters of its text it stands for; (0, 0) for one that was added."""
    if not getattr(tokenizer, "is_fast", False):
        kind, allowed = type(tokenizer).__name__, "a fast one, which knows the characters that each token stands for"
        raise SettingError("the tokenizer of matched text", kind, allowed)
    if not ids:
        return []
    encodings = [
        tokenizer(list(texts), add_special_tokens=special, return_offsets_mapping=True, padding=False, truncation=False)
        for special in (True, False)
    ]
    offsets = []
    for row, read in enumerate(ids):
        fits = next((encoding for encoding in encodings if encoding["input_ids"][row] == read), None)
        if fits is None:
            remedy = "give the texts and the tokenizer that made the inputs, and the inputs with their attention_mask"
            allowed = f"what this tokenizer makes of {_shorten(texts[row])!r}; {remedy}"
            raise SettingError(f"row {row} of the inputs", _shorten(tokenizer.decode(read)), allowed)
        offsets.append([tuple(span) for span in fits["offset_mapping"][row]])
    return offsets


def _find_spans(row: int, fragment: Fragment, text: str, which: Which) -> list[Span]:
    """Where a fragment stands in its text, as (begin, end) in characters."""
    if isinstance(fragment, str):
        starts = [begin for begin in range(len(text)) if fragment and text.startswith(fragment, begin)]
        spans = [(begin, begin + len(fragment)) for begin in starts]
    elif isinstance(fragment, re.Pattern):
        spans = [match.span() for match in fragment.finditer(text) if match.group()]
    else:
        raise SettingError(f"the fragment of row {row}", fragment, "a string or a compiled pattern")
    if not spans:
        raise SettingError(f"the fragment of row {row}", fragment, f"a part of its text {_shorten(text)!r}")
    return {"all": spans, "first": spans[:1], "last": spans[-1:]}[which]


def _shorten(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
