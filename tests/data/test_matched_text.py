"""Pieces of text as cells, through the offsets of real fast tokenizers."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_tokenizers import TEXTS, byte_pairs, words
from transformers import PreTrainedTokenizer

from mas_hooks.data import positions
from mas_hooks.core.errors import SettingError, ShapeError

KINDS = {"words": words, "bytes": byte_pairs}
TOKENIZERS = {(kind, side): KINDS[kind](side) for kind in KINDS for side in ("left", "right")}
law = settings(deadline=None, derandomize=True, max_examples=100)
SIDES = pytest.mark.parametrize("side", ["left", "right"])


def cells(where):
    return list(zip(where.rows.tolist(), where.columns.tolist(), strict=True))


def encoded(tokenizer, texts, **settings):
    return tokenizer(list(texts), return_tensors="pt", padding=True, **settings)


def pieces(inputs, tokenizer, where):
    """The tokens of these cells, row by row, as the tokenizer writes them."""
    found = [[] for _ in inputs["input_ids"]]
    for row, column in cells(where):
        found[row].append(tokenizer.convert_ids_to_tokens(int(inputs["input_ids"][row, column])))
    return found


@SIDES
def test_matched_words_are_those_words(side):
    tokenizer = words(side)
    inputs = encoded(tokenizer, TEXTS)
    found = positions.text(inputs, tokenizer, TEXTS, ["the", "Zürich 😀", "the cat"])
    assert pieces(inputs, tokenizer, found) == [["the", "the"], ["zürich", "😀"], ["the", "cat"]]
    assert inputs["input_ids"][1, found.columns[2]] != inputs["input_ids"][0, found.columns[0]]


def test_which_occurrence_is_meant_can_be_said():
    tokenizer = words()
    inputs = encoded(tokenizer, [TEXTS[0], TEXTS[2]])
    texts = [TEXTS[0], TEXTS[2]]
    both, first, last = (positions.text(inputs, tokenizer, texts, "the", which) for which in ("all", "first", "last"))
    assert len(both) == 4
    assert cells(first) == cells(both)[::2]
    assert cells(last) == cells(both)[1::2]
    with pytest.raises(SettingError, match=r"which is 'second', but must be 'all', 'first' or 'last'"):
        positions.text(inputs, tokenizer, texts, "the", "second")  # pyright: ignore[reportArgumentType]


def test_occurrences_of_a_string_may_overlap():
    tokenizer = byte_pairs()
    inputs = encoded(tokenizer, ["zzz b"])
    assert tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())[:3] == ["z", "z", "z"]
    assert cells(positions.text(inputs, tokenizer, ["zzz b"], "zz")) == [(0, 0), (0, 1), (0, 2)]
    assert cells(positions.text(inputs, tokenizer, ["zzz b"], "zz", "last")) == [(0, 1), (0, 2)]
    assert cells(positions.text(inputs, tokenizer, "zzz b", re.compile("zz"), "last")) == [(0, 0), (0, 1)]


def test_a_pattern_matches_as_re_does():
    tokenizer = words()
    inputs = encoded(tokenizer, TEXTS)
    found = positions.text(inputs, tokenizer, TEXTS, re.compile(r"\b\w?at\b|opened|x*"))
    assert pieces(inputs, tokenizer, found) == [["cat", "sat", "mat"], ["opened"], ["cat"]]


def test_a_token_is_met_by_any_of_its_characters():
    tokenizer = words()
    inputs = encoded(tokenizer, TEXTS[:1])
    assert pieces(inputs, tokenizer, positions.text(inputs, tokenizer, TEXTS[:1], "t s")) == [["cat", "sat"]]


@pytest.mark.parametrize("trim", [True, False])
@pytest.mark.parametrize("fragment", ["é", "😀", "ü", "😁"])
def test_a_character_of_several_bytes_is_all_its_tokens(fragment, trim):
    tokenizer, text = byte_pairs(trim=trim), "ñ café 😀 in Zürich 😁!"
    inputs = encoded(tokenizer, [text])
    found = positions.text(inputs, tokenizer, [text], fragment).columns.tolist()
    rest = [index for index in range(inputs["input_ids"].shape[1]) if index not in found]
    assert fragment in tokenizer.decode(inputs["input_ids"][0, found])
    assert fragment not in tokenizer.decode(inputs["input_ids"][0, rest])
    assert found == list(range(found[0], found[-1] + 1))
    if fragment == "😁":
        assert len(found) > 1


WORD = st.sampled_from(["the", "cat", "é", "😀", "Zürich", "a", "aa", "!", "日本", "Cat"])


@law
@given(
    st.lists(st.tuples(st.lists(WORD, min_size=1, max_size=6), st.integers(0, 5)), min_size=1, max_size=3), st.data()
)
def test_matched_text_is_that_of_a_slow_loop_on_any_side(rows, data):
    """The loop looks at each token alone: which characters it stands for, and whether one of them is meant."""
    kind = data.draw(st.sampled_from(list(KINDS)))
    which = data.draw(st.sampled_from(["all", "first", "last"]))
    special = data.draw(st.booleans())
    texts = [" ".join(own) for own, _ in rows]
    fragments = [own[index % len(own)] for own, index in rows]
    found = {}
    for side in ("left", "right"):
        tokenizer = TOKENIZERS[kind, side]
        inputs = encoded(tokenizer, texts, add_special_tokens=special)
        where = positions.text(inputs, tokenizer, texts, fragments, which)
        begins = inputs["attention_mask"].argmax(dim=1)
        found[side] = [(row, column - int(begins[row])) for row, column in cells(where)]
    wanted = []
    for row, (text, fragment) in enumerate(zip(texts, fragments, strict=True)):
        starts = [index for index in range(len(text)) if text[index : index + len(fragment)] == fragment]
        starts = {"all": starts, "first": starts[:1], "last": starts[-1:]}[which]
        meant = {start + step for start in starts for step in range(len(fragment))}
        alone = TOKENIZERS[kind, "left"](text, add_special_tokens=special, return_offsets_mapping=True)
        for index, (begin, end) in enumerate(alone["offset_mapping"]):
            if any(character in meant for character in range(begin, end)):
                wanted.append((row, index))
    assert found["left"] == found["right"] == wanted


def refused(sentence, *args, inputs=None):
    tokenizer = TOKENIZERS["words", "left"]
    inputs = encoded(tokenizer, TEXTS) if inputs is None else inputs
    given_ = dict(zip(("tokenizer", "texts", "fragments"), (tokenizer, TEXTS, "the"), strict=True)) | dict(args)
    with pytest.raises((SettingError, ShapeError), match=sentence):
        positions.text(inputs, **given_)


def test_mistakes_with_texts_have_their_sentences():
    refused(r"fragment of row 1 is 'the', but must be a part of its text 'a café in Zürich 😀 opened'\.")
    refused(r"fragment of row 1 is 'dog', but", ("fragments", ["the", "dog", "dog"]))
    refused(r"fragment of row 0 is re\.compile\('dog'\), but must be a part", ("fragments", re.compile("dog")))
    refused(r"fragment of row 0 is '', but must be a part", ("fragments", ""))
    refused(r"fragment of row 0 is 3, but must be a string or a compiled pattern\.", ("fragments", 3))
    refused(r"fragment of row 0 is ' ', but must be made of characters that tokens stand for", ("fragments", " "))
    refused(r"the number of fragments is 1, but must be 3, one per row", ("fragments", ["the"]))
    refused(r"the number of texts is 1, but must be 3, one per row", ("texts", TEXTS[0]))
    refused(r"row 0 of the inputs is '<s> the cat .*what this tokenizer makes of 'the dog'", ("texts", ["the dog"] * 3))
    swapped = [TEXTS[0].replace("cat", "dog"), *TEXTS[1:]]
    refused(r"row 0 of the inputs is '<s> the cat .*what this tokenizer makes of 'the dog sat", ("texts", swapped))
    refused(r"row 0 of the inputs is .*give the texts and the tokenizer", ("tokenizer", TOKENIZERS["bytes", "left"]))
    refused(r"row 0 of the inputs is '<pad>", inputs=encoded(TOKENIZERS["words", "left"], TEXTS)["input_ids"])
    refused(r"the inputs has shape \(3, 2, 5\), but \(batch, position\) of token ids", inputs=torch.zeros(3, 2, 5))


def test_a_tokenizer_that_does_not_know_its_characters_is_refused():
    class Slow(PreTrainedTokenizer):
        vocab_size = 3

        def get_vocab(self):
            return {"<pad>": 0, "a": 1, "b": 2}

        def _convert_token_to_id(self, token):
            return self.get_vocab().get(token, 0)

    refused(r"tokenizer of matched text is 'Slow', but must be a fast one", ("tokenizer", Slow(pad_token="<pad>")))


def test_a_batch_of_no_rows_has_no_cells():
    none = torch.zeros(0, 4, dtype=torch.int64)
    assert len(positions.text(none, TOKENIZERS["words", "left"], [], "the")) == 0
