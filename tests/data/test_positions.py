"""Counted positions as cells, against slow loops over the tokens of each row."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mas_hooks.data import positions
from mas_hooks.core.errors import EmptyError, PositionError, SettingError, ShapeError


def cells(where):
    return list(zip(where.rows.tolist(), where.columns.tolist(), strict=True))


def padded(lengths, side, width=None):
    """Inputs whose rows have these numbers of real tokens, and the columns of those."""
    width = max(lengths) if width is None else width
    mask = torch.zeros(len(lengths), width, dtype=torch.int64)
    for row, length in enumerate(lengths):
        mask[row, width - length if side == "left" else 0 : width if side == "left" else length] = 1
    ids = torch.arange(len(lengths) * width).view(len(lengths), width)
    starts = [width - length if side == "left" else 0 for length in lengths]
    real = [list(range(start, start + length)) for start, length in zip(starts, lengths, strict=True)]
    return {"input_ids": ids, "attention_mask": mask}, real


law = settings(deadline=None, derandomize=True, max_examples=100)
SIDES = pytest.mark.parametrize("side", ["left", "right"])
LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=5)


@law
@given(lengths=LENGTHS, side=st.sampled_from(["left", "right"]), extra=st.integers(0, 3), seed=st.integers(0, 999))
def test_counted_positions_are_those_of_a_slow_loop(lengths, side, extra, seed):
    inputs, real = padded(lengths, side, max(lengths) + extra)
    assert cells(positions.every(inputs)) == [(row, column) for row, own in enumerate(real) for column in own]
    assert cells(positions.last(inputs)) == [(row, own[-1]) for row, own in enumerate(real)]

    draw = random.Random(seed)
    wanted = [draw.sample(range(length), draw.randint(0, length)) for length in lengths]
    signed = [[i - n if draw.random() < 0.5 else i for i in own] for own, n in zip(wanted, lengths, strict=True)]
    expected = [(row, real[row][index]) for row, own in enumerate(wanted) for index in sorted(own)]
    assert cells(positions.tokens(inputs, signed)) == expected

    begins = [draw.randint(0, length) for length in lengths]
    ends = [draw.choice([None, draw.randint(begin, n)]) for begin, n in zip(begins, lengths, strict=True)]
    expected = [
        (row, real[row][index])
        for row, (begin, end) in enumerate(zip(begins, ends, strict=True))
        for index in range(lengths[row])
        if begin <= index and (end is None or index < end)
    ]
    assert cells(positions.spans(inputs, begins, ends)) == expected


@SIDES
def test_one_list_or_number_stands_for_every_row(side):
    inputs, real = padded([3, 5, 4], side)
    assert cells(positions.tokens(inputs, [-1, 0])) == [
        (row, own[at]) for row, own in enumerate(real) for at in (0, -1)
    ]
    assert cells(positions.spans(inputs, 1, -1)) == [(row, c) for row, own in enumerate(real) for c in own[1:-1]]
    assert cells(positions.spans(inputs, -2)) == [(row, c) for row, own in enumerate(real) for c in own[-2:]]
    assert cells(positions.spans(inputs, 1, 1)) == []
    assert cells(positions.tokens(inputs, [])) == []
    assert cells(positions.tokens(inputs, [[], [], []])) == []


def test_positions_may_be_tensors_and_arrays():
    inputs, _ = padded([3, 5], "left")
    wanted = positions.tokens(inputs, [[0, 2], [1, -1]])
    for given_ in (
        torch.tensor([[0, 2], [1, -1]]),
        np.array([[0, 2], [1, -1]]),
        [np.array([0, 2]), torch.tensor([1, -1])],
    ):
        assert cells(positions.tokens(inputs, given_)) == cells(wanted)
    assert cells(positions.tokens(inputs, [torch.tensor(0)])) == cells(positions.tokens(inputs, [0]))
    assert cells(positions.spans(inputs, torch.tensor([0, 1]))) == cells(positions.spans(inputs, [0, 1]))


def test_a_tensor_of_ids_or_a_mapping_without_a_mask_has_no_padding():
    ids = torch.zeros(2, 3, dtype=torch.int64)
    for inputs in (ids, {"input_ids": ids}, {"inputs_embeds": torch.zeros(2, 3, 5)}):
        assert cells(positions.last(inputs)) == [(0, 2), (1, 2)]
        assert len(positions.every(inputs)) == 6


def test_masked_off_tokens_in_the_middle_are_not_counted():
    inputs = {"input_ids": torch.zeros(1, 5), "attention_mask": torch.tensor([[0, 1, 0, 1, 1]])}
    assert cells(positions.tokens(inputs, [1])) == [(0, 3)]
    assert cells(positions.spans(inputs, 0, 2)) == [(0, 1), (0, 3)]


@SIDES
def test_a_mask_is_its_true_cells_and_none_on_padding(side):
    inputs, real = padded([2, 4], side)
    mask = torch.zeros(2, 4, dtype=torch.bool)
    mask[0, real[0][1]] = mask[1, real[1][0]] = mask[1, real[1][3]] = True
    assert cells(positions.masked(inputs, mask)) == [(0, real[0][1]), (1, real[1][0]), (1, real[1][3])]
    mask[0, 0 if side == "left" else 3] = True
    with pytest.raises(PositionError, match=r"row 0 is not in the inputs: that cell is padding"):
        positions.masked(inputs, mask)


def test_the_cells_are_on_the_cpu_wherever_the_inputs_are():
    inputs = {"input_ids": torch.zeros(2, 3, dtype=torch.int64, device="meta")}
    assert positions.last(inputs).columns.device.type == "cpu"


SMALL, _ = padded([2, 4], "left")
WRONG = {
    "past the end": (
        lambda: positions.tokens(SMALL, [2]),
        PositionError,
        r"position 2 of row 0 is not in the real tokens of the inputs: that row has 2, counted 0 to 1 or -2 to -1\.",
    ),
    "before the begin": (
        lambda: positions.tokens(SMALL, [[0], [-5]]),
        PositionError,
        r"position -5 of row 1 .* has 4,",
    ),
    "twice": (
        lambda: positions.tokens(SMALL, [0, -2]),
        SettingError,
        r"positions of row 0 is \[0, -2\], but must be a list that names each of its 2 real tokens once at most\.",
    ),
    "too few lists": (
        lambda: positions.tokens(SMALL, [[0]]),
        SettingError,
        r"number of lists of positions is 1, .* 2,",
    ),
    "mixed": (lambda: positions.tokens(SMALL, [0, [1]]), SettingError, r"integers only, or lists only"),
    "a bare number": (lambda: positions.tokens(SMALL, 1), SettingError, r"positions is 1, but must be a list"),
    "a string": (lambda: positions.tokens(SMALL, "last"), SettingError, r"positions is 'last', but must be a list"),
    "a float": (
        lambda: positions.tokens(SMALL, [0.5]),
        SettingError,
        r"a position of row 0 is 0\.5, but .* an integer",
    ),
    "truth values": (lambda: positions.tokens(SMALL, [True]), SettingError, r"is True, but .*`masked`"),
    "span past the end": (
        lambda: positions.spans(SMALL, 0, [2, 5]),
        PositionError,
        r"position 5 of row 1 is not in the real tokens of the inputs: that row has 4, so its span ends at -4 to 4\.",
    ),
    "span before": (
        lambda: positions.spans(SMALL, -3),
        PositionError,
        r"position -3 of row 0 .* span begins at -2 to 2",
    ),
    "span backwards": (
        lambda: positions.spans(SMALL, 1, 0),
        SettingError,
        r"span of row 0 is \(1, 0\), but must be in rising order",
    ),
    "too few begins": (
        lambda: positions.spans(SMALL, [0]),
        SettingError,
        r"the number of begins is 1, but must be 2,",
    ),
    "no begin": (
        lambda: positions.spans(SMALL, None),
        SettingError,
        r"span of row 0 begins is None, but .* an integer",
    ),
    "mask of ints": (lambda: positions.masked(SMALL, torch.ones(2, 4)), SettingError, r"dtype .* is torch\.float32"),
    "mask of another shape": (
        lambda: positions.masked(SMALL, torch.ones(2, 3, dtype=torch.bool)),
        ShapeError,
        r"the mask of cells has shape \(2, 3\), but \(2, 4\), as the inputs have, is needed\.",
    ),
    "one sequence": (
        lambda: positions.last(torch.zeros(4)),
        ShapeError,
        r"the inputs has shape \(4,\), but \(batch, p",
    ),
    "mask of attention": (
        lambda: positions.every({"input_ids": torch.zeros(2, 4), "attention_mask": torch.ones(2, 1, 4, 4)}),
        ShapeError,
        r"attention_mask has shape \(2, 1, 4, 4\), but \(2, 4\)",
    ),
    "all padding": (
        lambda: positions.last({"input_ids": torch.zeros(2, 1), "attention_mask": torch.tensor([[1], [0]])}),
        EmptyError,
        r"row 1 of the inputs .* is empty; leave that row out\.",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_each_mistake_has_its_sentence(case):
    call, error, sentence = WRONG[case]
    with pytest.raises(error, match=sentence):
        call()


def test_a_batch_of_no_rows_has_no_cells():
    none = torch.zeros(0, 4, dtype=torch.int64)
    assert len(positions.every(none)) == len(positions.last(none)) == len(positions.tokens(none, [0])) == 0
