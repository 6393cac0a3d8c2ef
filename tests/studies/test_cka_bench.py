"""`bench cka` measures the same numbers in every variant, and refuses to time one that gives others."""

import pytest
import torch
from sentences import refused

from mas_hooks.studies import registry

SMALL = {"layers": 2, "width": 16, "batch": 2, "length": 6, "minibatches": 2, "repeats": 1}


@pytest.fixture
def bench():
    return registry.load_study("benchmarks", "cka")


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_all_variants_are_measured(bench):
    rows = bench.main(bench.settings(**SMALL))
    names = ["both forwards, no vocabulary", "ours", "kernels once, loop over pairs", "each pair alone"]
    assert [row.variant for row in rows] == names
    ours = rows[1]
    assert ours.ratio == 1
    for row in rows:
        assert row.ms_min <= row.ms_median <= row.ms_max
        assert row.ratio == pytest.approx(row.ms_median / ours.ms_median)
        assert row.floor_share == pytest.approx(rows[0].ms_median / row.ms_median)
        assert row.tokens_per_s == pytest.approx(12 * 1e3 / row.ms_median)


def test_the_loops_may_be_left_out(bench):
    assert len(bench.main(bench.settings(**SMALL, plain=False))) == 2


def test_other_values_stop_the_run(bench, monkeypatch):
    names = bench.main.__globals__
    right = names["_hsic"]
    monkeypatch.setitem(names, "_hsic", lambda k, other: right(k, other) + 1e-3)
    with refused(names["UnequalValuesError"], "'kernels once, loop over pairs' lies", "nothing was timed"):
        bench.main(bench.settings(**SMALL))


def test_the_bare_forward_projects_no_vocabulary_and_runs_every_block(bench):
    names, settings = bench.main.__globals__, bench.settings(**SMALL)
    models, ids = names["_models"](settings), names["_ids"](settings)
    ran = []
    for model in models:
        model.module.get_output_embeddings().register_forward_hook(lambda *_: ran.append("vocabulary"))
        for block in model.module.base_model.layers:
            block.register_forward_hook(lambda *_: ran.append("block"))
    names["_forwards"](models, ids)
    assert ran == ["block"] * 2 * 2 * 2
