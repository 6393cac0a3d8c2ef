"""The main job on language models: two families of unequal width, aligned and evaluated through the same calls."""

import pytest
import torch
from hooks.conformance.tiny import TINY, VOCABULARY

import mas_hooks as mh
from mas_hooks.alignment import directions
from mas_hooks.training.controls import RandomMaps, Untrained, reinitialise_models

N, LENGTH = 48, 8


@pytest.fixture(scope="module")
def models():
    wide = TINY["llama"]().requires_grad_(False)
    return mh.wrap(wide, name="llama"), mh.wrap(TINY["gpt2"]().requires_grad_(False), name="gpt2")


def pairs_of(models, seed=0):
    """What a target says with its own source's vector in place: its answer is known, so that it can be learned."""
    generator = torch.Generator().manual_seed(seed)
    source, target = torch.randint(3, VOCABULARY, (2, N, LENGTH), generator=generator)
    columns = torch.randint(2, LENGTH, (N,), generator=generator)
    where, made = mh.Where.one_per_row(columns), {}
    for target_index, model in enumerate(models):
        site = model.at("blocks.1.hook_resid_post")
        given = model.run_with_cache(source, site.name, where)[1][site.name].detach()
        logits = model.run_with_hooks(target, mh.Edit(site, lambda _h, own: own, where, given))
        wanted = torch.arange(LENGTH) == columns[:, None]
        for source_index in range(len(models)):
            made[source_index, target_index] = mh.Pairs.from_tensors(
                source, where, target, where, logits.argmax(-1), wanted
            )
    return made


def test_two_language_models_are_fitted_and_evaluated(models):
    train, valid = pairs_of(models), pairs_of(models, 1)
    align = mh.Alignment([model.at("blocks.1.hook_resid_post") for model in models], rank=32)
    settings = mh.FitSettings(epochs=12, batch_size=24, learning_rate=2e-2)
    fit = mh.fit(align, mh.methods.mas(), train, valid, settings, progress=False)
    assert fit.path == "tail"
    table = mh.evaluate(align, valid, controls=[RandomMaps()])
    own = {(row.source, row.target): row for row in table.rows if row.control is None}
    placebo = {(row.source, row.target): row for row in table.rows if row.control is not None}
    for index in range(2):
        assert own[index, index].iia == 1.0  # with all 32 dims the whole vector moves, and that is the label
        assert own[index, index].floor < 0.5
    assert own[0, 1].iia > placebo[0, 1].iia
    assert own[1, 0].iia > placebo[1, 0].iia


def test_the_untrained_control_makes_models_anew_from_their_configs(models):
    data = pairs_of(models)
    align = mh.Alignment([model.at("blocks.1.hook_resid_post") for model in models], rank=8)
    before = [model.forward(data[0, 0].target_inputs) for model in models]
    settings = mh.FitSettings(epochs=1)
    rows = Untrained(data, data, settings).run(align, data).rows
    assert len(rows) == 4
    for model, logits in zip(models, before, strict=True):
        assert torch.equal(model.forward(data[0, 0].target_inputs), logits)
        fresh = reinitialise_models(model.module, 3)
        assert not any(one.requires_grad for one in fresh.parameters())
        assert fresh.training == model.module.training
        assert not torch.equal(mh.wrap(fresh).forward(data[0, 0].target_inputs), logits)


def test_scores_do_not_depend_on_how_many_pairs_run_at_once(models, monkeypatch):
    data = pairs_of(models)
    align = mh.Alignment([model.at("blocks.1.hook_resid_post") for model in models], rank=8)
    whole = mh.evaluate(align, data)
    monkeypatch.setattr(directions, "LOGITS", 5 * LENGTH * VOCABULARY)
    seen = []
    run = directions.PatchedDirections.run
    monkeypatch.setattr(
        directions.PatchedDirections,
        "run",
        lambda self, views, batches: seen.extend(map(len, batches.values())) or run(self, views, batches),
    )
    assert mh.evaluate(align, data).rows == whole.rows
    assert set(seen) == {5, N % 5}
