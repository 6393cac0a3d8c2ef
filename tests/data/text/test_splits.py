"""Laws of the cut: no text in two places, no prompt of the test in training, and everything follows from the seed."""

import random
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published import hh_folder
from sentences import refused

from mas_hooks.core.errors import CheckpointError, DataSetError, OutputFolderError, SettingError, TooFewRowsError
from mas_hooks.data.text import splits as module
from mas_hooks.data.text.labelled import read_labelled
from mas_hooks.data.text.synthetic_toxicity import make_synthetic_rows
from mas_hooks.data.text.splits import SplitSettings, load_splits, split_texts, save_splits
from mas_hooks.data.text.labelled import LABELS, TextRow


def made(label, count, prompt=None, name="t"):
    return [TextRow(f"{name} {label} {i}", prompt or f"{name} {label} {i}", label) for i in range(count)]


def both(toxic, nontoxic, name="t"):
    return made("toxic", toxic, name=name) + made("nontoxic", nontoxic, name=name)


row = st.builds(
    TextRow,
    st.integers(0, 60).map("text {}".format) | st.sampled_from(["", " ", "text 1 "]),
    st.integers(0, 40).map("prompt {}".format),
    st.sampled_from(LABELS),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(row, min_size=20, max_size=150),
    st.lists(row, max_size=40),
    st.integers(1, 3),
    st.integers(1, 4),
    st.data(),
)
def test_no_text_is_in_two_places_and_no_test_prompt_in_training(first, second, splits, test, data):
    sets = {"hh-rlhf": first, "jigsaw": second}
    own = SplitSettings(splits=splits, test=test, seed=data.draw(st.integers(0, 9)))
    try:
        cut = split_texts(sets, own)
    except TooFewRowsError:
        return
    places = [*cut.splits.values(), cut.test]
    for one in places:
        assert len({row.text.strip() for row in one}) == len(one)
        assert all(row.text.strip() for row in one)
    for one, other in combinations(places, 2):
        assert not {row.text.strip() for row in one} & {row.text.strip() for row in other}
    held = {row.prompt for row in cut.test}
    assert not any(row.prompt in held for one in places[:-1] for row in one)
    assert {(label, number) for label in LABELS for number in range(splits)} == set(cut.splits)
    assert all(row.label == label for (label, _), one in cut.splits.items() for row in one)
    assert len({len(one) for one in cut.splits.values()}) == 1
    assert [sum(row.label == label for row in cut.test) for label in LABELS] == [test, test]
    assert {*first, *second} >= {row for one in places for row in one}
    shuffled = {name: data.draw(st.permutations(rows)) for name, rows in sets.items()}
    assert split_texts(shuffled, own).splits == cut.splits


def test_the_seed_moves_everything():
    one, same, other = (split_texts({"own": both(60, 60)}, SplitSettings(test=5, seed=seed)) for seed in (0, 0, 1))
    assert one == same
    assert one.splits[LABELS[0], 0] != other.splits[LABELS[0], 0]
    assert one.test != other.test
    assert [row.text for row in one.splits["toxic", 0]] != sorted(row.text for row in one.splits["toxic", 0])


def test_what_is_lost_is_counted_by_reason():
    rows = [
        *both(10, 10),
        *both(2, 0),
        TextRow(" ", "", "toxic"),
        TextRow("x", "x", "toxic"),
        TextRow("x", "", "nontoxic"),
    ]
    cut = split_texts({"own": rows}, SplitSettings(splits=2, test=2))
    assert {name: count for name, count in cut.dropped.items() if count} == {
        "empty": 1,
        "repeated": 2,
        "under both labels": 2,
    }
    assert {len(one) for one in cut.splits.values()} == {4}


def test_only_the_sets_that_ask_for_it_are_balanced():
    sets = {"jigsaw": both(10, 200, "j"), "hh-rlhf": both(10, 70, "h")}
    cut = split_texts(sets, SplitSettings(splits=1, test=1))
    kept = [row for one in [*cut.splits.values(), cut.test] for row in one]
    assert sum(row.text.startswith("j nontoxic") for row in kept) <= 10
    assert cut.dropped["left out by balancing"] == 190
    free = split_texts({"jigsaw": both(10, 200, "j")}, SplitSettings(splits=1, test=1, balanced=()))
    assert free.dropped.get("left out by balancing", 0) == 0


def test_a_test_prompt_takes_both_its_answers_out_of_training(tmp_path):
    cut = split_texts(
        {"hh-rlhf": read_labelled("hh-rlhf", hh_folder(tmp_path / "hh"))}, SplitSettings(splits=2, test=2)
    )
    assert len({row.prompt for row in cut.test}) == 2  # the second class takes the prompts of the first
    assert {len(one) for one in cut.splits.values()} == {2}


def test_a_length_of_splits_can_be_asked_for():
    cut = split_texts({"own": both(40, 50)}, SplitSettings(test=5, rows=7))
    assert {len(one) for one in cut.splits.values()} == {7}
    assert split_texts({"own": both(40, 50)}, SplitSettings(splits=5, test=5)).splits["toxic", 4]


@pytest.mark.parametrize(
    ("rows", "own", "words"),
    [
        (both(0, 30), {"test": 2}, ("'toxic' has no usable row", "3 splits", "2 test texts need 5")),
        (both(30, 4), {"test": 2}, ("'nontoxic' has 4 usable rows", "need 5", "fewer splits")),
        (both(30, 8), {"test": 2, "rows": 3}, ("'nontoxic' has 8 usable rows", "3 splits of 3 or more", "need 11")),
        ([], {}, ("'toxic' has no usable row (none was dropped)",)),
        ([*made("toxic", 1) * 9, *made("nontoxic", 20)], {"test": 1}, ("'toxic' has 1 usable row (8 repeated)",)),
        (made("toxic", 9, "p") + made("nontoxic", 20), {"test": 1}, ("'toxic' has no usable row", "8 with the prompt")),
    ],
)  # fmt: skip
def test_too_few_rows_say_how_many_there_are(rows, own, words):
    with refused(TooFewRowsError, *words):
        split_texts({"own": rows}, SplitSettings(**own))


def test_no_set_at_all_is_told():
    with refused(SettingError, "the data sets", "hh-rlhf"):
        split_texts({})


def test_what_is_written_is_read_back(tmp_path):
    own = SplitSettings(test=5, seed=3)
    odd = [TextRow('a\u2028b \x85 "q"\nc 😀', "a", "toxic")]
    cut = split_texts({"own": both(40, 40) + odd}, own)
    save_splits(tmp_path / "d", cut, own)
    assert load_splits(tmp_path / "d") == (cut, own)
    first = {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir()}
    assert sorted(first) == ["data.json", *(f"nontoxic-{i}.jsonl" for i in (1, 2, 3)), "test.jsonl",
                             *(f"toxic-{i}.jsonl" for i in (1, 2, 3))]  # fmt: skip
    rows = both(40, 40) + odd
    random.Random(1).shuffle(rows)
    save_splits(tmp_path / "d", split_texts({"own": rows}, own), own)
    assert {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir()} == first


def test_a_killed_save_is_not_taken_for_a_whole_one(tmp_path, monkeypatch):
    own = SplitSettings(test=5)
    save_splits(tmp_path, split_texts({"own": both(40, 40)}, own), own)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            save_splits(tmp_path, split_texts({"own": both(40, 40)}, own), own)
    with refused(CheckpointError, "data.json", "prepare the data again"):
        load_splits(tmp_path)


def test_a_full_disk_is_told_and_nothing_half_written_is_taken_for_whole(tmp_path, monkeypatch):
    own = SplitSettings(test=5)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_rows", full)
        with refused(OutputFolderError, str(tmp_path), "no space left on device", "--resume"):
            save_splits(tmp_path, split_texts({"own": both(40, 40)}, own), own)
    with refused(CheckpointError, "data.json"):
        load_splits(tmp_path)


def test_damaged_files_are_told(tmp_path):
    own = SplitSettings(test=5)
    save_splits(tmp_path, split_texts({"own": both(40, 40)}, own), own)
    whole = (tmp_path / "toxic-2.jsonl").read_text()
    (tmp_path / "toxic-2.jsonl").write_text(whole[: whole.rindex("{")])
    with refused(DataSetError, "toxic-2.jsonl", "rows instead of"):
        load_splits(tmp_path)
    (tmp_path / "toxic-2.jsonl").write_text(whole[:-9])
    with refused(DataSetError, "toxic-2.jsonl:11", "is no JSON"):
        load_splits(tmp_path)
    (tmp_path / "toxic-2.jsonl").unlink()
    with refused(DataSetError, "toxic-2.jsonl", "cannot be read"):
        load_splits(tmp_path)
    (tmp_path / "data.json").write_text("{}")
    with refused(DataSetError, "data.json", "is no index"):
        load_splits(tmp_path)


def test_the_embedded_set_feeds_three_splits_and_a_test():
    cut = split_texts({"embedded": make_synthetic_rows()}, SplitSettings(test=200))
    assert {len(one) for one in cut.splits.values()} == {433}
    assert len({row.prompt for row in cut.test}) == 200
