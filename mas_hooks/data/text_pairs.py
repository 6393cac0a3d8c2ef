"""Pairs from texts, whose many cells are swapped together.

`text_pairs` makes the stepwise pairs of METHODS' toxicity study from what each model wrote (`ResponseTokens`): all up
to a position is swapped, and the target goes on as the source model would, by the source's own argmax.
`shared_text_pairs` makes the pairs of stitching: both models read the same text, all of it is swapped, and each token
must be followed by the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional

from mas_hooks.core import inputs as model_inputs
from mas_hooks.core.errors import EmptyError, SettingError, ShapeError, UnsupportedError
from mas_hooks.core.inputs import Inputs
from mas_hooks.core.sites import Where
from mas_hooks.data.pairs import Pairs

DirectedPairs: TypeAlias = dict[tuple[int, int], Pairs]
SPLITS = ("training", "validation", "test")


@dataclass(frozen=True, eq=False)
class ResponseTokens:
    """What one model wrote: prompts with its own responses, and what it says next at each of their positions.

    Row i of every model is taken to answer the same prompt.

    Args:
        ids: (n, position), the tokens.
        argmax: (n, position), the model's own most likely next token at each.
        vocabulary: how many tokens its tokenizer has.
        mask: (n, position), 0 on padding, which may stand on either side of a row; None where there is none.

    Raises:
        ShapeError: the tensors do not fit.
        SettingError: a token is outside the vocabulary.
        UnsupportedError: the mask has gaps.

    Example:
        >>> import torch
        >>> from mas_hooks.data.text_pairs import ResponseTokens
        >>> ids = torch.tensor([[5, 6, 7], [0, 8, 9]])
        >>> written = ResponseTokens(ids, ids, vocabulary=10, mask=torch.tensor([[1, 1, 1], [0, 1, 1]]))
        >>> written.first.tolist(), written.lengths.tolist()
        ([0, 1], [3, 2])
    """

    ids: Int[Tensor, "n position"]
    argmax: Int[Tensor, "n position"]
    vocabulary: int
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.ids.shape)
        if len(shape) != 2 or 0 in shape:
            raise ShapeError("the ids of responses", shape, "(sequences, positions)")
        for name, other in (("argmax", self.argmax), ("mask", self.mask)):
            if other is not None and tuple(other.shape) != shape:
                raise ShapeError(f"the {name} of responses", tuple(other.shape), f"the shape of their ids, {shape},")
        for name, tokens in (("ids", self.ids.cpu()), ("argmax", self.argmax.cpu())):
            if tokens.is_floating_point():
                raise SettingError(f"the dtype of the {name} of responses", tokens.dtype, "an integer: tokens")
            strange = tokens[self.real & ((tokens < 0) | (tokens >= self.vocabulary))]
            if len(strange):
                allowed = f"0 to {self.vocabulary - 1}, as the vocabulary has {self.vocabulary} tokens"
                raise SettingError(f"a token in the {name} of responses", int(strange[0]), allowed)
        inside = torch.arange(shape[1]) - self.first[:, None]
        gaps = (((inside >= 0) & (inside < self.lengths[:, None])) != self.real).any(1)
        if gaps.any():
            what = f"a mask of responses with gaps (row {int(gaps.int().argmax())})"
            raise UnsupportedError(what, "give 1 on one run of tokens of each row")

    @cached_property
    def real(self) -> Bool[Tensor, "n position"]:
        """Where there are tokens, not padding."""
        return torch.ones(self.ids.shape, dtype=torch.bool) if self.mask is None else self.mask.bool().cpu()

    @property
    def first(self) -> Int[Tensor, " n"]:
        """The column of the first token of each row."""
        return self.real.int().argmax(1)

    @cached_property
    def lengths(self) -> Int[Tensor, " n"]:
        """How many tokens each row has."""
        return self.real.sum(1)

    def pack_rows(self, width: int) -> _PackedRows:
        """Every row from column 0 on, without its padding."""
        columns = torch.arange(width)
        inside = columns < self.lengths[:, None]
        place = (self.first[:, None] + columns).clamp(max=self.ids.shape[1] - 1)
        ids, argmax = (tokens.cpu().long().gather(1, place) * inside for tokens in (self.ids, self.argmax))
        return _PackedRows(ids, argmax, self.lengths)


@dataclass(frozen=True, eq=False)
class _PackedRows:
    """The rows of a model without padding: token i of each is in column i, zeros are behind its end."""

    ids: Int[Tensor, "n width"]
    argmax: Int[Tensor, "n width"]
    lengths: Int[Tensor, " n"]

    @cached_property
    def keys(self) -> Int[Tensor, "n width"]:
        """A number for the tokens up to each position, the same in every model that has read the same."""
        return model_inputs.prefix_keys(self.ids)


@dataclass(frozen=True, eq=False)
class _SourceDraw:
    """What every direction of one source shares: which of its rows give up to where, and what must follow."""

    rows: Int[Tensor, " pair"]
    last: Int[Tensor, " pair"]
    inputs: Int[Tensor, "pair _swapped"]
    where: Where
    labels: Int[Tensor, "pair width"]
    mask: Bool[Tensor, "pair width"]
    keys: Int[Tensor, " cells"]


def text_pairs(
    sequences: Sequence[ResponseTokens],
    sizes: tuple[int, int, int] = (10_000, 1_000, 1_000),
    seed: int = 0,
    *,
    margin: int = 10,
    test_share: float = 0.2,
    valid_share: float = 0.1,
) -> tuple[DirectedPairs, DirectedPairs, DirectedPairs]:
    """Training, validation and test pairs for every direction between models, for `methods.stepwise`.

    Of a sequence of n tokens the source gives all positions 0 to u, u uniform in [margin, n − margin), but within what
    every target has read too. The target reads another sequence, of its own, up to u and then the source's tokens; from
    u on it must predict what the source model itself says next (every label counts for trials too). Padding is left
    out: position i is column i. Inputs are plain ids, with zeros behind the end: for models that read from left to
    right. Pairs of one source share all but `target_inputs`.

    Args:
        sequences: what each model wrote.
        sizes: pairs of a direction in each set.
        seed: of all draws.
        margin: the last swapped position is at least so far from both ends of its sequence.
        test_share: share of the row numbers for the test; a row number is in one set only, in every model.
        valid_share: share of the others for validation.

    Returns:
        Three sets, each {(source, target): Pairs}.

    Raises:
        SettingError: the tokenizers differ, or a share or the margin is out of range.
        EmptyError: there are no sequences, or a set has not enough that are long enough.

    Example:
        >>> import torch
        >>> import mas_hooks as mh
        >>> from mas_hooks.data.text_pairs import ResponseTokens
        >>> a, b = torch.randint(50, (2, 40, 30), generator=torch.Generator().manual_seed(0))
        >>> written = [ResponseTokens(ids, ids, vocabulary=50) for ids in (a, b)]
        >>> train, valid, test = mh.text_pairs(written, sizes=(20, 5, 5))
        >>> sorted(train), len(test[0, 1]), train[0, 1].single
        ([(0, 0), (0, 1), (1, 0), (1, 1)], 5, False)
    """
    _check_sequences(sequences, sizes, margin, test_share, valid_share)
    width = max(int(written.lengths.max()) for written in sequences)
    packed = [written.pack_rows(width) for written in sequences]
    parts = split_rows(max(len(rows.ids) for rows in packed), seed, test_share, valid_share)
    train, valid, test = (
        _make_split(packed, part, size, margin, (seed, split))
        for split, (part, size) in enumerate(zip(parts, sizes, strict=True))
    )
    return train, valid, test


def shared_text_pairs(inputs: Inputs) -> Pairs:
    """One pair for each row of ids (n, position): all real tokens are swapped, and each must be followed by the next.

    inputs: ids, or a mapping with `input_ids` and `attention_mask`; padding is neither swapped nor scored. Labels are
    scored at every real token with a real one behind it. Raises ShapeError for other than rows of ids, SettingError for
    features, EmptyError for a row with less than two tokens.

    Example:
        >>> import torch
        >>> from mas_hooks.data.text_pairs import shared_text_pairs
        >>> pairs = shared_text_pairs(torch.tensor([[5, 6, 7], [2, 3, 4]]))
        >>> pairs, pairs.labels[0].tolist(), pairs.label_mask[0].tolist()
        (Pairs(2 pairs, 6 swapped cells), [6, 7, 0], [True, True, False])
    """
    ids, mask = model_inputs.leading_tensor(inputs), model_inputs.padding_mask(inputs)
    if ids.ndim != 2 or ids.shape[1] < 2:
        raise ShapeError("the ids of shared texts", tuple(ids.shape), "(n, position), two positions or more,")
    if ids.is_floating_point():
        raise SettingError("the dtype of the ids of shared texts", ids.dtype, "an integer: one token a position")
    real = torch.ones(ids.shape, dtype=torch.bool, device=ids.device) if mask is None else mask.to(ids.device)
    labels = functional.pad(ids[:, 1:], (0, 1))
    follows = real & functional.pad(real[:, 1:], (0, 1))
    where = Where.from_mask(real)
    return Pairs.from_tensors(inputs, where, inputs, where, labels, follows)


def split_rows(
    count: int, seed: int = 0, test_share: float = 0.2, valid_share: float = 0.1
) -> tuple[Int[Tensor, " train"], Int[Tensor, " valid"], Int[Tensor, " test"]]:
    """The row numbers of training, validation and test, in rising order.

    Args:
        count: how many rows there are.
        seed: of the draw.
        test_share: share of the rows for the test.
        valid_share: share of the others for validation.

    Returns:
        The row numbers of training, validation and test.
    """
    rows = torch.randperm(count, generator=_generator(seed))
    tests = round(count * test_share)
    checks = round((count - tests) * valid_share)
    parts = (rows[tests + checks :], rows[tests : tests + checks], rows[:tests])
    train, valid, test = (part.sort().values for part in parts)
    return train, valid, test


def _check_sequences(sequences: Sequence[ResponseTokens], sizes: Sequence[int], margin: int, *shares: float) -> None:
    if not sequences:
        raise EmptyError("the list of responses", "give those of at least one model")
    vocabularies = [written.vocabulary for written in sequences]
    if len(set(vocabularies)) > 1:
        allowed = "one size: every model must read the others' tokens, so the tokenizers must be the same"
        raise SettingError("the list of vocabulary sizes", vocabularies, allowed)
    if min(sizes) < 1:
        raise EmptyError(f"one of the sets of pairs (sizes {tuple(sizes)})", "ask for at least one pair in each")
    if margin < 0:
        raise SettingError("margin", margin, "0 or more tokens")
    for name, share in zip(("test_share", "valid_share"), shares, strict=True):
        if not 0 < share < 1:
            raise SettingError(name, share, "between 0 and 1")


def _make_split(
    packed: Sequence[_PackedRows], part: Int[Tensor, " row"], size: int, margin: int, seed: tuple[int, int]
) -> DirectedPairs:
    """One split: what a source gives is drawn once and goes into every target."""
    split = SPLITS[seed[1]]
    parts = [part[part < len(rows.ids)] for rows in packed]
    reach = min(_second_longest(rows.lengths[part]) for rows, part in zip(packed, parts, strict=True))
    directed: DirectedPairs = {}
    for source, giver in enumerate(packed):
        ends = (giver.lengths[parts[source]] - margin).clamp(max=reach)
        able = ends > margin
        if not able.any():
            long_enough = f"with a position to swap up to (margin {margin})"
            what = f"the {split} part of the sequences of model {source} {long_enough}"
            raise EmptyError(what, "give more or longer sequences in every model, or a smaller margin")
        given = _draw_source(giver, parts[source][able], ends[able], margin, size, _generator(*seed, source))
        for target, taker in enumerate(packed):
            receivers = _draw_receivers(taker, parts[target], given, _generator(*seed, source, target))
            kept = torch.arange(giver.ids.shape[1]) <= given.last[:, None]
            inputs = torch.where(kept, taker.ids[receivers], giver.ids[given.rows])
            shared = (given.labels, given.mask, None, given.keys)
            directed[source, target] = Pairs.from_tensors(given.inputs, given.where, inputs, given.where, *shared)
    return directed


def _second_longest(lengths: Int[Tensor, " row"]) -> int:
    """The second greatest: so far there is always a sequence other than the source's."""
    return int(lengths.sort(descending=True).values[1]) if len(lengths) > 1 else 0


def _draw_source(
    giver: _PackedRows, rows: Tensor, ends: Tensor, margin: int, size: int, generator: torch.Generator
) -> _SourceDraw:
    """Draw sequences and last positions. ends: of each row, the position before which the last one must be."""
    drawn = torch.randint(len(rows), (size,), generator=generator)
    rows, last = rows[drawn], margin + _draw_below(ends[drawn] - margin, generator)
    columns = torch.arange(giver.ids.shape[1])
    where = Where.from_mask(columns[: int(last.max()) + 1] <= last[:, None])
    mask = (columns >= last[:, None]) & (columns < giver.lengths[rows, None])
    inputs, keys = giver.ids[rows, : int(last.max()) + 1], giver.keys[rows[where.rows], where.columns]
    return _SourceDraw(rows, last, inputs, where, giver.argmax[rows], mask, keys)


def _draw_receivers(
    taker: _PackedRows, rows: Tensor, given: _SourceDraw, generator: torch.Generator
) -> Int[Tensor, " pair"]:
    """Rows of the target that reach the last swapped position, other than the source's row, each as likely."""
    order = rows[taker.lengths[rows].argsort(descending=True, stable=True)]
    able = (taker.lengths[order] > given.last[:, None]).sum(1)
    place = torch.full((int(torch.cat([order, given.rows]).max()) + 1,), len(order))
    place[order] = torch.arange(len(order))
    same = place[given.rows]  # where the source's row stands in that order
    chosen = _draw_below(able - (same < able).long(), generator)
    return order[chosen + (chosen >= same)]


def _draw_below(ends: Int[Tensor, " n"], generator: torch.Generator) -> Int[Tensor, " n"]:
    """A whole number from 0 to, not including, each end."""
    return (torch.rand(len(ends), generator=generator, dtype=torch.float64) * ends).long()


def _generator(*seed: int) -> torch.Generator:
    """Draws that depend on these numbers alone."""
    mixed = 0
    for number in seed:
        mixed = (mixed * 1_000_003 + number + 1) % 2**63
    return torch.Generator().manual_seed(mixed)
