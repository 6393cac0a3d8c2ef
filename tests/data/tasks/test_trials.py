import random

import numpy as np

from mas_hooks.data.tasks import task
from mas_hooks.data.tasks.trials import CHUNK, Trials

TASK = task("multi_object", max_quantity=4)


def test_training_trials_are_whole_trials():
    ids = Trials(TASK).training(random.Random(0), 50)
    assert ids.dtype == np.int64
    for row in ids:
        tokens = TASK.vocabulary.decode(row)
        TASK.replay(tokens)  # raises where the grammar does not allow it
        assert (tokens[0], tokens[-1]) == ("B", "E")
        assert (row[len(tokens) :] == 0).all()


def test_training_follows_the_tasks_voids_and_hold_outs():
    own = task("multi_object", max_quantity=4, void_probability=0.5, hold_outs=(2,))
    ids = Trials(own).training(random.Random(0), 100)
    decoded = [own.vocabulary.decode(row) for row in ids]
    assert any("V" in tokens for tokens in decoded)
    assert {tokens.count("R") for tokens in decoded} == {1, 3, 4}
    checked = [own.vocabulary.decode(row) for batch, _ in Trials(own).checking(random.Random(0), 40) for row in batch]
    assert not any("V" in tokens for tokens in checked)
    assert {tokens.count("R") for tokens in checked} == {1, 2, 3, 4}


def test_checking_has_every_quantity_equally_often():
    batches = Trials(TASK).checking(random.Random(0), 10)
    assert [len(ids) for ids, _ in batches] == [3, 3, 3, 3]
    sizes = [{TASK.vocabulary.decode(row).count("R") for row in ids} for ids, _ in batches]
    assert sizes == [{1}, {2}, {3}, {4}]


def test_flags_mark_what_the_task_fixes():
    for ids, fixed in Trials(TASK).checking(random.Random(0), 8):
        assert ids.shape == fixed.shape
        for row, flags in zip(ids, fixed, strict=True):
            assert tuple(flags[: len(TASK.vocabulary.decode(row))]) == TASK.deterministic(TASK.vocabulary.decode(row))
            assert not flags[row == 0].any()


def test_large_checks_come_in_chunks():
    small = task("single_object", max_quantity=1)
    assert [len(ids) for ids, _ in Trials(small).checking(random.Random(0), CHUNK + 5)] == [CHUNK, 5]


def test_the_same_seed_draws_the_same_trials():
    one, two = (Trials(TASK).training(random.Random(3), 20) for _ in range(2))
    assert np.array_equal(one, two)


def test_arithmetic_trials():
    batches = Trials(task("arithmetic")).checking(random.Random(0), 20)
    assert len(batches) == len(task("arithmetic").draw_quantities())
    assert all(fixed.any(axis=1).all() for _, fixed in batches)
