"""The recipe `figures`: every panel at a small size, by the command line; values, claims and the sizes of its plan."""

import contextlib
import io
import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mas_hooks.cli import main
from mas_hooks.core import records
from mas_hooks.core.errors import SettingError
from mas_hooks.core.records import Record
from mas_hooks.studies import registry
from mas_hooks.studies.figures import claims, fits, results, work

SMALL = {
    "--jobs": ["2"],
    "--width": ["12"],
    "--ranks": ["1", "4", "12"],
    "--sizes": ["64", "32", "32"],
    "--training.max-errors": ["100"],
    "--training.full-check": ["100"],
    "--training.small-check": ["20"],
    "--training.max-steps": ["10"],
    "--training.check-every": ["5"],
    "--fit.epochs": ["2"],
    "--fit.validate-every": ["1"],
}
"""Models that know nothing pass for trained, as every error is allowed."""


@dataclass(frozen=True)
class Ended:
    returncode: int
    stdout: str
    stderr: str


def run(place, *arguments):
    """A command of the command line in this process, without the seconds that an interpreter takes to start."""
    said, wrong, status = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
        patch.setenv("MAS_HOOKS_CACHE", str(place / "cache"))
        try:
            main.main([str(one) for one in arguments])
        except SystemExit as ended:
            status = ended.code
    return Ended(status, said.getvalue(), wrong.getvalue())


def figures(place, folder, *flags, **changes):
    told = [part for flag, values in {**SMALL, **changes}.items() for part in (flag, *values)]
    return run(place, "run", "figures", "--quick", "--quiet", "--out", str(folder), *told, *flags)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("figures")


@pytest.fixture(scope="module")
def whole(place):
    done = figures(place, place / "run")
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "run", done.stdout


def test_every_panel_is_drawn_and_told(whole):
    folder, text = whole
    assert sorted(path.name for path in (folder / "figures").iterdir()) == [f"{letter}.png" for letter in "abcdefg"]
    page = (folder / "figures.md").read_text()
    told = [line for line in page.partition("## Every value")[0].splitlines() if re.match(r"\| [a-g] \|", line)]
    assert len(told) == len(claims.ROWS)
    assert {line.split("|")[5].strip().strip("*") for line in told} <= {"yes", "no", "not comparable"}
    assert "Not run" not in page
    assert re.search(r"Left out of the latent loss.*\d+ of 128 pairs \(clmas\)", page)
    every = page.partition("## Every value")[2]
    assert len(re.findall(r"^\| [a-g] \|", every, re.M)) >= 80
    assert "multi_object gru-0: trained in 10 steps" in text
    assert re.search(r"about 0:\d\d:\d\d left", text)


def test_each_toy_and_each_fit_runs_once(whole):
    folder, text = whole
    trained = re.findall(r"^(\w+ [a-z]+-\d): ", text, re.M)
    assert len(trained) == len(set(trained)) == 11
    fitted = re.findall(r"^\d+/(\d+) (\S+): worst", text, re.M)
    assert len(fitted) == len({name for _, name in fitted}) == int(fitted[0][0])
    rows = records.read_records(folder / "records.jsonl")
    assert {row.recipe for row in rows} == {"figures"}
    extra = [row for row in rows if row.init == "procrustes"]
    assert {row.init for row in rows if row.iia is not None} == {"random", "procrustes"}
    assert {row.variable for row in extra} == {"count"}
    page = (folder / "figures.md").read_text()
    assert all("(extra)" in line for line in page.splitlines() if "Procrustes" in line)


def test_controls_stand_beside_every_panel(whole):
    rows = records.read_records(whole[0] / "records.jsonl")
    told = json.loads((whole[0] / "settings.json").read_text())
    del told["recipe"]
    values = results.gather_results(marks(**told), rows)
    for letter in "abcdefg":
        controls = {key[3].rpartition(", ")[2] for key in values if key[0] == letter}
        assert {"untrained", "shuffled labels"} <= controls


def test_a_run_is_drawn_again_from_its_records(place, whole, tmp_path):
    folder, _ = whole
    before = {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}
    page = (folder / "figures.md").read_bytes()
    (folder / "figures" / "a.png").unlink()
    done = run(place, "report", str(folder))
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_bytes() for path in (folder / "figures").iterdir()} == before
    assert (folder / "figures.md").read_bytes() == page


def test_the_results_that_are_shown_are_those_of_the_recipe(tmp_path):
    """The table in the repository is what the recipe makes of the records beside it."""
    kept = Path(__file__).parents[2] / "benchmarks" / "results" / "figures"
    folder = Path(shutil.copytree(kept, tmp_path / "run"))
    (folder / "figures.md").unlink()
    registry.load_study("recipes", "figures").draw(folder)
    assert (folder / "figures.md").read_text() == (kept / "figures.md").read_text()


def test_an_ended_run_is_not_fitted_again(place, whole):
    done = run(place, "run", "figures", "--resume", "--out", str(whole[0]), "--quiet")
    assert done.returncode == 0, done.stderr
    assert "worst direction" not in done.stdout


def test_what_did_not_learn_is_left_out_and_named(place):
    """No error is allowed, and 10 steps are too few for all."""
    changes = {"--training.max-errors": ["0"], "--panels": ["b", "g"], "--jobs": ["1"]}
    done = figures(place, place / "short", **changes)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SHORT OF THE STOP RULE" in done.stdout
    assert "fits are left out: a model of theirs is short of the stop rule" in done.stdout
    page = (place / "short" / "figures.md").read_text()
    assert "- g; Multi-Object GRU × transformer; stepwise MAS Full" in page
    assert not list((place / "short" / "figures").glob("*.png"))


def test_bad_settings_are_told_before_anything_is_trained(place):
    done = figures(place, place / "none", **{"--ranks": ["13"]})
    assert done.returncode == 2
    assert "rank 13 does not fit" in done.stderr
    assert not (place / "none").exists()


# --- the plan ---


def settings(**changes):
    told = {"width": 12, "ranks": (1, 4, 12), "quick": True, "sizes": (64, 32, 32), **changes}
    return registry.load_study("recipes", "figures").settings(**told)


def marks(**changes):
    return settings(**changes).marks()


def test_some_panel_must_be_named():
    with pytest.raises(SettingError, match="panels is \\(\\), but must be one or more of a to g"):
        settings(panels=())


def test_no_two_models_of_a_fit_begin_with_the_same_embeddings():
    """A seed draws the embeddings first, whatever the architecture."""
    for mark in marks():
        seeds = [own.training.seed for own in mark.fit.toys]
        assert len(set(seeds)) == len(seeds)


def test_names_tell_fits_apart():
    every = {fits.fit_name(mark.fit): mark.fit for mark in marks(seeds=2)}
    assert len({fit.model_dump_json() for fit in every.values()}) == len(every)
    assert all(re.fullmatch(r"[\w.-]+", name) for name in every)


def test_in_full_every_fit_of_mas_has_controls():
    own = marks(quick=False, seeds=1)
    controlled = {fits.fit_name(mark.fit) for mark in own if mark.control}
    assert {fits.fit_name(mark.fit) for mark in own if mark.fit.plan.method in ("mas", "stepwise_mas")} <= controlled


# --- values and claims ---


MODULO = ("Multi-Object × Modulo", "MAS Count")


def row(mark, way, iia, **more):
    told = Record(comparison=fits.fit_name(mark.fit), source=way[0], target=way[1], split="test", iia=iia)
    return replace(told, iia_low=iia - 0.1, iia_high=iia + 0.1, floor=0.05, **more)


def test_the_worst_trained_direction_is_shown_with_its_lower_bound():
    mark = next(mark for mark in marks(panels=("d",)) if (mark.group, mark.key) == MODULO)
    ways = {(0, 0): 0.9, (0, 1): 0.4, (1, 0): 0.5, (1, 1): 0.8}
    rows = [row(mark, way, iia) for way, iia in ways.items()]
    rows += [row(replace(mark, fit=fit), (0, 0), iia) for fit, iia in zip(mark.bounds, (0.95, 0.85), strict=True)]
    (value,) = results.gather_results([mark], rows).values()
    assert (value.seeds, value.low, value.high, value.bound) == ((0.4,), pytest.approx(0.3), 0.5, 0.85)
    assert str(value) == "0.400 [0.300, 0.500]"


def test_several_seeds_have_the_interval_of_their_mean():
    own = [mark for mark in marks(panels=("d",), seeds=3) if (mark.group, mark.key) == MODULO]
    rows = [row(mark, (0, 0), iia) for mark, iia in zip(own, (0.5, 0.6, 0.7), strict=True)]
    rows += [row(mark, way, 0.9) for mark in own for way in ((0, 1), (1, 0), (1, 1))]
    (value,) = results.gather_results(own, rows).values()
    assert value.mean == pytest.approx(0.6)
    assert (value.low, value.high) == pytest.approx((0.6 - 4.302653 * 0.1 / 3**0.5, 0.6 + 4.302653 * 0.1 / 3**0.5))


def value(mean, half=0.02, floor=0.05, bound=0.9):
    return results.Value((mean,), mean - half, mean + half, floor, bound)


def verdict(found, what):
    told = {claim.what: claim.agrees for claim in claims.figure_claims(found)}
    return told[what]


@pytest.mark.parametrize(("iia", "agrees"), [(0.85, True), (0.79, False)])
def test_high_is_high(iia, agrees):
    assert verdict({("f", *claims.REM): value(iia)}, "Count × Rem Ops") is agrees


@pytest.mark.parametrize(("mas", "rsa", "agrees"), [(0.9, 0.5, True), (0.5, 0.9, False), (0.6, 0.58, False)])
def test_above_is_beyond_both_intervals(mas, rsa, agrees):
    place = ("a", "GRU × GRU", "embeddings")
    assert (
        verdict({(*place, "MAS Last Value"): value(mas), (*place, "RSA"): value(rsa)}, "GRU × GRU, embeddings")
        is agrees
    )


@pytest.mark.parametrize(("iia", "agrees"), [(0.1, True), (0.15, True), (0.2, False)])
def test_figures_of_the_paper_are_near_or_not(iia, agrees):
    key = ("a", "transformer × transformer", "hidden state", "MAS Full")
    assert verdict({key: value(iia)}, ", ".join(key[1:])) is agrees


@pytest.mark.parametrize(("iia", "bound", "agrees"), [(0.5, 0.9, True), (0.4, 0.9, False), (0.5, 0.06, None)])
def test_what_has_no_room_above_the_floor_cannot_be_compared(iia, bound, agrees):
    assert verdict({("c", *claims.NO_ACCESS["CLMAS"]): value(iia, bound=bound)}, "CLMAS, no access") is agrees


def test_every_claim_is_about_something_that_is_shown():
    """Keys of claims are keys of marks, of RSA and CKA, or of null shares."""
    shown = {(mark.panel, mark.title, mark.group, mark.key) for mark in marks()}
    shown |= {
        ("a", title, group, name)
        for title in fits.PAIRS
        for group in ("embeddings", "hidden state")
        for name in ("RSA", "CKA")
    }
    own = settings().every_seed()[0]
    shown |= {("e", "null", "0.01", name) for name, _, _ in work.stitched_fits(own)}
    assert {(one.panel, *key) for one in claims.ROWS for key in one.wanted.values()} <= shown


def test_null_shares_are_read_with_their_floor():
    base = Record(
        comparison="null · MAS", measure="null_share@0.01", split="test", value=0.3, value_low=0.2, value_high=0.4
    )
    floor = replace(base, control="itself", value=0.01)
    ((key, found),) = results.read_null_shares([base, floor, replace(base, measure="null_dims@0.01")]).items()
    assert key == ("e", "null", "0.01", "MAS")
    assert (found.mean, found.low, found.high, found.floor) == (0.3, 0.2, 0.4, 0.01)


def test_settings_are_kept_as_they_were_given(whole):
    told = json.loads((whole[0] / "settings.json").read_text())
    assert told["recipe"] == "figures"
    assert told["quick"] is True
    assert told["ranks"] == [1, 4, 12]
