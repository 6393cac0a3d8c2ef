import pytest
import torch

from mas_hooks.core.errors import PositionError, UnsupportedError
from mas_hooks.core.sites import Where, recording
from mas_hooks.data.pairs import Pairs
from mas_hooks.data.task_pairs import task_pairs
from mas_hooks.data.tasks import task
from mas_hooks.engine.cache import ActivationCache, SharedActivations, gather_site, share_activations
from mas_hooks.hooks.read import read_site
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.toys.recurrent import RecurrentModel

TASK = task("multi_object", max_quantity=6)
PAIRS = task_pairs([TASK], ["full"], (30, 5, 5))[0][0, 0]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return wrap(RecurrentModel(len(TASK.vocabulary), 12, "lstm").eval())


@pytest.mark.parametrize("chunk", [1, 7, 29, 30, 1_000])
def test_chunks_do_not_change_what_is_gathered(model, chunk):
    where = Where([29, 3, 3, 0, 14], [2, 5, 1, 0, 4])
    whole = model.run_with_cache(PAIRS.source_inputs, "state", where)[1]["state"]
    found = gather_site(model, model.at("state"), PAIRS.source_inputs, where, chunk)
    torch.testing.assert_close(found, whole)
    assert found.dtype == torch.float32
    assert not found.requires_grad


def test_cells_are_those_of_source_and_target(model):
    cache = ActivationCache([model.at("state")], [model])
    for found, ids, where in [
        (cache.source(0, PAIRS), PAIRS.source_inputs, PAIRS.source_where),
        (cache.target(0, PAIRS), PAIRS.target_inputs, PAIRS.target_where),
    ]:
        torch.testing.assert_close(found, model.run_with_cache(ids, "state", where)[1]["state"])


def test_computed_once(model):
    calls = []
    model.module.register_forward_pre_hook(lambda *_: calls.append(1))
    cache = ActivationCache([model.at("state")], [model])
    first = cache.source(0, PAIRS)
    assert cache.source(0, PAIRS) is first
    assert len(calls) == 1
    cache.target(0, PAIRS)
    assert len(calls) == 2


def test_sources_joins_distinct_sets(model):
    other = task_pairs([TASK], ["full"], (9, 5, 5), seed=1)[0][0, 0]
    cache = ActivationCache([model.at("state")], [model])
    rows, keys = cache.sources(0, [PAIRS, other, PAIRS])
    torch.testing.assert_close(rows, torch.cat([cache.source(0, PAIRS), cache.source(0, other)]))
    assert torch.equal(keys, torch.cat([PAIRS.source_key, other.source_key]))


def recorded(source_inputs=None, rows=(1, 0), columns=(2, 1)):
    ids, mask = PAIRS.target_inputs[:2], torch.ones_like(PAIRS.labels[:2], dtype=torch.bool)
    where = Where(rows, columns)
    return Pairs.from_tensors(source_inputs, where, ids, Where([0, 1], [1, 1]), PAIRS.labels[:2], mask)


def test_recordings_give_their_cells():
    site = recording(torch.arange(24.0).view(2, 3, 4), {}, "area")
    found = ActivationCache([site], [None]).source(0, recorded())
    assert found.tolist() == [[20, 21, 22, 23], [4, 5, 6, 7]]


def test_recordings_refuse_what_they_cannot_do():
    cache = ActivationCache([recording(torch.zeros(2, 3, 4), {}, "area")], [None])
    with pytest.raises(PositionError, match="position 3 of row 1 is not in recording 'area'"):
        cache.source(0, recorded(columns=(3, 1)))
    with pytest.raises(UnsupportedError, match="running recording 'area' on inputs is not supported; give pairs with"):
        cache.source(0, recorded(PAIRS.source_inputs[:2]))


def test_models_need_source_inputs(model):
    with pytest.raises(UnsupportedError, match="a set of pairs without source inputs for RecurrentModel:state"):
        ActivationCache([model.at("state")], [model]).source(0, recorded())


def test_caches_share_what_they_compute_inside_shared(model, monkeypatch):
    """By site and pairs: the second cache runs nothing; outside, and for another site object, it is run anew."""
    runs = []
    monkeypatch.setattr("mas_hooks.engine.cache.read_site", lambda *args: runs.append(args) or read_site(*args))
    site, again, kept = model.at("state"), model.at("state"), SharedActivations()
    with share_activations(kept):
        first = ActivationCache([site], [model]).source(0, PAIRS)
        second = ActivationCache([again, site], [model, model])
        assert second.source(1, PAIRS) is first
        assert len(runs) == 1
        torch.testing.assert_close(second.source(0, PAIRS), first)
        assert len(runs) == 2
        with share_activations(SharedActivations()):
            ActivationCache([site], [model]).source(0, PAIRS)
        assert len(runs) == 3
    assert len(kept.held) == 2
    assert ActivationCache([site], [model]).source(0, PAIRS) is not first
    assert len(runs) == 4
