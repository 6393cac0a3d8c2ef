import random

import numpy as np
import pytest
import torch
from sentences import refused

from mas_hooks.core.errors import (
    EmptyError,
    PositionError,
    SettingError,
    ShapeError,
    UnknownNameError,
    UnsupportedError,
)
from mas_hooks.data.pairs import Pairs, of_direction
from mas_hooks.core.sites import Where
from mas_hooks.data.task_pairs import task_pairs
from mas_hooks.data.tasks import Party, draw_counterfactual, task

TASK = task("multi_object", max_quantity=6)
SINGLE = task("single_object", max_quantity=6)
ARITHMETIC = task("arithmetic", max_operations=4, max_value=8)
SIZES = (20, 12, 8)


def tensors(**changed):
    """Two pairs over a sequence of 4 positions."""
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 4, 0]])
    given = {
        "source_inputs": ids,
        "source_where": Where([0, 1], [2, 1]),
        "target_inputs": ids,
        "target_where": Where([0, 1], [1, 0]),
        "labels": torch.tensor([[2, 3, 4, 5], [2, 4, 5, 0]]),
        "label_mask": torch.tensor([[False, True, True, True], [True, True, True, False]]),
    }
    return {**given, **changed}


def test_tensors_say_what_the_counterfactuals_say():
    train, _, _ = task_pairs([TASK, SINGLE], ["count", "count"], SIZES, seed=3)
    pairs, rng = train[0, 1], random.Random("3/0/0/1")
    for row in range(len(pairs)):
        drawn = draw_counterfactual(Party(TASK, "count"), Party(SINGLE, "count"), rng)
        whole = torch.cat([pairs.target_inputs[row, :1], pairs.labels[row]])
        assert TASK.vocabulary.decode(pairs.source_inputs[row]) == drawn.source_tokens
        assert SINGLE.vocabulary.decode(whole) == drawn.target_tokens
        assert int(pairs.source_where.columns[row]) == drawn.source_position
        at, end = drawn.target_position, len(drawn.target_tokens) - 1
        assert int(pairs.target_where.columns[row]) == at
        assert pairs.label_mask[row].nonzero()[:, 0].tolist() == list(range(at, end))
        fixed = [position - 1 for position, flag in enumerate(drawn.deterministic) if flag]
        assert pairs.deterministic_mask[row].nonzero()[:, 0].tolist() == fixed


def test_labels_continue_what_the_program_says_after_the_swap():
    pairs = task_pairs([TASK], ["full"], SIZES)[0][0, 0]
    for row in range(len(pairs)):
        source = TASK.vocabulary.decode(pairs.source_inputs[row])
        state = TASK.replay(source)[int(pairs.source_where.columns[row])]
        whole = TASK.vocabulary.decode(torch.cat([pairs.target_inputs[row, :1], pairs.labels[row]]))
        at = int(pairs.target_where.columns[row])
        TASK.replay(whole, {at: {"phase": state.phase, "count": state.count}})  # raises where it does not fit
        assert whole[-1] == "E"
        judged = [pairs.labels[row, position] for position in pairs.deterministic_mask[row].nonzero()[:, 0]]
        assert set(TASK.vocabulary.decode(judged)) <= {"R", "E"}
        assert not pairs.deterministic_mask[row, :at].any()


@pytest.mark.parametrize(
    ("source", "target", "names"),
    [
        ((TASK, "full"), (TASK, "full"), {"phase", "count"}),
        ((TASK, "count"), (SINGLE, "count"), {"phase", "count"}),
        ((TASK, "last_value"), (TASK, "last_value"), {"last_value"}),
        ((TASK, "count"), (ARITHMETIC, "rem_ops"), {"cumu_val", "rem_ops"}),
        ((ARITHMETIC, "cumu_val_low"), (task("modulo", max_quantity=6), "count"), {"phase", "count"}),
    ],
)
def test_expected_is_what_the_targets_program_holds_after_the_swap(source, target, names):
    """Told from the tokens: the target's program run up to the swap, with the source's values put in."""
    sets = task_pairs([source[0], target[0]], [source[1], target[1]], (40, 1, 1), seed=5)
    pairs = sets[0][0, 1]
    assert set(pairs.expected) == names
    given, taken = (Party(*side).names for side in (source, target))
    for row in range(len(pairs)):
        state = source[0].replay(source[0].vocabulary.decode(pairs.source_inputs[row]))[-1]
        passed = {own: getattr(state, other) for own, other in zip(taken, given, strict=True)}
        at = int(pairs.target_where.columns[row])
        after = target[0].replay(target[0].vocabulary.decode(pairs.target_inputs[row, : at + 1]), {at: passed})[-1]
        assert {name: values[row] for name, values in pairs.expected.items()} == {
            name: getattr(after, name) for name in names
        }


def test_equal_keys_mean_equal_swapped_values():
    pairs = task_pairs([TASK], ["full"], (200, 1, 1))[0][0, 0]
    states = {}
    for row, key in enumerate(pairs.source_key.tolist()):
        state = TASK.replay(TASK.vocabulary.decode(pairs.source_inputs[row]))[-1]
        states.setdefault(key, set()).add((state.phase, state.count))
    assert all(len(found) == 1 for found in states.values())
    assert len(states) == len(set.union(*states.values())) > 6


def test_same_task_and_variable_share_one_set():
    train, valid, test = task_pairs([TASK, task("multi_object", max_quantity=6), SINGLE], ["full"] * 3, SIZES)
    assert train[0, 0] is train[0, 1] is train[1, 0] is train[1, 1]
    assert train[0, 2] is train[1, 2]
    assert train[0, 2] is not train[2, 0]
    assert train[2, 2] is not train[0, 0]
    assert [len(pairs[0, 0]) for pairs in (train, valid, test)] == list(SIZES)


def test_splits_and_seeds_differ_and_repeat():
    sets = [own[0, 0].source_inputs for own in task_pairs([TASK], ["full"], (30, 30, 30), seed=1)]
    other = task_pairs([TASK], ["full"], (30, 30, 30), seed=2)[0][0, 0].source_inputs
    again = task_pairs([TASK], ["full"], (30, 30, 30), seed=1)[0][0, 0].source_inputs
    assert torch.equal(sets[0], again)
    for one, two in [(sets[0], sets[1]), (sets[1], sets[2]), (sets[0], sets[2]), (sets[0], other)]:
        assert one.shape != two.shape or not torch.equal(one, two)


def test_label_scope_chooses_what_the_loss_sees():
    wide = task_pairs([TASK], ["full"], SIZES)[0][0, 0]
    narrow = task_pairs([TASK], ["full"], SIZES, label_scope="deterministic")[0][0, 0]
    assert torch.equal(narrow.label_mask, wide.deterministic_mask)
    assert wide.label_mask.sum() > narrow.label_mask.sum()
    with pytest.raises(SettingError, match=r"label_scope is 'all', but must be 'continuation' or 'deterministic'"):
        task_pairs([TASK], ["full"], SIZES, label_scope="all")


def test_refuses_what_makes_no_pairs():
    with pytest.raises(EmptyError, match=r"sizes \(10, 0, 5\)"):
        task_pairs([TASK], ["full"], (10, 0, 5))
    with pytest.raises(SettingError, match="number of variables is 1, but must be one per task, 2"):
        task_pairs([TASK, TASK], ["full"])
    with pytest.raises(UnknownNameError, match=r"no variable 'cuont'\. Did you mean 'count'"):
        task_pairs([TASK], ["cuont"])


def test_of_direction():
    pairs = Pairs.from_tensors(**tensors())
    assert of_direction(pairs, 3, 1) is pairs
    assert of_direction({(0, 1): pairs}, 0, 1) is pairs
    with pytest.raises(UnknownNameError, match="no direction '1→0'"):
        of_direction({(0, 1): pairs}, 1, 0)


def test_from_tensors_defaults():
    pairs = Pairs.from_tensors(**tensors())
    assert torch.equal(pairs.deterministic_mask, pairs.label_mask)
    assert pairs.source_key.tolist() == [0, 1]
    assert pairs.single
    assert not Pairs.from_tensors(**tensors(target_where=Where([1, 0], [1, 0]))).single
    several = Where([0, 0, 1], [0, 1, 0])
    assert Pairs.from_tensors(**tensors(source_where=several, target_where=several)).source_key.tolist() == [0, 1, 2]
    recorded = Pairs.from_tensors(**tensors(source_inputs=None, source_where=Where([90, 7], [0, 3])))
    assert recorded.source_inputs is None


def test_cells_follow_the_batch():
    whole = tensors(source_where=Where([0, 0, 1], [0, 1, 0]), target_where=Where([1, 0, 1], [2, 1, 1]))
    cells, rows = Pairs.from_tensors(**whole).cells(torch.tensor([1]))
    assert (cells.tolist(), rows.tolist()) == ([0, 2], [0, 0])
    cells, rows = Pairs.from_tensors(**whole).cells(torch.tensor([1, 0]))
    assert (cells.tolist(), rows.tolist()) == ([0, 1, 2], [0, 1, 0])
    cells, rows = Pairs.from_tensors(**tensors()).cells(torch.tensor([1, 0]))
    assert (cells.tolist(), rows.tolist()) == ([1, 0], [0, 1])


def test_fingerprint_tells_pairs_apart():
    one, same = Pairs.from_tensors(**tensors()), Pairs.from_tensors(**tensors())
    other = Pairs.from_tensors(**tensors(labels=torch.tensor([[2, 3, 4, 5], [2, 4, 6, 0]])))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    for changed in (
        {"expected": {"count": [1, 2]}},
        {"expected": {"count": [1, 3]}},
        {"expected": {"phase": np.array(["demo", None])}},
        {"source_where": Where([0, 1], [2, 2])},
        {"target_where": Where([0, 1], [0, 0])},
    ):
        made = Pairs.from_tensors(**tensors(**changed))
        assert made.fingerprint == Pairs.from_tensors(**tensors(**changed)).fingerprint
        assert made.fingerprint not in {one.fingerprint, other.fingerprint}
        other = made


def test_targets_in_a_recording_are_not_run():
    """Nothing is run there, so such pairs may go without labels."""
    none = torch.zeros(2, 0)
    cells = Where([90, 7], [0, 3])
    pairs = Pairs.from_tensors(
        **tensors(target_inputs=None, target_where=cells, labels=none.long(), label_mask=none),
        expected={"count": [4, 2], "phase": ["demo", "demo"]},
    )
    assert len(pairs) == 2
    assert pairs.expected["count"].tolist() == [4, 2]
    for own in (pairs, Pairs.from_tensors(**tensors(target_inputs=None, target_where=cells))):
        with refused(UnsupportedError, "without target inputs or labels"):
            own.run_inputs  # noqa: B018
    whole = Pairs.from_tensors(**tensors())
    assert whole.run_inputs is whole.target_inputs


NONE = torch.zeros(0, 4, dtype=torch.int64)
PADDED = {"input_ids": tensors()["target_inputs"], "attention_mask": torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1]])}


@pytest.mark.parametrize(
    ("changed", "error", "told"),
    [
        ({"labels": NONE, "label_mask": NONE}, EmptyError, "set of pairs is empty; give at least one"),
        ({"labels": torch.ones(2).long()}, ShapeError, r"labels has shape \(2,\), but \(pairs, positions\)"),
        ({"labels": torch.ones(2, 4)}, SettingError, "dtype of labels is torch.float32, but must be an integer"),
        ({"label_mask": torch.ones(2, 3)}, ShapeError, r"label_mask has shape \(2, 3\).*\(2, 4\)"),
        ({"deterministic_mask": torch.ones(3, 4)}, ShapeError, r"deterministic_mask has shape \(3, 4\)"),
        ({"deterministic_mask": torch.tensor([[1] * 4, [0] * 4])}, EmptyError, "deterministic_mask of pair 1 is empty"),
        ({"label_mask": torch.tensor([[0] * 4, [1] * 4])}, EmptyError, "label_mask of pair 0 is empty"),
        ({"source_key": torch.arange(3)}, ShapeError, r"source_key has .*\(2,\), one key a source cell"),
        (
            {"expected": {"count": [1]}},
            ShapeError,
            r"expected\['count'\] has shape \(1,\), but \(2,\), one value per target",
        ),
        ({"expected": {"count": [[1], [2]]}}, ShapeError, r"has shape \(2, 1\)"),
        ({"source_where": Where([0], [2])}, ShapeError, "one source cell for every target cell"),
        ({"source_inputs": torch.ones(3, 4)}, ShapeError, r"source_inputs has shape \(3, 4\), but \(2, positions\)"),
        ({"source_inputs": torch.ones(2)}, ShapeError, r"source_inputs has shape \(2,\)"),
        ({"target_inputs": torch.ones(2, 5)}, ShapeError, r"target_inputs has shape \(2, 5\), but \(2, 4\)"),
        ({"source_where": Where([0, 1], [2, 4])}, PositionError, "position 4 of row 1 is not in the source sequences"),
        ({"target_where": Where([0, 2], [1, 0])}, PositionError, "position 0 of row 2 is not in the target sequences"),
        ({"target_inputs": PADDED}, PositionError, "position 0 of row 1 .* padding"),
    ],
)
def test_from_tensors_refuses_what_does_not_fit(changed, error, told):
    with pytest.raises(error, match=told):
        Pairs.from_tensors(**tensors(**changed))


def test_tasks_may_be_named():
    named = task_pairs(["multi_object"], ["full"], (3, 1, 1))[0][0, 0]
    made = task_pairs([task("multi_object")], ["full"], (3, 1, 1))[0][0, 0]
    assert torch.equal(named.target_inputs, made.target_inputs)


def test_what_is_no_set_of_pairs_is_told():
    with pytest.raises(SettingError, match="the pairs is 'NoneType', but must be Pairs"):
        of_direction(None, 0, 0)
    with pytest.raises(EmptyError, match="the set of pairs is empty"):
        of_direction({}, 0, 0)


@pytest.mark.parametrize("index", [[2, 0], [1], [0, 1, 2, 3], []])
def test_cells_of_a_batch_are_found_however_the_cells_are_ordered(index):
    """Rows in order take the short way; in any order, the same cells belong to the same rows of the batch."""
    ids, where = torch.arange(24).view(4, 6), Where([0, 0, 1, 2, 2, 2, 3], [0, 1, 0, 0, 1, 2, 4])
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    mixed = Where(where.rows[order], where.columns[order])
    mask = torch.ones(4, 6, dtype=torch.bool)
    for cells in (where, mixed):
        own = Pairs.from_tensors(ids, cells, ids, cells, ids, mask)
        found, row = own.cells(torch.tensor(index, dtype=torch.int64))
        assert found.tolist() == sorted(found.tolist())
        told = [(index[at], int(column)) for at, column in zip(row.tolist(), cells.columns[found], strict=True)]
        wanted = [(int(r), int(c)) for r, c in zip(where.rows, where.columns, strict=True) if int(r) in index]
        assert sorted(told) == sorted(wanted)
        assert cells.rows[found].tolist() == [index[at] for at in row.tolist()]
