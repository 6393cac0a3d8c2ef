import pytest
import torch

import mas_hooks as mh
from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.directions import BATCH, PatchedDirections, direction_record
from mas_hooks.alignment.plan import Direction
from mas_hooks.core.errors import UnsupportedError
from mas_hooks.core.sites import Where
from mas_hooks.data.pairs import Pairs
from mas_hooks.data.task_pairs import task_pairs
from mas_hooks.data.tasks import task
from mas_hooks.engine.cache import ActivationCache
from mas_hooks.engine.scores import Score, score_trials
from mas_hooks.hooks.wrap import wrap
from mas_hooks.models.toys.recurrent import RecurrentModel

TASKS = [task("multi_object", max_quantity=6), task("single_object", max_quantity=4)]
EVERY = [Direction(source, target) for target in range(2) for source in range(2)]


def swaps(pairs, ways=EVERY, path="auto", rank=4):
    torch.manual_seed(0)
    models = [
        wrap(RecurrentModel(len(own.vocabulary), width, cell).eval().requires_grad_(False), name=f"{cell}-{index}")
        for index, (own, width, cell) in enumerate(zip(TASKS, (12, 16), ("gru", "lstm"), strict=True))
    ]
    sites = [model.at("state") for model in models]
    return PatchedDirections(Alignment(sites, rank=rank), pairs, ways, ActivationCache(sites, models), path)


@pytest.fixture(scope="module")
def pairs():
    return task_pairs(TASKS, ["count", "count"], (40, 5, 5))[0]


def test_both_paths_agree_over_every_direction(pairs):
    batches = {way: torch.randperm(40)[:7] for way in EVERY}
    found = []
    for path in ("auto", "reference"):
        own = swaps(pairs, path=path)
        assert own.path == {"auto": "tail", "reference": "reference"}[path]
        results = own.run(own.alignment.swap_operator(), batches)
        loss = sum(labelled.logits.square().sum() for _, labelled in results)
        found.append((results, torch.autograd.grad(loss, list(own.alignment.parameters()))))
    for (ways, tail), (same, reference) in zip(found[0][0], found[1][0], strict=True):
        assert ways == same
        torch.testing.assert_close(tail.logits, reference.logits, rtol=1e-5, atol=1e-5)
        assert torch.equal(tail.labels, reference.labels)
    for tail, reference in zip(found[0][1], found[1][1], strict=True):
        assert tail.abs().max() > 0
        torch.testing.assert_close(tail, reference, rtol=1e-4, atol=1e-4)


def test_a_swap_is_the_alignments_own(pairs):
    own, way = swaps(pairs), Direction(0, 1)
    index = torch.tensor([30, 2, 17])
    (_, found), *_ = own.run(own.alignment.swap_operator(), {way: index})
    whole = own.alignment.run(pairs, source=0, target=1)
    expected = torch.cat([whole.logits[whole.pair == row] for row in index.tolist()])
    torch.testing.assert_close(found.logits, expected, rtol=1e-5, atol=1e-5)


def test_one_pass_a_target_and_none_for_sources(pairs):
    own = swaps(pairs)
    calls = [0, 0]

    def counter(index):
        def count(*_):
            calls[index] += 1

        return count

    for index, model in enumerate(own.alignment.models):
        model.module.register_forward_pre_hook(counter(index))
    views, batches = own.alignment.swap_operator(), {way: torch.arange(5) for way in EVERY}
    own.run(views, batches)
    calls[:] = [0, 0]
    results = own.run(views, batches)
    assert calls == [1, 1]
    assert [ways for ways, _ in results] == [EVERY[:2], EVERY[2:]]
    own.run(views, {Direction(1, 0): torch.arange(5)})
    assert calls == [2, 1]


def test_reference_for_all_where_one_set_does_not_suit_the_tail(pairs):
    where = pairs[0, 0].target_where
    early = Pairs.from_tensors(
        pairs[0, 0].source_inputs,
        pairs[0, 0].source_where,
        pairs[0, 0].target_inputs,
        where,
        pairs[0, 0].labels,
        torch.ones_like(pairs[0, 0].label_mask),
    )
    own = swaps({**pairs, (0, 0): early}, [Direction(0, 0), Direction(1, 0), Direction(0, 1)])
    assert own.path == "reference"
    results = own.run(own.alignment.swap_operator(), {way: torch.arange(3) for way in own.directions})
    assert [len(ways) for ways, _ in results] == [2, 1]


def several():
    """Pairs that swap two cells each, cells not in row order."""
    own = task_pairs(TASKS[:1], ["full"], (6, 5, 5))[0][0, 0]
    rows = torch.tensor([0, 5, 1, 4, 2, 3, 3, 2, 4, 1, 5, 0])
    where = Where(rows, torch.tensor([1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]))
    return Pairs.from_tensors(own.source_inputs, where, own.target_inputs, where, own.labels, own.label_mask)


def test_pairs_of_several_cells_keep_their_vectors():
    way, pairs = Direction(0, 0), several()
    own = swaps(pairs, [way], rank=12)
    views = own.alignment.swap_operator()
    (_, whole), *_ = own.run(views, {way: torch.arange(6)})
    for row in (4, 1):
        (_, alone), *_ = own.run(views, {way: torch.tensor([row])})
        torch.testing.assert_close(alone.logits, whole.logits[whole.row == row], rtol=1e-5, atol=1e-5)
    (_, mixed), *_ = own.run(views, {way: torch.tensor([4, 1])})
    expected = torch.cat([whole.logits[whole.row == row] for row in (4, 1)])
    torch.testing.assert_close(mixed.logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [lambda: task_pairs(TASKS[:1], ["full"], (6, 5, 5))[0][0, 0], several])
def test_unedited_is_the_whole_forward(make):
    way, pairs = Direction(0, 0), make()
    own = swaps(pairs, [way], rank=12)
    found = own.run_unedited(way, torch.tensor([3, 0, 5]))
    logits = own.alignment.models[0].module(pairs.target_inputs)[[3, 0, 5]]
    expected = logits[(pairs.label_mask | pairs.deterministic_mask)[[3, 0, 5]]]
    torch.testing.assert_close(found.logits, expected, rtol=1e-5, atol=1e-5)


def test_scores_cover_every_pair_once(monkeypatch, pairs):
    own = swaps(pairs)
    whole = own.scores()
    results = own.run(own.alignment.swap_operator(), {way: torch.arange(40) for way in EVERY})
    monkeypatch.setattr("mas_hooks.alignment.directions.BATCH", 7)
    assert own.scores() == whole
    assert {found.trials for found in whole.values()} == {40}
    assert BATCH > 40
    assert sum(whole.values(), start=Score(0, 0, 0, 0)) == sum(
        (score_trials(labelled) for _, labelled in results), start=Score(0, 0, 0, 0)
    )


# Resolved directions and their records


def test_a_direction_is_resolved_once(pairs):
    patched = swaps(pairs)
    resolved = patched.alignment.resolve(Direction(0, 1), pairs)
    assert (resolved.source_site, resolved.target_site) == patched.alignment.sites
    assert (resolved.source_model, resolved.target_model) == tuple(patched.alignment.models)
    assert resolved.receiver() == (patched.alignment.models[1], patched.alignment.sites[1])
    assert resolved.pairs is pairs[0, 1]
    assert not resolved.sequential


def test_a_recording_resolves_but_does_not_receive(pairs):
    brain = mh.recording(torch.zeros(4, 3), {}, "brain")
    resolved = mh.Alignment([brain, brain], rank=2).resolve(Direction(0, 1), pairs)
    assert resolved.target_model is None
    with pytest.raises(UnsupportedError, match=r"^a swap into recording 'brain' is not supported"):
        resolved.receiver()


def test_a_direction_record_holds_what_the_alignment_knows(pairs):
    alignment = swaps(pairs).alignment
    record = direction_record(alignment, Direction(1, 0), split="test", iia=0.5)
    assert record.to_dict() == {
        "comparison": " × ".join(alignment.names),
        "method": "mas",
        "source_model": alignment.names[1],
        "source_site": alignment.sites[1].name,
        "target_model": alignment.names[0],
        "target_site": alignment.sites[0].name,
        "source": 1,
        "target": 0,
        "k": 4,
        "init": "random",
        "split": "test",
        "selected_on": "trained",
        "iia": 0.5,
    }
    assert "source_site" not in direction_record(alignment, Direction(1, 0), source_site=None).to_dict()
