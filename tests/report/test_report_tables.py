import io

import example_runs as runs
import pytest
from rich.console import Console

from mas_hooks.core.errors import EmptyError
from mas_hooks.core.records import Record
from mas_hooks.report import markdown_table, results_table


def printed(records, width=100):
    console = Console(width=width, file=io.StringIO())
    console.print(results_table(records))
    return console.file.getvalue()


def test_fits_eighty_columns():
    text = printed(runs.demo(), width=80)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "gru-0 → gru-1" in text


def test_rows_are_the_records():
    line = next(line for line in printed(runs.demo()).splitlines() if "0.976" in line)
    low, high = runs.wilson(0.976)
    assert line.split() == ["gru-1", "→", "gru-0", "*0.976", f"{low:.3f}–{high:.3f}", "0.986", "0.060", "1000"]


def test_controls_come_last_and_are_marked():
    text = printed(runs.demo())
    named = [text.index(name) for name in ("MAS · count", "untrained", "shuffled labels", "random maps", "CKA")]
    assert named == sorted(named)
    assert "no evidence" in text


def test_worst_direction_of_each_fit_is_marked():
    text = printed(runs.demo())
    assert [share for share in ("0.976", "0.931", "0.021", "0.058", "0.061") if f"*{share}" in text] == [
        "0.976", "0.931", "0.021", "0.058", "0.061",
    ]  # fmt: skip
    assert text.count("*0.") == 5


def test_columns_without_content_are_left_out():
    records = runs.directions((0.9,) * 4, runs.GRUS, floor=None, k=None, token_accuracy=None)
    head = markdown_table(records).splitlines()[2]
    assert head == "| method | source → target | IIA | 95% interval | trials |"


def test_dims_and_start_are_said_once_where_they_are_the_same():
    records = runs.directions((0.9,) * 4, runs.GRUS)
    assert "(16 dims, random start)" in markdown_table(records).splitlines()[0]
    both = markdown_table(records + runs.directions((0.9,) * 4, runs.GRUS, init="procrustes", k=8))
    assert "dims" not in both.splitlines()[0]
    assert "| k |" in both
    assert "| 8 |" in both
    assert "| start |" in both


def test_seeds_get_a_column():
    assert "seed" in markdown_table(runs.seeds()).splitlines()[2]
    assert "seed" not in markdown_table(runs.alone()).splitlines()[2]


def test_same_name_and_several_sites_are_told_apart():
    twins = markdown_table(runs.directions((0.9,) * 4, ("gru", "gru")))
    assert "gru #0 → gru #1" in twins
    layers = [runs.final(0.9, 0, 1, runs.GRUS, source_site=site, target_site="state") for site in ("embed", "state")]
    assert "gru-0 · embed → gru-1" in markdown_table(layers)


def test_markdown_has_a_cell_for_every_column():
    blocks = [block.splitlines() for block in markdown_table(runs.demo()).split("\n\n") if block.startswith("|")]
    assert len(blocks) == 4
    for block in blocks:
        assert len({line.count("|") for line in block}) == 1
    assert "**0.931**" in markdown_table(runs.demo())
    assert "| RSA | gru-0 × gru-1 | state | 0.710 | 0.680–0.740 |" in markdown_table(runs.demo())


def test_names_are_not_taken_for_markup():
    assert "[red]gru" in printed([runs.final(0.9, 0, 0, ("[red]gru",), method="das")])


@pytest.mark.parametrize("render", [results_table, markdown_table])
def test_no_rows_is_said(render):
    with pytest.raises(EmptyError, match="table is empty; it needs"):
        render([Record(split="valid", step=1, iia=0.5)])


def test_how_well_the_models_know_their_task_is_said():
    told = Record(split="train", source_model="gru-0", target_model="gru-0", measure="trial_accuracy", value=0.5)
    text = markdown_table([*runs.demo(), told])
    assert "Trials right without any swap on the models' own task: gru-0 50.00%." in text
    assert "TRIAL_ACCURACY" not in text
    assert "own task" not in markdown_table(runs.demo())
