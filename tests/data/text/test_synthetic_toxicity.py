"""The embedded set: distinct, balanced, seeded; rude answers hold an insult of the list and polite ones none."""

import re
from collections import Counter

import pytest
from sentences import refused

from mas_hooks.core.errors import SettingError
from mas_hooks.data.text.synthetic_toxicity import INSULTS, make_synthetic_rows

HAS_INSULT = re.compile(rf"\b({'|'.join(INSULTS)})\b", re.IGNORECASE)


@pytest.mark.parametrize("rows", [2, 500, 3_000, 4_000])
def test_rows_are_distinct_and_balanced(rows):
    found = make_synthetic_rows(rows)
    assert len(found) == rows
    assert len({row.text for row in found}) == rows
    assert Counter(row.label for row in found) == {"toxic": rows // 2, "nontoxic": rows // 2}


def test_a_row_is_rude_exactly_where_it_is_labelled_so():
    found = make_synthetic_rows()
    for row in found:
        assert row.text.startswith(row.prompt)
        assert bool(HAS_INSULT.search(row.text)) == (row.label == "toxic"), row
        assert not HAS_INSULT.search(row.prompt)
    assert {word for row in found for word in HAS_INSULT.findall(row.text)} == set(INSULTS)


def test_both_classes_answer_the_same_requests():
    prompts = {
        label: {row.prompt for row in make_synthetic_rows() if row.label == label} for label in ("toxic", "nontoxic")
    }
    assert prompts["toxic"] == prompts["nontoxic"]
    assert len(prompts["toxic"]) == 1_500


def test_the_answer_itself_varies():
    answers = Counter(row.text[len(row.prompt) :] for row in make_synthetic_rows() if row.label == "toxic")
    assert len(answers) > 500
    assert max(answers.values()) < 20


def test_the_seed_decides():
    assert make_synthetic_rows(200, seed=1) == make_synthetic_rows(200, seed=1)
    assert make_synthetic_rows(200, seed=1) != make_synthetic_rows(200, seed=2)


@pytest.mark.parametrize("rows", [0, 1, 3, -2, 100_000])
def test_a_number_that_cannot_be_had_is_told(rows):
    with refused(SettingError, "rows", "an even number from 2 to 4160"):
        make_synthetic_rows(rows)
