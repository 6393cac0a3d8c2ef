"""Comparisons of language models as data: what they share, that they resume, and what they tell."""

from dataclasses import replace

import pytest
import torch
from models.language.small_language import model, tokenizer
from sentences import refused
from text_members import members, text_settings
from tokenizers import AddedToken

from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.maps import MapSpec
from mas_hooks.core.errors import SettingError
from mas_hooks.core.memory import ProcessCache
from mas_hooks.core.parallel import Work
from mas_hooks.core.records import Record
from mas_hooks.core.run_folder import RunFolder
from mas_hooks.core.settings import Options
from mas_hooks.core.sites import Where
from mas_hooks.engine import prefixes
from mas_hooks.evaluation.evaluate import evaluate
from mas_hooks.models.language import with_responses as shared_models
from mas_hooks.models.language.with_responses import TextModel, TextSettings, load_text_models
from mas_hooks.studies.stages import run_comparisons
from mas_hooks.studies.work.correlations import correlate_texts
from mas_hooks.studies.work.text_comparison import TextComparison, run_text_comparison
from mas_hooks.training.loop import FitLoop
from mas_hooks.training.settings import FitSettings

FIT = FitSettings(batch_size=8, learning_rate=1e-2, steps=4, validate_every=2, select_by="loss")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return members(tmp_path_factory.mktemp("members"))


@pytest.fixture
def fresh(monkeypatch):
    """Nothing is loaded yet in this process."""
    monkeypatch.setattr(shared_models, "_LOADED", ProcessCache())


def comparison(made, chosen=(0, 1), rank=4, **changed):
    return TextComparison(texts=text_settings(made), chosen=chosen, maps=MapSpec(rank=rank), fit=FIT, **changed)


def work(own, folder, name="one"):
    return Work(name, own, folder / "state" / name, folder / "alignment" / name, progress=False)


def finals(rows, control=None):
    return [row for row in rows if row.split == "test" and row.iia is not None and row.control == control]


def test_rows_of_a_pair_are_numbered_as_in_the_study(made, tmp_path, fresh):
    rows = run_text_comparison(work(comparison(made, (1, 2), controls=("random_maps",)), tmp_path))
    ways = {(row.source, row.target, row.source_model, row.target_model) for row in finals(rows)}
    names = {1: "toxic-2", 2: "nontoxic-1"}
    assert ways == {(a, b, names[a], names[b]) for a in names for b in names}
    assert {row.comparison for row in rows} == {"toxic-2 × nontoxic-1"}
    assert {row.source_site for row in rows} == {"embed"}
    assert len(finals(rows, "random_maps")) == 4
    assert {row.step for row in rows if row.split == "valid"} == {0, 2, 4}
    told = {row.measure: row.value for row in rows if row.split == "train"}
    assert told == {"steps": 4.0, "parameters": 2 * 32 * 4}


def test_of_one_model_only_swaps_within_it(made, tmp_path, fresh):
    rows = run_text_comparison(work(comparison(made, (3,)), tmp_path))
    assert [(row.source, row.target, row.comparison) for row in finals(rows)] == [(3, 3, "nontoxic-2 × nontoxic-2")]


def test_all_models_share_one_space(made, tmp_path, fresh):
    rows = run_text_comparison(work(comparison(made, (0, 1, 2, 3)), tmp_path))
    assert len(finals(rows)) == 16
    assert next(row.value for row in rows if row.measure == "parameters") == 4 * 32 * 4


def test_a_direction_has_the_same_pairs_in_every_comparison(made, fresh):
    """Those of a pair, of a model alone and of all together: equal floors follow."""
    models = load_text_models(text_settings(made))
    for split in range(3):
        both, every, alone = (models.pairs(chosen)[split] for chosen in ((2, 1), (0, 1, 2, 3), (1,)))
        assert both[0, 1] is every[2, 1]
        assert both[1, 1] is every[1, 1] is alone[0, 0]


def test_models_and_activations_are_shared_between_comparisons(made, tmp_path, fresh, monkeypatch):
    loaded, runs, collect = [], [], prefixes.read_site
    monkeypatch.setattr(prefixes, "read_site", lambda *args: runs.append(args[0].name) or collect(*args))
    wrap = shared_models.wrap
    monkeypatch.setattr(shared_models, "wrap", lambda *a, **named: loaded.append(named["name"]) or wrap(*a, **named))
    run_text_comparison(work(comparison(made, (0, 1)), tmp_path, "first"))
    assert loaded == ["toxic-1", "toxic-2"]
    before = len(runs)
    run_text_comparison(work(comparison(made, (0, 1), rank=2), tmp_path, "second"))
    assert len(runs) == before
    run_text_comparison(work(comparison(made, (1, 2)), tmp_path, "third"))
    assert loaded == ["toxic-1", "toxic-2", "nontoxic-1"]
    load_text_models(text_settings(made, seed=1))
    assert list(shared_models._LOADED._values) == [text_settings(made, seed=1).model_dump_json()]


def test_models_make_room_where_memory_is_scarce(made, fresh, monkeypatch):
    models = load_text_models(text_settings(made))
    (site,) = models.sites((0,), "embed")
    models.states(0, "embed", torch.tensor([[4, 5]]), Where([0], [1]))
    assert models.sites((0, 1), "embed")[0] is site
    monkeypatch.setattr(shared_models, "free_bytes", lambda _device: 0)
    models.sites((1,), "embed")
    assert models.sites((0,), "embed")[0] is not site


def test_an_interrupted_comparison_ends_with_the_same_numbers(made, tmp_path, fresh, monkeypatch):
    whole = run_text_comparison(work(comparison(made), tmp_path, "whole"))
    step, cut = FitLoop.step, work(comparison(made), tmp_path, "cut")

    def interrupted(self):
        if self.state.step == 3:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patched:
        patched.setattr(FitLoop, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_text_comparison(cut)
    assert timeless(run_text_comparison(cut)) == timeless(whole)


def timeless(rows):
    return [replace(row, seconds=None) for row in rows]


def test_agreement_is_that_of_a_target_that_reads_the_source_whole(made, tmp_path, fresh):
    """By hand: forward of the target over the source's own text, at the labelled positions of each test pair."""
    own = comparison(made, (0, 1))
    rows = {
        (row.source, row.target, row.measure): row
        for row in run_text_comparison(work(own, tmp_path))
        if row.split == "test"
    }
    models = load_text_models(own.texts)
    sites, test = models.sites((0, 1), "embed"), models.pairs((0, 1))[2]
    for (source, target), pairs in test.items():
        ids = pairs.target_inputs.clone()
        for row, column in zip(pairs.target_where.rows, pairs.target_where.columns, strict=True):
            ids[row, column] = pairs.source_inputs[row, column]
        with torch.no_grad():
            right = sites[target].model.module(ids).logits.argmax(-1) == pairs.labels
        tokens = float((right & pairs.label_mask).sum() / pairs.label_mask.sum())
        assert rows[source, target, "agreement_tokens"].value == pytest.approx(tokens)
        trials = float((right | ~pairs.label_mask).all(1).float().mean())
        assert rows[source, target, "agreement"].value == pytest.approx(trials)
    assert rows[0, 0, "agreement"].value == rows[1, 1, "agreement_tokens"].value == 1.0
    assert rows[0, 1, "agreement_tokens"].value < 1.0


def test_a_swap_of_all_dims_by_identity_is_agreement(made, fresh):
    """A copy under another name, all dims, identity maps: the source's embeddings come over whole."""
    own = comparison(made, (0, 1), rank=32)
    models = load_text_models(
        own.texts.model_copy(update={"models": (own.texts.models[0], _copy(own.texts.models[0]))})
    )
    plan = own.plan.model_copy(update={"maps": MapSpec(rank=32, kind="fixed", init="identity")})
    table = evaluate(Alignment.from_plan(plan, models.sites((0, 1), "embed")), models.pairs((0, 1))[2])
    assert {row.iia for row in table.rows} == {1.0}


def _copy(one):
    return TextModel(name="copy", model=one.model, responses=one.responses)


def test_the_loop_of_toys_runs_texts_too(made, tmp_path, fresh):
    run_folder = RunFolder.open(tmp_path / "run", "toxicity", {}, resume=False)
    planned = {"a": comparison(made, (0,)), "b": comparison(made, (1,))}
    for name, rows in run_comparisons(planned, run_folder, Options(progress=False), run_text_comparison):
        run_folder.finish_stage(name, rows)
    assert len(run_folder.read_stage("a")) == len(run_folder.read_stage("b")) > 0
    assert (tmp_path / "run" / "alignment" / "a" / "config.json").exists()
    assert list(run_comparisons(planned, run_folder, Options(progress=False), run_text_comparison)) == []


def test_similarities_are_of_one_text_read_by_all(made, fresh):
    rows = correlate_texts(text_settings(made), ["embed", "blocks.1.hook_resid_post"], resamples=1, progress=False)
    assert len(rows) == 2 * 6 * 2
    assert {(row.source, row.target) for row in rows} == {(a, b) for a in range(4) for b in range(a + 1, 4)}
    near = [row.value for row in rows if row.measure == "cka" and row.source_site == "embed"]
    assert min(near) > 0.9  # the same base, moved a little
    assert max(near) < 1.0
    twice = text_settings([made[0], made[0]], models=(own := text_settings(made).models[0], _copy(own)))
    assert [row.value for row in correlate_texts(twice, ["embed"], resamples=1, progress=False)] == pytest.approx(
        [1, 1]
    )


def test_what_does_not_fit_is_told_before_anything_is_loaded(made, tmp_path, fresh):
    for chosen in ((0, 0), (4,), (-1, 0)):
        with refused(SettingError, "chosen", "different numbers of models, 0 to 3"):
            comparison(made, chosen)
    with refused(SettingError, "the names of the models", "all different"):
        TextSettings(models=text_settings(made).models[:1] * 2)


def test_other_tokenizers_are_refused(made, tmp_path, fresh):
    one, words = model(seed=0, vocab_size=len(tokenizer()) + 1), tokenizer()
    words.add_tokens([AddedToken("zebra")])
    for other, word in ((words, "differs from that of "), (None, "saved in its folder")):
        folder = tmp_path / str(other is None)
        one.save_pretrained(folder)
        if other is not None:
            other.save_pretrained(folder)
        first = text_settings(made).models[0]
        texts = text_settings(made, models=(first, TextModel(name="b", model=folder, responses=first.responses)))
        with refused(SettingError, "the tokenizer of b", word):
            load_text_models(texts).pairs((0, 1))


def test_dtypes_are_those_asked_for(made, fresh):
    for dtype, found in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
        (site,) = load_text_models(text_settings(made, dtype=dtype)).sites((0,), "embed")
        assert next(site.model.module.parameters()).dtype == found


def test_records_of_the_curve_are_records(made, tmp_path, fresh):
    assert all(
        isinstance(row, Record) and row.seed == 0 for row in run_text_comparison(work(comparison(made, (0,)), tmp_path))
    )
