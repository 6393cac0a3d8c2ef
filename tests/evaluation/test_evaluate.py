from dataclasses import replace

import pytest
import torch

from mas_hooks.alignment import methods
from mas_hooks.alignment.alignment import Alignment
from mas_hooks.alignment.maps import MapSpec
from mas_hooks.core.errors import SettingError, UnknownNameError
from mas_hooks.core.records import Record
from mas_hooks.core.sites import Where, recording
from mas_hooks.data.pairs import Pairs
from mas_hooks.data.task_pairs import task_pairs
from mas_hooks.evaluation.evaluate import evaluate
from mas_hooks.evaluation.metrics import wilson_interval
from mas_hooks.training.fit import fit
from mas_hooks.training.settings import FitSettings

EVERY = [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.fixture
def alignment(small_sites, small_pairs):
    made = Alignment(small_sites, rank=8, centre=True, init="procrustes")
    fit(made, methods.mas(), *small_pairs[:2], FitSettings(batch_size=64, epochs=1), progress=False)
    return made


def test_a_row_for_every_direction(alignment, small_pairs):
    table = evaluate(alignment, small_pairs[2])
    assert [(row.source, row.target) for row in table.rows] == EVERY
    for row in table.rows:
        assert (row.iia_low, row.iia_high) == wilson_interval(round(row.iia * 128), 128)
        assert 0 <= row.iia_low < row.iia <= row.iia_high <= 1
        assert (row.trials, row.k, row.init, row.split, row.method) == (128, 8, "procrustes", "test", "mas")
        assert (row.source_model, row.source_site) == (f"gru-{row.source}", "state")
        assert (row.target_model, row.target_site) == (f"gru-{row.target}", "state")
        assert (row.control, row.selected_on) == (None, "trained")


def test_redraws_are_told(alignment, small_pairs):
    rows = evaluate(alignment, replace(small_pairs[2][0, 0], redraws=17)).rows
    assert [row.dropped for row in rows] == [17] * 4


def test_iia_is_the_share_of_right_trials(alignment, small_pairs):
    """Counted anew from the logits of `Alignment.run`, trial by trial."""
    table, pairs = evaluate(alignment, small_pairs[2]), small_pairs[2][1, 0]
    with torch.no_grad():
        out = alignment.run(small_pairs[2], source=1, target=0, path="reference")
    guesses = torch.full_like(pairs.labels, -1)
    guesses[pairs.label_mask | pairs.deterministic_mask] = out.logits.argmax(-1)
    right = [
        bool((guesses[row] == pairs.labels[row])[pairs.deterministic_mask[row]].all()) for row in range(len(pairs))
    ]
    assert table.of(1, 0).iia == sum(right) / 128
    tokens = (guesses == pairs.labels)[pairs.deterministic_mask].double().mean()
    assert table.of(1, 0).token_accuracy == pytest.approx(float(tokens))


def test_the_floor_is_the_unedited_model(alignment, small_pairs, small_toys):
    table = evaluate(alignment, small_pairs[2])
    for target in (0, 1):
        pairs = small_pairs[2][0, target]
        with torch.no_grad():
            wrong = small_toys[target].model(pairs.target_inputs).argmax(-1) != pairs.labels
        judged = pairs.deterministic_mask
        assert table.of(0, target).token_floor == pytest.approx(1 - float((wrong & judged).sum() / judged.sum()))
        floor = 1 - (wrong & pairs.deterministic_mask).any(1).double().mean()
        assert table.of(0, target).floor == table.of(1, target).floor == pytest.approx(float(floor))
        assert 0 < floor < 0.4


def test_of_and_worst(alignment, small_pairs):
    table = evaluate(alignment, small_pairs[2])
    assert table.worst.iia == min(row.iia for row in table.rows)
    assert table.worst is table.of(table.worst.source, table.worst.target)
    with pytest.raises(UnknownNameError, match="the evaluation has no direction '0→2'"):
        table.of(0, 2)


def test_worst_is_among_the_trained_directions(small_sites, small_pairs):
    plan = methods.unimas(1, MapSpec(rank=8))
    table = evaluate(Alignment.from_plan(plan, small_sites), small_pairs[2])
    assert table.trained == ((0, 1), (1, 1))
    assert {row.method for row in table.rows} == {"unimas"}
    told = dict(zip(EVERY, (0.1, 0.8, 0.2, 0.7), strict=True))
    rows = tuple(replace(row, iia=told[row.source, row.target]) for row in table.rows)
    assert replace(table, rows=rows).worst.iia == 0.7


def test_records_take_further_keys(alignment, small_pairs):
    rows = evaluate(alignment, small_pairs[2]).records(recipe="mine", variable="full")
    assert all(isinstance(row, Record) and (row.recipe, row.variable) == ("mine", "full") for row in rows)
    assert [(row.source, row.target) for row in rows] == EVERY
    with pytest.raises(TypeError, match="recipee"):
        evaluate(alignment, small_pairs[2]).records(recipee="mine")


def test_prints_every_model(alignment, small_pairs):
    told = str(evaluate(alignment, small_pairs[2]))
    assert "gru-0" in told
    assert "gru-1" in told
    assert all(len(line) <= 100 for line in told.splitlines())


def test_directions_into_recordings_are_left_out(small_sites, small_pairs):
    given = small_pairs[2][0, 0]
    h = small_sites[1].model.run_with_cache(given.source_inputs, "state", given.source_where)[1]["state"]
    site = recording(h.detach(), {}, "area")
    recorded = Pairs.from_tensors(
        None,
        Where.one_per_row(torch.zeros(len(given), dtype=torch.int64)),
        given.target_inputs,
        given.target_where,
        given.labels,
        given.label_mask,
        given.deterministic_mask,
    )
    both = Alignment.from_plan(methods.unimas(0, MapSpec(rank=8)), [small_sites[0], site])
    table = evaluate(both, {(0, 0): given, (1, 0): recorded})
    assert [(row.source, row.target) for row in table.rows] == [(0, 0), (1, 0)]
    live = Alignment.from_plan(methods.unimas(0, MapSpec(rank=8)), small_sites)
    assert table.of(1, 0).iia == evaluate(live, dict.fromkeys(EVERY, given)).of(1, 0).iia
    assert table.of(1, 0).source_model == "area"


def test_one_set_of_pairs_serves_every_direction(alignment, small_pairs):
    shared = evaluate(alignment, small_pairs[2][0, 0])
    assert [row.iia for row in shared.rows] == [row.iia for row in evaluate(alignment, small_pairs[2]).rows]


def test_another_variable_is_another_table(alignment, small_toys):
    pairs = task_pairs([one.task for one in small_toys], ["count", "count"], (1, 1, 64))[2]
    assert {row.trials for row in evaluate(alignment, pairs).rows} == {64}


def test_a_control_by_name_is_told(small_sites, small_pairs):
    with pytest.raises(SettingError, match="a control is 'random_maps', but must be an object such as"):
        evaluate(Alignment(small_sites, rank=2), small_pairs[2], controls=["random_maps"])
