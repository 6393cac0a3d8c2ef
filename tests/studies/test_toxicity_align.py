"""The align stage of the toxicity recipe: which fits there are, and a small run of them to the report."""

import json
import os
import re
import shutil
import subprocess
from html import unescape
from types import SimpleNamespace

import pytest
from models.language.small_language import model
from sentences import refused
from text_members import members
from toxicity_records import folder, study

from mas_hooks.core import records
from mas_hooks.core.errors import RankError, SettingError, UnknownNameError
from mas_hooks.core.memory import ProcessCache
from mas_hooks.core.run_folder import RunFolder
from mas_hooks.core.settings import Options
from mas_hooks.models.language import with_responses as shared_models
from mas_hooks.models.language.with_responses import TextModel, TextSettings
from mas_hooks.studies.toxicity import align, fits, report
from mas_hooks.studies.toxicity.settings import AlignSettings
from mas_hooks.studies.work import text_comparison
from mas_hooks.training.settings import FitSettings

QUIET = Options(progress=False)
TINY = {"sizes": (12, 4, 6), "margin": 3, "fit": FitSettings(batch_size=4, steps=1, select_by="loss"), "resamples": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return members(tmp_path_factory.mktemp("members"))


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    monkeypatch.setattr(shared_models, "_LOADED", ProcessCache())
    monkeypatch.setenv("MAS_HOOKS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """Six members of which only a config is there."""
    folder = tmp_path_factory.mktemp("six")
    model().config.to_json_file(folder / "config.json")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace("{", '{"architectures": ["Qwen2ForCausalLM"],', 1))
    names = [f"{label}-{number}" for label in ("toxic", "nontoxic") for number in (1, 2, 3)]
    return TextSettings(models=tuple(TextModel(name=name, model=folder, responses=folder) for name in names))


def planned(six, **changed):
    return fits.plan_text_fits(AlignSettings(**changed), six, ["toxic"] * 3 + ["nontoxic"] * 3)


def test_every_pair_every_model_and_all_together(six):
    plan = planned(six)
    chosen = [fit.chosen for fit in plan.values()]
    assert plan["together"].chosen == chosen[3] == tuple(range(6))
    assert sorted(one for one in chosen if len(one) == 2) == [(a, b) for a in range(6) for b in range(a + 1, 6)]
    assert sorted(one for one in chosen if len(one) == 1) == [(number,) for number in range(6)]
    assert {fit.maps.rank for fit in plan.values()} == {16}
    assert {fit.site for fit in plan.values()} == {"embed"}
    assert "together" not in planned(six, shared_space=False)


def test_refits_stand_beside_one_pair_of_each_kind(six):
    kinds = {(0, 1), (0, 3), (3, 4)}
    for controls, refitted in (("one", kinds), ("none", set()), ("random", set())):
        plan = planned(six, controls=controls)
        assert {fit.chosen for fit in plan.values() if "untrained" in fit.controls} == refitted
        assert {"random_maps" in fit.controls for fit in plan.values()} == {controls != "none"}
    assert all(len(fit.controls) == 3 for fit in planned(six, controls="every", shared_space=False).values())


@pytest.mark.parametrize(("sweep", "count"), [("one", 3), ("every", 15)])
def test_sites_and_ranks_are_swept(six, sweep, count):
    plan = planned(six, sites=("embed", "blocks.0.hook_resid_post"), ranks=(2, 16), sweep=sweep)
    assert sum(fit.maps.rank == 2 for fit in plan.values()) == count
    assert sum(fit.site != "embed" for fit in plan.values()) == count
    assert len(plan) == 1 + 21 + 2 * count  # 16 is the headline's, and fitted once


def test_the_papers_settings_are_the_defaults():
    own = AlignSettings()
    assert own.sizes == (10_000, 1_000, 1_000)
    assert (own.margin, own.sites, own.rank, own.init) == (10, ("embed",), None, "random")
    assert (own.fit.batch_size, own.fit.learning_rate, own.fit.steps) == (256, 2e-3, 3_000)


def test_what_fits_nothing_is_told_before_anything_is_loaded(six):
    with refused(SettingError, "align.ranks", "different ranks"):
        AlignSettings(ranks=(4, 4))
    with refused(SettingError, "align.ranks", "sizes of 1 dim or more"):
        AlignSettings(ranks=(0,))
    with refused(UnknownNameError, "no block '7'"):
        planned(six, sites=("embed", "blocks.7.hook_resid_post"))
    with refused(RankError, "33"):
        planned(six, ranks=(33,))


def run(path, made, *, resume=False, **changed):
    own = AlignSettings(**(TINY | {"ranks": (2,), "sweep": "one"} | changed))
    settings = SimpleNamespace(align=own, seed=0)
    told = {"align": own.model_dump(mode="json"), "data": ["embedded"]}
    opened = RunFolder.open(path, "toxicity", told, resume=resume)
    opened.write_records(align.run_alignments(settings, made, opened, QUIET))
    return opened


def test_a_small_run_from_members_to_the_page(made, tmp_path, fresh):
    opened = run(tmp_path / "run", made, controls="random")
    rows = records.read_records(opened.path / "records.jsonl")
    finals = [row for row in rows if row.split == "test" and row.iia is not None and row.control is None]
    assert len(finals) == 16 + 6 * 4 + 4 + 3 * 4
    assert {row.recipe for row in rows} == {"toxicity"}
    assert all(row.token_floor is not None for row in finals)
    assert len([row for row in rows if row.measure == "cka"]) == 6
    before = sorted(path.name for path in (opened.path / "state").glob("*.jsonl"))
    (opened.path / "state" / "embed-k16-toxic-1_toxic-2.jsonl").unlink()
    run(tmp_path / "run", made, resume=True, controls="random")
    assert sorted(path.name for path in (opened.path / "state").glob("*.jsonl")) == before
    assert records.read_records(opened.path / "records.jsonl") == rows
    files = report.draw_toxicity_report(opened.path)
    assert [file.name for file in files if file.suffix != ".png"] == ["toxicity.md", "report.html"]


def test_another_run_takes_over_the_fits_that_it_shares(made, tmp_path, fresh, monkeypatch):
    """With a rank more, only the fits of that rank are run."""
    few = {"controls": "none", "shared_space": False, "sweep": "every"}
    first = run(tmp_path / "first", made[::2], ranks=(), **few)
    asked = []
    run_one = text_comparison.run_text_comparison
    monkeypatch.setattr(align, "run_text_comparison", lambda work: asked.append(work.name) or run_one(work))
    second = run(tmp_path / "second", made[::2], ranks=(2,), **few)
    assert asked == ["embed-k2-toxic-1_nontoxic-1"]
    shared = set(records.read_records(first.path / "records.jsonl"))
    assert shared < set(records.read_records(second.path / "records.jsonl"))
    assert (second.path / "alignment" / "embed-k16-toxic-1_nontoxic-1" / "config.json").is_file()


CLICKED = """
<script>
const seen = [];
window.addEventListener("error", event => seen.push(event.message));
window.addEventListener("securitypolicyviolation", event => seen.push("policy: " + event.blockedURI));
window.addEventListener("load", () => {
  const tables = [...document.querySelectorAll("table.sortable")];
  const table = tables.find(one => one.caption.textContent.startsWith("Every pair"));
  const heads = [...table.tHead.rows[0].cells], column = heads.findIndex(one => one.textContent === "tokens");
  const column_of = () => [...table.tBodies[0].rows].map(row => Number(row.cells[column].dataset.value));
  heads[column].querySelector("button").click();
  const up = column_of();
  heads[column].querySelector("button").click();
  const loaded = performance.getEntriesByType("resource").map(one => one.name).filter(one => !one.startsWith("data:"));
  const pictures = [...document.images].every(one => one.complete && one.naturalWidth > 0);
  document.body.dataset.seen = JSON.stringify({up, down: column_of(), seen, loaded, pictures});
});
</script>
"""


@pytest.mark.slow
def test_the_page_works_in_a_browser(tmp_path):
    """Chromium sorts a table by a click, shows every picture, logs no error and loads nothing from elsewhere."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser is not None, "this test needs a browser: install chromium (apt-get install chromium)"
    scores = {
        "toxic-1": 0.31,
        "toxic-2": 0.52,
        "toxic-3": 0.47,
        "nontoxic-1": 0.9,
        "nontoxic-2": 0.6,
        "nontoxic-3": 0.7,
    }
    path = folder(tmp_path / "run", study(score=lambda a, b: (scores[a] * scores[b]) ** 0.5))
    report.draw_toxicity_report(path)
    page = tmp_path / "clicked.html"
    page.write_text((path / "report.html").read_text("utf-8").replace("<body>", f"<body>{CLICKED}", 1), "utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom", page.as_uri()]
    done = subprocess.run(
        [browser, *flags],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    told = json.loads(unescape(re.search(r'data-seen="([^"]*)"', done.stdout)[1]))
    assert len(told["up"]) == 15
    assert told["up"] == sorted(told["up"]) != told["down"]
    assert told["down"] == sorted(told["up"], reverse=True)
    assert told["seen"] == []
    assert told["loaded"] == []
    assert told["pictures"]
    assert not re.findall(r"CONSOLE.*", done.stderr)
