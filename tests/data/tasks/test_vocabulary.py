import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mas_hooks.core.errors import EmptyError, SettingError, UnknownNameError
from mas_hooks.data.tasks import Vocabulary

SMALL = Vocabulary(("<pad>", "B", "R", "E"))
law = settings(deadline=None, derandomize=True, max_examples=100)


def test_ids_are_places():
    assert SMALL.encode(["E", "B", "<pad>"]) == [3, 1, 0]
    assert len(SMALL) == 4


@law
@given(st.lists(st.lists(st.sampled_from(["B", "R", "E"]), max_size=8), min_size=1, max_size=5))
def test_padding_is_on_the_right_and_decodes_away(sequences):
    padded = SMALL.pad(sequences)
    assert padded.dtype == np.int64
    assert padded.shape == (len(sequences), max(map(len, sequences)))
    for row, sequence in zip(padded, sequences, strict=True):
        assert list(row[: len(sequence)]) == SMALL.encode(sequence)
        assert not row[len(sequence) :].any()
        assert SMALL.decode(row) == tuple(sequence)


def test_an_unknown_token_is_named():
    with pytest.raises(UnknownNameError, match=r"the vocabulary has no token 'b'\..*There is: <pad>, B, R, E"):
        SMALL.encode(["B", "b"])
    with pytest.raises(UnknownNameError, match="'Q'"):
        SMALL.pad([["B"], ["Q"]])


@pytest.mark.parametrize("number", [-1, 4])
def test_an_unknown_id_is_named(number):
    with pytest.raises(SettingError, match=f"a token id is {number}, but must be 0 to 3"):
        SMALL.decode([0, number])


def test_nothing_to_pad():
    with pytest.raises(EmptyError, match="list of sequences to pad is empty; give at least one sequence"):
        SMALL.pad([])


@pytest.mark.parametrize("tokens", [(), ("B", "<pad>")])
def test_padding_comes_first(tokens):
    with pytest.raises(SettingError, match=r"first token of a vocabulary is .* but must be '<pad>', whose id is 0"):
        Vocabulary(tokens)


def test_a_token_occurs_once():
    with pytest.raises(SettingError, match="but must be one without repetitions"):
        Vocabulary(("<pad>", "C", "C"))
