"""The recipe `scaling-family`: small through the command line, redrawn from records alone, its rules on known grids."""

import json

import numpy as np
import pytest
import torch
from sentences import refused
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, MambaConfig, MambaForCausalLM

from mas_hooks.cli import main
from mas_hooks.core import records
from mas_hooks.core.errors import EmptyError, SettingError, UnknownNameError
from mas_hooks.core.records import Record
from mas_hooks.studies import registry
from mas_hooks.studies.scaling_family import claims as claims_of_the_study
from mas_hooks.studies.scaling_family import grids as grids_of_the_study
from mas_hooks.studies.work.layer_comparison import LayerComparison, LayeredModel, load_side
from mas_hooks.studies.work.stitching import StitchTexts

SMALL = ["--training.steps", "2", "--rows", "8", "--context", "12", "--quiet", "--jobs", "1"]
SIZES = ["--sizes", "4", "8", "5", "12", "2", "8"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAS_HOOKS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "family"
    main.main(["run", "scaling-family", "--out", str(folder), *SIZES, *SMALL])
    return folder


def study():
    return registry.load_study("recipes", "scaling-family")


def grids():
    return grids_of_the_study


def claims():
    return claims_of_the_study


def test_every_two_members_and_the_untrained_copy_are_compared(run):
    rows = records.read_records(run / "records.jsonl")
    pairs = dict.fromkeys((row.source_model, row.target_model) for row in rows if row.layer_a)
    trained = [pair for pair in pairs if "untrained" not in pair[0]]
    assert trained[:3] == [("4×8", "4×8"), ("5×12", "5×12"), ("2×8", "2×8")]
    assert len(trained) == 6
    fresh = [pair for pair in pairs if pair not in trained]
    assert fresh == [("5×12 untrained", name) for name in ("4×8", "5×12", "2×8", "5×12 untrained")]
    grid = [row for row in rows if (row.source_model, row.target_model) == ("4×8", "5×12")]
    assert len(grid) == 20
    assert {row.control for row in rows if "untrained" in str(row.source_model)} == {"untrained"}
    own = grids().FamilyGrids.of(rows)
    for name in own.members:
        assert np.allclose(own.grid(name, name).diagonal(), 1, rtol=0, atol=1e-9)
    sizes = {row.source_model: row.value for row in rows if row.measure == "parameters"}
    assert sorted(own.members, key=lambda name: sizes[name]) == list(own.members)
    assert {"train loss", "valid loss", "test loss"} <= {row.measure for row in rows}


def test_the_report_is_drawn_again_from_records_alone(run, tmp_path, capsys):
    for name in ("records.jsonl", "settings.json"):
        (tmp_path / name).write_text((run / name).read_text())
    main.main(["report", str(tmp_path)])
    page = (tmp_path / "scaling_family.md").read_text()
    assert page == (run / "scaling_family.md").read_text()
    assert "| ours | paper |" in page
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"heatmaps.png", "untrained.png"}
    capsys.readouterr()


def test_a_finished_run_is_resumed_to_the_same_records(run, monkeypatch):
    before = (run / "records.jsonl").read_text()
    (run / "state" / "grid-0-1.jsonl").unlink()
    (run / "records.jsonl").unlink()
    main.main(["run", "scaling-family", "--out", str(run), "--resume", "--quiet", "--jobs", "1"])
    assert (run / "records.jsonl").read_text() == before


def saved(place):
    """Three models of unequal depth, that read 16 tokens, and texts for them."""
    from mas_hooks.models.language.small_lm import pack_texts

    tokenizer = pack_texts(512, 12).tokenizer
    for layers, width in ((1, 8), (2, 16), (3, 8)):
        torch.manual_seed(layers)
        told = {"vocab_size": 512, "num_attention_heads": 2, "max_position_embeddings": 16}
        config = GPTNeoXConfig(hidden_size=width, num_hidden_layers=layers, intermediate_size=16, **told)
        GPTNeoXForCausalLM(config).save_pretrained(place / f"neox-{layers}")
        tokenizer.save_pretrained(place / f"neox-{layers}")
    lines = [json.dumps({"text": f"text {n} says {n * n} times nothing at all"}) for n in range(60)]
    (place / "texts.jsonl").write_text("\n".join(lines))
    return [str(place / f"neox-{layers}") for layers in (1, 2, 3)]


def test_saved_models_of_unequal_depth_are_compared(cache, tmp_path, run):
    models = saved(tmp_path)
    flags = ["--models", *models, "--data", str(tmp_path / "texts.jsonl"), "--no-untrained", *SMALL]
    main.main(["run", "scaling-family", "--out", str(tmp_path / "run"), *flags])
    rows = records.read_records(tmp_path / "run" / "records.jsonl")
    assert {row.source_model for row in rows} == {"neox-1", "neox-2", "neox-3"}
    page = (tmp_path / "run" / "scaling_family.md").read_text()
    assert "fewer than 3 layers" in page
    assert "fewer than 4 layers" in page
    assert "a member has fewer than 3 layers" in page
    assert "The control" not in page


@pytest.mark.parametrize(
    ("model", "data", "context", "said"),
    [
        ("nofolder", "texts.jsonl", "12", "nofolder: is no folder here"),
        ("neox-3", "texts.jsonl", "17", "context is 17, but must be at most 16, what neox-1 can read"),
        ("neox-3", "empty.txt", "12", "empty.txt is empty"),
    ],
)
def test_what_cannot_be_read_is_told_before_any_member_is(cache, tmp_path, capsys, model, data, context, said):
    models = [*saved(tmp_path)[:2], str(tmp_path / model)]
    (tmp_path / "empty.txt").write_text("")
    flags = ["--models", *models, "--data", str(tmp_path / data), *SMALL, "--context", context]
    with pytest.raises(SystemExit):
        main.main(["run", "scaling-family", "--out", str(tmp_path / "run"), *flags])
    assert said in " ".join(capsys.readouterr().err.split())
    assert not list((tmp_path / "run").glob("state/*"))


def test_flags_that_would_do_nothing_are_not_offered(capsys):
    with pytest.raises(SystemExit):
        main.main(["run", "scaling-family", "--help"])
    offered = capsys.readouterr().out
    assert "--training.steps" in offered
    for name in ("layers", "width", "context", "seed"):
        assert f"--training.{name}" not in offered


def test_a_model_without_known_blocks_is_refused(cache, tmp_path, run):
    from mas_hooks.models.language.small_lm import pack_texts

    torch.manual_seed(0)
    config = MambaConfig(vocab_size=512, hidden_size=16, num_hidden_layers=1)
    MambaForCausalLM(config).save_pretrained(tmp_path / "mamba")
    pack_texts(512, 12).tokenizer.save_pretrained(tmp_path / "mamba")
    one = LayeredModel(name="mamba", source=str(tmp_path / "mamba"))
    with refused(SettingError, "the number of blocks of mamba is 0", "in a family that `wrap` knows"):
        load_side(one, LayerComparison(a=one, b=one, texts=StitchTexts()))


def family(distance, sizes=(("a", 4), ("pythia-2.8b", 6), ("c", 8)), untrained=True):
    """Records of a family whose member in the middle is that unlike the others."""
    names = [*sizes, *([("new", 6)] if untrained else [])]
    rows = [Record(source_model=name, measure="parameters", value=1000.0 + n) for n, (name, _) in enumerate(sizes)]
    for i, (one, high) in enumerate(names):
        for other, wide in names[i:]:
            far = 0.0 if one == other else distance if "pythia-2.8b" in (one, other) else 0.1
            far = 1.0 if "new" in (one, other) and one != other else far
            depth = np.abs(np.subtract.outer(np.arange(high) / high, np.arange(wide) / wide))
            for (a, b), value in np.ndenumerate((1 - 0.3 * depth) * (1 - far)):
                control = "untrained" if "new" in (one, other) else None
                fresh = (other, one) if control else (one, other)
                rows.append(
                    Record(source_model=fresh[0], target_model=fresh[1], layer_a=str(b if control else a),
                           layer_b=str(a if control else b), value=float(value), measure="cka", control=control)
                )  # fmt: skip
    return rows


def test_the_papers_outlier_is_told_by_its_distances():
    found = {claim.what: claim for claim in claims().family_claims(grids().FamilyGrids.of(family(0.9)))}
    assert found["one member breaks the trend"].agrees
    assert found["one member breaks the trend"].ours.startswith("pythia-2.8b flagged")
    near = {claim.what: claim for claim in claims().family_claims(grids().FamilyGrids.of(family(0.1)))}
    assert near["one member breaks the trend"].agrees is False
    assert near["one member breaks the trend"].ours.startswith("nobody flagged")
    other = grids().FamilyGrids.of(family(0.9, (("a", 4), ("b", 6), ("c", 8))))
    assert {claim.what: claim for claim in claims().family_claims(other)}["one member breaks the trend"].agrees is None
    assert "is flagged, as it must be" in claims().describe_control(grids().FamilyGrids.of(family(0.1)))


def test_a_smooth_fall_is_no_block_structure():
    found = {claim.what: claim for claim in claims().family_claims(grids().FamilyGrids.of(family(0.1)))}
    assert found["c: similarity falls with the distance of two layers"].agrees
    assert found["c: early, middle and late blocks"].agrees is False
    assert found["between members: blocks too"].agrees


def test_settings_that_fit_nothing_are_told_before_anything_runs():
    settings = study().settings
    with refused(SettingError, "data is None", "--models"):
        settings(models=("a", "b", "c"))
    with refused(UnknownNameError, "the scaling family has no measure 'ckaa'", "cka_cosine_biased"):
        settings(measure="ckaa")
    with refused(SettingError, "the family is ['4×8', '5×8'], but must be three members or more"):
        settings(sizes=((4, 8), (5, 8)))
    with refused(SettingError, "the family is ", "all of different names"):
        settings(models=("x/a", "y/a", "b"), data="texts")
    with refused(SettingError, "SmallModel.heads is 4", "a divisor of the width, 10"):
        settings(sizes=((4, 10), (5, 8), (6, 8)))


def test_a_run_without_grids_has_nothing_to_draw(tmp_path):
    (tmp_path / "records.jsonl").write_text("")
    (tmp_path / "settings.json").write_text(json.dumps({"recipe": "scaling-family"}))
    with refused(EmptyError, "its records hold no grid of layers yet"):
        study().draw(tmp_path)
