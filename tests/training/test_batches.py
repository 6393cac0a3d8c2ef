import torch

from mas_hooks.training.batches import Batches


def test_an_epoch_visits_every_pair_once():
    batches = Batches(12, 4, "a")
    seen = torch.cat([batches.at(step) for step in range(3)])
    assert seen.sort().values.tolist() == list(range(12))


def test_a_step_is_a_function_of_seed_and_step():
    forward = [Batches(10, 3, "a").at(step).tolist() for step in range(7)]
    one = Batches(10, 3, "a")
    assert [one.at(step).tolist() for step in reversed(range(7))] == forward[::-1]
    assert forward[:3] != forward[3:6]
    assert Batches(10, 3, "b").at(0).tolist() != forward[0]


def test_a_short_last_batch_is_left_out():
    batches = Batches(10, 4, "a")
    assert batches.per_epoch == 2
    assert {len(batches.at(step)) for step in range(6)} == {4}


def test_few_pairs_are_one_batch():
    batches = Batches(3, 512, "a")
    assert (batches.per_epoch, batches.size) == (1, 3)
    assert sorted(batches.at(5).tolist()) == [0, 1, 2]
