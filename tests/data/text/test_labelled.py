"""Every published data set is read from files of its own column layout; anything else is one sentence."""

import json
import sys

import datasets
import pytest
from published import CHAT, HH, JIGSAW, chat_file, csv_file, hh_folder, jigsaw_file
from sentences import refused

from mas_hooks.core.errors import DataSetError, MissingPackageError, UnknownNameError
from mas_hooks.data.text.labelled import READERS, read_labelled
from mas_hooks.data.text.labelled import TextRow


def test_hh_rlhf_gives_both_answers_with_the_prompt_up_to_the_last_turn(tmp_path):
    rows = read_labelled("hh-rlhf", hh_folder(tmp_path / "hh"))
    assert len(rows) == 12
    assert {row.text for row in rows if row.label == "nontoxic"} == {one["chosen"] for one in HH}
    assert {row.text for row in rows if row.label == "toxic"} == {one["rejected"] for one in HH}
    for row in rows:
        assert row.text.startswith(row.prompt)
        assert row.prompt.endswith("?\n\nAssistant:")
        assert "\n\nAssistant:" not in row.text[len(row.prompt) :]


def test_a_jigsaw_comment_is_toxic_by_any_of_six_and_nontoxic_by_none(tmp_path):
    rows = read_labelled("jigsaw", jigsaw_file(tmp_path / "train.csv"))
    assert [row.text for row in rows if row.label == "toxic"] == [f"Flagged by {name}" for name in JIGSAW[2:]]
    assert [row.text for row in rows if row.label == "nontoxic"] == [f"A plain, quiet\ncomment {i}" for i in range(5)]
    assert all(row.prompt == row.text for row in rows)


def test_a_jailbreak_is_never_on_the_nontoxic_side(tmp_path):
    rows = read_labelled("toxic-chat", chat_file(tmp_path / "chat.csv"))
    assert [row.label for row in rows] == ["nontoxic", "toxic", "toxic", "toxic"]


def test_of_two_versions_in_a_folder_the_named_one_is_read(tmp_path):
    for version in ("0124", "1123"):
        chat_file(tmp_path / "data" / version / "toxic-chat_annotation_train.csv")
    rows = read_labelled("toxic-chat", tmp_path)
    assert len(rows) == 4
    assert all("of 0124" in row.text for row in rows)


def test_parquet_reads_as_csv_does(tmp_path):
    plain = jigsaw_file(tmp_path / "train.csv")
    table = datasets.load_dataset("csv", data_files=str(plain), split="train")
    (tmp_path / "p").mkdir()
    table.to_parquet(str(tmp_path / "p/part-0.parquet"))
    assert read_labelled("jigsaw", tmp_path / "p") == read_labelled("jigsaw", plain)


def test_ones_own_rows_have_a_text_and_a_label_and_may_have_a_prompt(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"text": "a b", "label": "toxic", "prompt": "a"}\n{"text": "c", "label": "nontoxic"}\n')
    assert read_labelled("own", path) == [TextRow("a b", "a", "toxic"), TextRow("c", "c", "nontoxic")]
    path = tmp_path / "numbers.jsonl"
    path.write_text('{"text": "a", "label": 1}\n{"text": "c", "label": 0}\n{"text": null, "label": 0}\n')
    assert [row.label for row in read_labelled("own", str(path))] == ["toxic", "nontoxic", "nontoxic"]


@pytest.mark.parametrize("name", sorted(READERS))
def test_other_columns_are_named_beside_those_wanted(name, tmp_path):
    path = csv_file(tmp_path / "other.csv", ["id", "body"], [[1, "x"]])
    with refused(DataSetError, "other.csv", "id, body", *READERS[name].columns):
        read_labelled(name, path)


def test_a_foreign_label_names_its_row(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"text": "a", "label": "toxic"}\n{"text": "b", "label": "rude"}\n')
    with refused(DataSetError, "mine.jsonl", "row 2", "label is 'rude', not toxic, nontoxic, 1 or 0"):
        read_labelled("own", path)
    with refused(DataSetError, "row 1", "toxicity is 7, not 1 or 0"):
        read_labelled("toxic-chat", csv_file(tmp_path / "chat.csv", CHAT, [["c", "q", "a", True, 7, 0, "[]"]]))
    with refused(DataSetError, "row 1", "jailbreaking is -1, not 1 or 0"):
        read_labelled("toxic-chat", csv_file(tmp_path / "chat2.csv", CHAT, [["c", "q", "a", True, 0, -1, "[]"]]))


def test_what_is_not_there_says_what_to_give(tmp_path):
    with refused(DataSetError, "is no file or folder here", "give a local folder or file", "chosen, rejected"):
        read_labelled("hh-rlhf", tmp_path / "absent")
    (tmp_path / "readme.md").write_text("x")
    with refused(DataSetError, "holds no parquet, CSV or JSON lines file", "comment_text"):
        read_labelled("jigsaw", tmp_path)
    with refused(DataSetError, "jigsaw: is not on the hub", "give a local folder or file", "identity_hate"):
        read_labelled("jigsaw")
    with refused(UnknownNameError, "'hh'", "hh-rlhf"):
        read_labelled("hh")


def test_a_damaged_file_is_told(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(HH[0]) + '\n{"chosen": "x", "rej')
    with refused(DataSetError, "a.jsonl", "cannot be read"):
        read_labelled("hh-rlhf", tmp_path / "a.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with refused(DataSetError, "empty.jsonl: holds no rows"):
        read_labelled("hh-rlhf", tmp_path / "empty.jsonl")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 but no more")
    with refused(DataSetError, "a.parquet", "cannot be read"):
        read_labelled("hh-rlhf", tmp_path / "a.parquet")


def test_the_hub_is_asked_by_name_without_code_and_told_when_out_of_reach(monkeypatch):
    asked = []

    def unreachable(*what, **how):
        asked.append((what, how))
        raise ConnectionError("Couldn't reach it on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with refused(DataSetError, "Anthropic/hh-rlhf", "Couldn't reach", "give a local folder", "chosen, rejected"):
        read_labelled("hh-rlhf")
    with refused(DataSetError, "lmsys/toxic-chat", "give a local folder"):
        read_labelled("toxic-chat")
    with refused(DataSetError, "someone/jigsaw", "give a local folder"):
        read_labelled("jigsaw", "someone/jigsaw")
    assert [what for what, _ in asked] == [
        ("Anthropic/hh-rlhf", None),
        ("lmsys/toxic-chat", "toxicchat0124"),
        ("someone/jigsaw", None),
    ]
    assert not any("trust_remote_code" in how for _, how in asked)


def test_all_published_parts_are_read(monkeypatch):
    parts = {"train": datasets.Dataset.from_list(HH[:4]), "test": datasets.Dataset.from_list(HH[4:])}
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict(parts))
    assert len(read_labelled("hh-rlhf")) == 12


def test_without_datasets_the_command_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with refused(MissingPackageError, "reading hh-rlhf needs datasets", "pip install 'mas-hooks[language]'"):
        read_labelled("hh-rlhf", tmp_path)
