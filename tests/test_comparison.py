import pytest

import mas_hooks as mh
from mas_hooks.comparison import Comparison, Work, run
from mas_hooks.errors import RankError, SettingError, UnknownNameError
from mas_hooks.fit_loop import FitSettings
from mas_hooks.trained import ToySettings

CONTROLS = ("random_maps", "untrained", "shuffled_labels")


def comparison(**changes):
    told = {
        "toys": (ToySettings(), ToySettings()),
        "sites": ("state", "state"),
        "variables": ("full", "full"),
        "plan": mh.methods.mas(mh.MapSpec(rank=4)),
        "fit": FitSettings(epochs=1, validate_every=1, patience=2),
        "sizes": (64, 32, 32),
    }
    return Comparison(**{**told, **changes})


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"variables": ("full",)}, SettingError, "one per toy"),
        ({"variables": ("full", "cuont")}, UnknownNameError, "Did you mean 'count'"),
        ({"plan": mh.methods.mas(mh.MapSpec(rank=49))}, RankError, "rank 49 does not fit gru-0:state"),
        ({"plan": mh.methods.mas()}, SettingError, "plan.maps is None"),
        ({"sites": ("state",)}, SettingError, "one per toy"),
        ({"sites": ("state", "stat")}, UnknownNameError, "Did you mean 'state'"),
        ({"stepwise": True, "variables": ("count", "count")}, SettingError, "full"),
        ({"sizes": (1, 0, 1)}, SettingError, "sizes"),
        ({"plan": mh.methods.das(mh.MapSpec(rank=4))}, SettingError, "number of sites for das"),
        ({"toys": (ToySettings(task="multi_object"), ToySettings(task="multi"))}, UnknownNameError, "multi"),
    ],
)
def test_what_would_fail_after_training_fails_before(changes, error, sentence):
    with pytest.raises(error, match=sentence):
        comparison(**changes)


def test_a_comparison_runs_and_repeats_itself(small_settings, tmp_path):
    own = comparison(toys=(small_settings(0), small_settings(1)), controls=CONTROLS)
    rows = run(Work("a", own, tmp_path / "a-state", tmp_path / "a", progress=False))
    again = run(Work("b", own, tmp_path / "b-state", tmp_path / "b", progress=False))
    assert [(row.source, row.target, row.iia, row.step) for row in rows] == [
        (row.source, row.target, row.iia, row.step) for row in again
    ]
    final = [row for row in rows if row.split == "test"]
    assert {row.control for row in final} == {None, "random_maps", "untrained", "shuffled_labels"}
    assert all(row.variable == "full" and row.task and row.init and row.k == 4 for row in rows)
    assert all(row.floor is not None and row.trials == 32 for row in final)
    assert (tmp_path / "a/model.safetensors").exists()
