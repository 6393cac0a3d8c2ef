"""The corpus that every Python has: parts that share nothing, a tokenizer that loses nothing, rows without padding."""

import platform

import pytest
import torch

from mas_hooks.core.errors import DataSetError, EmptyError, SettingError
from mas_hooks.data.text.corpus import byte_pairs, read_corpus, pack_tokens, paragraphs, read_texts, split_corpus

TEXTS = tuple(f"the {n} cats sat on mat {n}" for n in range(20))


def test_parts_share_nothing_and_follow_the_seed():
    own = read_corpus()
    parts = [set(own.train), set(own.valid), set(own.test)]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert len(own.valid) == len(own.test) >= 20 < len(own.train)
    assert sum(map(len, own.train)) > 300_000
    assert platform.python_version() in own.name
    assert read_corpus() == own
    assert read_corpus(1).test != own.test


def test_split_keeps_equal_texts_together():
    train, valid, test = split_corpus(["one", "one", "two", "two", "three", " "])
    assert sorted((*train, *valid, *test)) == ["one", "three", "two"]
    with pytest.raises(EmptyError, match=r"one of the three parts of the texts is empty; give three different texts"):
        split_corpus(["one", "one", "two"])
    with pytest.raises(SettingError, match=r"share is 0.5, but must be above 0 and below 0.5"):
        split_corpus(TEXTS, share=0.5)


def test_paragraphs_lose_nothing():
    text = "\n\n".join(f"paragraph {n} " + "x" * 40 for n in range(30))
    pieces = paragraphs(text, 200)
    assert "\n\n".join(pieces) == text
    assert max(map(len, pieces)) <= 202
    assert len(pieces) > 5


def test_any_text_comes_back_from_the_tokenizer():
    tokenizer = byte_pairs(TEXTS, 270)
    text = "a café in Zürich 😀\n\tat  5"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer) <= 270
    assert tokenizer.get_vocab() == byte_pairs(TEXTS, 270).get_vocab()
    with pytest.raises(SettingError, match=r"vocabulary is 100, but must be 258 or more"):
        byte_pairs(TEXTS, 100)


def test_packed_rows_are_the_texts_behind_their_ends():
    tokenizer = byte_pairs(TEXTS, 270)
    rows = pack_tokens(tokenizer, TEXTS[:3], 4)
    ids = [token for text in TEXTS[:3] for token in (tokenizer.eos_token_id, *tokenizer(text)["input_ids"])]
    assert torch.equal(rows.flatten(), torch.tensor(ids[: len(ids) // 4 * 4]))
    with pytest.raises(
        EmptyError, match=r"the set of texts, in rows of 4 tokens, is empty; it has 0 tokens: give more text"
    ):
        pack_tokens(tokenizer, [], 4)
    with pytest.raises(SettingError, match=r"length is 1, but must be 2 tokens or more"):
        pack_tokens(tokenizer, TEXTS, 1)


def test_texts_of_files_and_folders(tmp_path):
    (tmp_path / "b.txt").write_text("one\n\n" + "two " * 600, "utf-8")
    (tmp_path / "a.jsonl").write_text('{"text": "three"}\n\n{"text": " "}\n{"text": "four", "label": 1}\n', "utf-8")
    assert read_texts(tmp_path) == ["one", ("two " * 600).strip(), "three", "four"]
    assert read_texts(tmp_path / "a.jsonl") == ["three", "four"]


def test_what_holds_no_text_is_told(tmp_path):
    with pytest.raises(EmptyError, match=r"the text in .* is empty; give a .txt or .jsonl file, or a folder of them"):
        read_texts(tmp_path)
    (tmp_path / "a.jsonl").write_text('{"text": "three"}\n["four"]\n', "utf-8")
    with pytest.raises(DataSetError, match=r"a.jsonl:2: holds a list instead of an object"):
        read_texts(tmp_path)
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataSetError, match=r"a.jsonl: cannot be read"):
        read_texts(tmp_path)
    with pytest.raises(DataSetError, match=r"nothing.txt: cannot be read .*; give .txt, or .jsonl"):
        read_texts(tmp_path / "nothing.txt")
