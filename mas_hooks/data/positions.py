"""Positions that people mean, as cells: counted among the real tokens of each row, or found by a piece of its text.

Padding may stand on either side. All give a `Where` on the CPU, its cells row by row and from left to right.
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
    """Every real token."""
    return _where(_real(inputs))


def last(inputs: Inputs) -> Where:
    """The last real token of each row. Raises EmptyError for a row that is all padding."""
    real = _real(inputs)
    for row, columns in enumerate(real):
        if not columns:
            raise EmptyError(f"row {row} of the inputs (its attention_mask is 0 everywhere)", "leave that row out")
    return _where([columns[-1:] for columns in real])


def tokens(inputs: Inputs, positions: Sequence[int] | Sequence[Sequence[int]] | Tensor) -> Where:
    """The tokens at these positions among the real ones of a row; negative ones count from its end.

    positions: integers, the same for every row; or one list of them per row, any of which may be empty. Cells come from
    left to right whatever the order given. Raises PositionError past the row's tokens, SettingError for a token named
    twice.
    """
    real = _real(inputs)
    return _where(
        [_name_fragment(row, *both) for row, both in enumerate(zip(real, _lists(positions, len(real)), strict=True))]
    )


def span_cells(inputs: Inputs, begins: int | Sequence[int], ends: int | Sequence[int | None] | None = None) -> Where:
    """The tokens from `begins` up to, not including, `ends`, counted as `tokens` does; end None is the row's end.

    begins, ends: one for all rows, or one per row. A span may be empty.
    """
    real = _real(inputs)
    chosen = []
    for row, (columns, begin, end) in enumerate(
        zip(real, _each("begins", begins, len(real)), _each("ends", ends, len(real)), strict=True)
    ):
        first = _bound(row, begin, len(columns), "begins")
        behind = len(columns) if end is None else _bound(row, end, len(columns), "ends")
        if first > behind:
            raise SettingError(f"the span of row {row}", (begin, end), "one that does not end before it begins")
        chosen.append(columns[first:behind])
    return _where(chosen)


def masked(inputs: Inputs, mask: Bool[Tensor, "batch position"]) -> Where:
    """The cells where `mask` is True. Raises PositionError for one on padding."""
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

    texts: what the inputs were encoded from, one per row, with or without special tokens. fragments: a string or a
    compiled pattern, the same for every row or one per row; it must occur in each text. which: all its occurrences
    (those of a string may overlap), the first or the last. tokenizer: the fast one that made the inputs. Raises
    SettingError where the fragment, the tokenizer or the texts do not fit.
    """
    if which not in get_args(Which):
        raise SettingError("which", which, "'all', 'first' or 'last'")
    real = _real(inputs)
    texts = _each("texts", [texts] if isinstance(texts, str) else texts, len(real))
    offsets = _offsets(_ids(inputs, real), tokenizer, texts)
    chosen = []
    for row, fragment in enumerate(_each("fragments", fragments, len(real))):
        found = _occurrences(row, fragment, texts[row], which)
        meant = [any(begin < e and b < end for b, e in found) for begin, end in offsets[row]]
        if not any(meant):
            raise SettingError(
                f"the fragment of row {row}",
                fragment,
                "made of characters that tokens stand for, not of blanks that the tokenizer leaves out",
            )
        chosen.append([column for column, hit in zip(real[row], meant, strict=True) if hit])
    return _where(chosen)


def _shape(inputs: Inputs) -> tuple[int, int]:
    shape = tuple(model_inputs.leading_tensor(inputs).shape)
    if len(shape) < 2:
        raise ShapeError("the inputs", shape, "(batch, position)")
    return shape[0], shape[1]


def _real(inputs: Inputs) -> list[list[int]]:
    """The columns of the real tokens of each row."""
    shape = _shape(inputs)
    mask = model_inputs.padding_mask(inputs)
    if mask is None:
        return [list(range(shape[1])) for _ in range(shape[0])]
    if tuple(mask.shape) != shape:
        raise ShapeError("attention_mask", tuple(mask.shape), f"{shape}, as the inputs have,")
    return [row.nonzero()[:, 0].tolist() for row in mask.cpu()]


def _where(columns: Sequence[Sequence[int]]) -> Where:
    rows = [row for row, own in enumerate(columns) for _ in own]
    return Where(torch.tensor(rows, dtype=torch.int64), [column for own in columns for column in own])


def _as_lists(given: Any) -> Any:
    return given.tolist() if hasattr(given, "tolist") else given


def _integer(what: str, given: object) -> int:
    value = _as_lists(given)
    if not isinstance(value, int) or isinstance(value, bool):
        raise SettingError(what, value, "an integer (cells of a mask are for `masked`)")
    return value


def _lists(positions: Any, rows: int) -> Sequence[Any]:
    """One list of positions for each row."""
    positions = _as_lists(positions)
    if isinstance(positions, str | Mapping) or not isinstance(positions, Sequence):
        raise SettingError("positions", positions, "a list of integers for every row, or one list of them per row")
    several = [isinstance(one := _as_lists(entry), Sequence) and not isinstance(one, str) for entry in positions]
    if not any(several):
        return [positions] * rows
    if not all(several):
        raise SettingError("positions", positions, "integers only, or lists only, one per row")
    return _each("lists of positions", [_as_lists(entry) for entry in positions], rows)


def _each(what: str, given: Any, rows: int) -> Sequence[Any]:
    """One entry for each row; a single value stands for all rows."""
    given = _as_lists(given)
    if isinstance(given, str) or not isinstance(given, Sequence):
        return [given] * rows
    if len(given) != rows:
        raise SettingError(f"the number of {what}", len(given), f"{rows}, one per row of the inputs")
    return given


def _name_fragment(row: int, columns: Sequence[int], positions: Sequence[int]) -> list[int]:
    """The columns of a row at some positions among its real tokens."""
    count, chosen = len(columns), set()
    for given in positions:
        position = _integer(f"a position of row {row}", given)
        if not -count <= position < count:
            allowed = f"that row has {count}" + (f", counted 0 to {count - 1} or {-count} to -1" if count else "")
            raise PositionError(row, position, REAL, allowed)
        chosen.add(columns[position])
    if len(chosen) < len(positions):
        allowed = f"a list that names each of its {count} real tokens once at most"
        raise SettingError(f"the list of positions of row {row}", list(positions), allowed)
    return sorted(chosen)


def _bound(row: int, given: object, count: int, what: str) -> int:
    """Where a span begins or ends, 0 to count."""
    bound = _integer(f"where the span of row {row} {what}", given)
    if not -count <= bound <= count:
        raise PositionError(row, bound, REAL, f"that row has {count}, so its span {what} at {-count} to {count}")
    return bound + count if bound < 0 else bound


def _ids(inputs: Inputs, real: Sequence[Sequence[int]]) -> list[list[int]]:
    """The ids of the real tokens of each row."""
    ids = model_inputs.leading_tensor(inputs)
    if ids.ndim != 2 or ids.is_floating_point():
        raise ShapeError("the inputs", tuple(ids.shape), "(batch, position) of token ids")
    return [[row[column] for column in columns] for row, columns in zip(ids.tolist(), real, strict=True)]


def _offsets(ids: Sequence[list[int]], tokenizer: Any, texts: Sequence[str]) -> list[list[Span]]:
    """For each token which characters of its text it stands for; (0, 0) for one that was added."""
    if not getattr(tokenizer, "is_fast", False):
        kind, allowed = type(tokenizer).__name__, "a fast one, which knows the characters that each token stands for"
        raise SettingError("the tokenizer of matched text", kind, allowed)
    if not ids:
        return []
    made = [
        tokenizer(list(texts), add_special_tokens=special, return_offsets_mapping=True, padding=False, truncation=False)
        for special in (True, False)
    ]
    found = []
    for row, own in enumerate(ids):
        fits = next((one for one in made if one["input_ids"][row] == own), None)
        if fits is None:
            remedy = "give the texts and the tokenizer that made the inputs, and the inputs with their attention_mask"
            allowed = f"what this tokenizer makes of {_short(texts[row])!r}; {remedy}"
            raise SettingError(f"row {row} of the inputs", _short(tokenizer.decode(own)), allowed)
        found.append([tuple(span) for span in fits["offset_mapping"][row]])
    return found


def _occurrences(row: int, fragment: Fragment, text: str, which: Which) -> list[Span]:
    """Where a fragment stands in its text, as (begin, end) in characters."""
    if isinstance(fragment, str):
        starts = [begin for begin in range(len(text)) if fragment and text.startswith(fragment, begin)]
        found = [(begin, begin + len(fragment)) for begin in starts]
    elif isinstance(fragment, re.Pattern):
        found = [match.span() for match in fragment.finditer(text) if match.group()]
    else:
        raise SettingError(f"the fragment of row {row}", fragment, "a string or a compiled pattern")
    if not found:
        raise SettingError(f"the fragment of row {row}", fragment, f"found in its text {_short(text)!r}")
    return {"all": found, "first": found[:1], "last": found[-1:]}[which]


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
