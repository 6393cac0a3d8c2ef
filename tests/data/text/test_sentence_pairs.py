"""The made-up task: what follows, what breaks the shortcut, and pairs of sentences as files."""

import random
from collections import Counter

import pytest
from sentences import refused

from mas_hooks.core.errors import DataSetError, EmptyError, SettingError
from mas_hooks.data.text.sentence_pairs import (
    PASSIVE,
    VERBS,
    write_example,
    make_overlap_rows,
    write_sentence,
    make_shifted_rows,
)
from mas_hooks.data.text.sentence_pairs import PairRow, read_pairs, write_pairs


def roles(text):
    """Who did what to whom, read off a sentence of either voice."""
    words = text.split()
    return (words[4], words[2], words[0]) if PASSIVE[0] in words else tuple(words)


def content(text):
    return set(text.split()) - set(PASSIVE)


@pytest.mark.parametrize("kind", ["follows", "other word", "swapped"])
def test_a_kind_is_what_it_says(kind):
    rng = random.Random(0)
    voices = set()
    for _ in range(200):
        row = write_example(kind, rng)
        first, second = roles(row.text_a), roles(row.text_b)
        voices.add((len(row.text_a.split()), len(row.text_b.split())))
        assert row.label == int(kind == "follows") == int(first == second)
        assert (content(row.text_b) <= content(row.text_a)) == (kind != "other word")
        assert (second == first[::-1]) == (kind == "swapped")
        if kind == "other word":
            assert sum(one != other for one, other in zip(first, second, strict=True)) == 1
    assert voices == {(3, 3), (3, 5), (5, 3), (5, 5)}


def test_both_voices_say_the_same():
    said = {write_sentence(("actors", "helped", "judges"), random.Random(seed)) for seed in range(20)}
    assert said == {"actors helped judges", "judges were helped by actors"}
    assert {roles(one) for one in said} == {("actors", "helped", "judges")}


def test_shares_are_as_asked():
    kinds = Counter(row.kind for row in make_overlap_rows(1000, 0.2, seed=3))
    assert kinds == {"follows": 500, "swapped": 200, "other word": 300}
    assert "swapped" not in Counter(row.kind for row in make_overlap_rows(1000))
    shifted = make_shifted_rows(100, seed=1)
    assert Counter(row.kind for row in shifted) == {"follows": 50, "swapped": 50}
    assert all(content(row.text_b) == content(row.text_a) for row in shifted)
    assert (
        make_overlap_rows(100, 0.2, seed=3)
        == make_overlap_rows(100, 0.2, seed=3)
        != make_overlap_rows(100, 0.2, seed=4)
    )
    assert {roles(row.text_a)[1] for row in make_overlap_rows(1000)} == set(VERBS)


def test_what_cannot_be_drawn_is_refused():
    for count in (0, 7):
        with refused(SettingError, f"the number of examples is {count}", "even"):
            make_overlap_rows(count)
        with refused(SettingError, f"the number of examples is {count}", "even"):
            make_shifted_rows(count)
    with refused(SettingError, "breaking is 0.6", "0 to 0.5"):
        make_overlap_rows(10, 0.6)


def test_pairs_come_back_from_their_file(tmp_path):
    rows = [*make_overlap_rows(10, 0.2), PairRow("a line\u2028here", "b", 2)]
    write_pairs(tmp_path / "pairs.jsonl", rows)
    assert read_pairs(tmp_path / "pairs.jsonl") == rows


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "is no JSON"),
        ('{"text_a": "x", "label": 0}', "lacks text_b"),
        ("[1]", "holds a list instead of an object"),
        ('{"text_a": "x", "text_b": "y", "label": "entailment"}', "a label that counts from 0"),
        ('{"text_a": "x", "text_b": "y", "label": -1}', "a label that counts from 0"),
        ('{"text_a": "x", "text_b": null, "label": 1}', "needs two texts"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path, line, told):
    good = '{"text_a": "x", "text_b": "y", "label": 0}'
    (tmp_path / "p.jsonl").write_text(f"{good}\n{line}\n")
    with refused(DataSetError, "p.jsonl:2", told, '"text_a"'):
        read_pairs(tmp_path / "p.jsonl")


def test_a_file_without_rows_is_told(tmp_path):
    (tmp_path / "p.jsonl").write_text("\n")
    with refused(EmptyError, "p.jsonl is empty"):
        read_pairs(tmp_path / "p.jsonl")
    with refused(DataSetError, "none.jsonl", "cannot be read"):
        read_pairs(tmp_path / "none.jsonl")
