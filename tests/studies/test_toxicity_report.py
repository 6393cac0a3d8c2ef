"""The report of the toxicity recipe from records by hand: figures, verdict, tables, and one page."""

import html
import re
from dataclasses import replace

import pytest
import toxicity_records
from sentences import refused
from toxicity_records import folder, names, study

from mas_hooks.cli.main import main
from mas_hooks.core.errors import EmptyError
from mas_hooks.studies.toxicity import claims, report, results, tables, words


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    path = folder(tmp_path_factory.mktemp("report") / "run", study())
    return path, report.draw_toxicity_report(path)


def found(rows, **align):
    return results.Results(toxicity_records.ALIGN | align, rows)


def sheet(rows, title):
    return next(one for one in tables.toxicity_sheets(found(rows)) if one.title == title)


def test_every_file_is_there(drawn):
    path, files = drawn
    figures = ["groups", "pairs_tokens", "pairs_iia", "together_tokens", "ranks"]
    assert files == [
        *(path / "figures" / f"{name}.png" for name in figures),
        path / "toxicity.md",
        path / "report.html",
    ]
    assert all(file.stat().st_size > 1_000 for file in files)


def test_report_command_draws_the_same_again(drawn, capsys):
    path, files = drawn
    before = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    main(["report", str(path)])
    assert [file.read_bytes() for file in files] == before
    assert "report.html" in capsys.readouterr().out


def test_the_page_is_of_one_piece(drawn):
    page = (drawn[0] / "report.html").read_text("utf-8")
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    assert page.count('src="data:image/png;base64,') == 5
    for told in ("In plain words", "Every pair of models", "Settings", "Environment", "The paper beside ours"):
        assert told in html.unescape(page)


def test_with_three_splits_nothing_is_called_significant(drawn):
    """But where the paper is quoted, or chance cannot be ruled out."""
    text = (drawn[0] / "toxicity.md").read_text("utf-8")
    assert "smallest p that 3 + 3 models can give is 0.05" in text
    assert "cannot rule out chance" in text
    assert set(re.findall(r"\w+ \w+ significantly? \w+", text)) <= {"is not significantly different"}


def test_with_four_splits_a_verdict_is_possible():
    told = " ".join(words.write_verdict(found(study(4)), {}))
    assert "the smallest p that 4 + 4 models can give is 0.0143" in told
    assert "That is significant at 0.05" in told


def test_the_statistic_is_the_one_that_was_named():
    own = found(study(), statistic="second")
    assert own.test("token accuracy").effect.value == pytest.approx(0.05)
    assert found(study()).test("token accuracy").effect.value == pytest.approx(0.3)
    assert found(study(), score="iia").chosen == "IIA"


def test_claims_follow_the_rules():
    told = {(one.panel, one.what.split()[0]): one for one in claims.toxicity_claims(found(study()))}
    assert told["token accuracy", "toxic–toxic"].agrees is True
    assert told["token accuracy", "nontoxic–nontoxic"].agrees is False  # 0.65 in every pair against 0.60 in every pair
    assert told["IIA", "toxic–toxic"].ours.startswith("difference +0.150")
    alike = claims.toxicity_claims(
        found(study(score=lambda a, b: 1.0 if a == b else 0.6 + 0.01 * ("toxic-1" in (a, b))))
    )
    assert [one.agrees for one in alike] == [False, True, False, True]
    flat = claims.toxicity_claims(found(study(score=lambda a, b: 0.6)))  # as where every swap is at the floor
    assert [one.agrees for one in flat] == [None] * 4
    assert told["IIA", "toxic–toxic"].why.endswith("tokens right without a swap differ by +0.000")
    assert [one.agrees for one in claims.toxicity_claims(found(study(2)))] == [None] * 4


def test_the_table_of_pairs_says_what_a_score_is_read_against():
    pairs = sheet(study(), "Every pair of models")
    line = dict(
        zip(pairs.columns, next(one.cells for one in pairs.lines if one.cells[0] == "toxic-1 × toxic-3"), strict=True)
    )
    assert line["kind"] == "toxic–toxic"
    assert line["tokens"] == "0.900"
    assert line["IIA"] == "0.450"
    assert line["95% of IIA"] == "0.350–0.550"
    assert line["tokens, no swap"] == "0.400"
    assert line["tokens, random maps"] == "0.420"
    assert line["tokens, text read whole"] == "0.900"
    assert (line["CKA"], line["RSA"]) == ("0.800", "0.700")
    assert line["tokens, all together"] == "0.850"
    assert len(pairs.lines) == 15


def test_the_cost_of_one_space_stands_beside_that_of_pairs():
    cost = sheet(study(), "All models in one shared space, or two at a time")
    (pairs, together) = (dict(zip(cost.columns, line.cells, strict=True)) for line in cost.lines)
    assert pairs["fits"] == "21"
    assert together["fits"] == "1"
    assert int(pairs["parameters"]) == 8 * 32 * (2 * 15 + 6)
    assert int(together["parameters"]) == 8 * 32 * 6
    assert float(pairs["mean tokens"]) == pytest.approx((6 * 0.9 + 9 * 0.6 + 15 * 0.65) / 30, abs=1e-3)
    assert float(pairs["mean tokens"]) - float(together["mean tokens"]) == pytest.approx(0.05, abs=0.002)
    assert pairs["seconds"] == f"{21 * 2.5:.0f}"


def test_controls_sweeps_and_directions_are_told():
    assert [line.cells[:2] for line in sheet(study(), "Controls").lines] == [
        ("toxic-1 × toxic-2", "untrained"),
        ("toxic-1 × toxic-2", "shuffled labels"),
    ]
    swept = sheet(study(), "Other sites and sizes of the subspace")
    assert [line.cells[2:4] for line in swept.lines] == [
        ("blocks.1.hook_resid_post", "8"),
        ("embed", "2"),
        ("embed", "4"),
        ("embed", "8"),
    ]
    every = sheet(study(sweep=False, together=False), "Every direction")
    assert len(every.lines) == 2 * (15 * 4 + 6) + 8
    assert [line.cells[0] for line in sheet(study(), "What the fine-tunes say").lines] == names()


def test_curves_are_of_pairs_with_several_sizes():
    lines = report.rank_lines(found(study()))
    assert [(line.label, line.sizes, line.control) for line in lines] == [
        ("toxic-1 × toxic-2", (2, 4, 8), False),
        ("toxic-1 × toxic-2, random maps", (2, 4, 8), True),
    ]
    assert report.rank_lines(found(study(sweep=False))) == []


@pytest.mark.parametrize("name", ["pairs_tokens.png", "pairs_iia.png"])
def test_models_of_a_kind_stand_together(name):
    """Though a run begins with one pair of each kind."""
    rows = sorted(study(), key=lambda row: row.comparison != "toxic-1 × nontoxic-1")
    shown = [label.get_text() for label in report.draw_figures_of_results(found(rows))[name].axes[0].get_yticklabels()]
    assert shown == names()


def test_the_headline_is_found_before_every_fit_is_there():
    """Without the fits of single models and of all together: the size that most fits have."""
    rows = [row for row in study(together=False) if row.comparison not in {f"{name} × {name}" for name in names()}]
    assert found(rows).rank == 8
    assert len(found(rows).tables["IIA"].models) == 6


def test_few_models_and_few_stages_are_drawn_too(tmp_path):
    path = folder(tmp_path / "one", study(1, sweep=False, together=False))
    files = report.draw_toxicity_report(path)
    assert [file.name for file in files] == ["pairs_tokens.png", "pairs_iia.png", "toxicity.md", "report.html"]
    assert "too few fine-tunes of a kind" in (path / "toxicity.md").read_text("utf-8")


def test_real_data_are_not_called_made_up():
    assert words.EMBEDDED in words.write_verdict(found(study()), {"data": ["embedded"]})
    assert words.EMBEDDED not in words.write_verdict(found(study()), {"data": ["hh-rlhf"]})


def test_a_run_without_swaps_is_refused(tmp_path):
    rows = [replace(row, split="train") for row in study(1)]
    with refused(EmptyError, "the report of", "run the stage align"):
        report.draw_toxicity_report(folder(tmp_path / "run", rows))
