import pytest

import mas_hooks as mh
from mas_hooks.core.errors import RankError, SettingError, UnknownNameError
from mas_hooks.models.toys.toy_cache import ToySettings
from mas_hooks.studies.work.toy_comparison import ToyComparison, Work, run_toy_comparison
from mas_hooks.training.settings import FitSettings

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
    return ToyComparison(**{**told, **changes})


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
    rows = run_toy_comparison(Work("a", own, tmp_path / "a-state", tmp_path / "a", progress=False))
    again = run_toy_comparison(Work("b", own, tmp_path / "b-state", tmp_path / "b", progress=False))
    assert [(row.source, row.target, row.iia, row.step) for row in rows] == [
        (row.source, row.target, row.iia, row.step) for row in again
    ]
    final = [row for row in rows if row.split == "test"]
    assert {row.control for row in final} == {None, "random_maps", "untrained", "shuffled_labels"}
    assert all(row.variable == "full" and row.task and row.init and row.k == 4 for row in rows)
    assert all(row.floor is not None and row.trials == 32 for row in final)
    assert (tmp_path / "a/model.safetensors").exists()


def test_comparisons_of_the_same_toys_share_pairs_and_activations(small_settings, tmp_path, monkeypatch):
    """Whatever the method; and the numbers are those of a process of its own."""
    from mas_hooks.studies.work import toy_comparison as room

    toys = (small_settings(0), small_settings(1))
    drawn = []
    pairs = room.ToyComparison.draw_pairs
    monkeypatch.setattr(room.ToyComparison, "draw_pairs", lambda *args: drawn.append(args) or pairs(*args))
    both = comparison(toys=toys), comparison(toys=toys, plan=mh.methods.stitch())
    drawn.clear()
    room._PREPARED.clear()
    found = [
        run_toy_comparison(Work(name, own, tmp_path / name, tmp_path / f"{name}-maps", False))
        for name, own in zip("ab", both, strict=True)
    ]
    assert len(drawn) == 1
    for changes in ({"variables": ("count", "count")}, {"seed": 1}, {"sizes": (32, 32, 32)}, {"stepwise": True}):
        prepared = room._prepare(comparison(toys=toys), progress=False)
        assert room._prepare(comparison(toys=toys, **changes), progress=False) is not prepared
    room._PREPARED.clear()
    alone = run_toy_comparison(Work("c", both[1], tmp_path / "c", tmp_path / "c-maps", progress=False))
    assert [row.iia for row in alone] == [row.iia for row in found[1]]


def test_models_of_two_tasks_are_told_apart(small_settings):
    one, other = small_settings(0), small_settings(0).model_copy(update={"task": "single_object"})
    assert comparison(toys=(one, other)).names == ["multi_object gru-0", "single_object gru-0"]
    assert comparison(toys=(one, one)).names == ["gru-0", "gru-0"]


def test_latents_that_find_no_match_are_counted(small_settings, tmp_path):
    own = comparison(toys=(small_settings(0), small_settings(1)), plan=mh.methods.clmas(0, mh.MapSpec(rank=4)))
    rows = run_toy_comparison(Work("a", own, tmp_path / "state", tmp_path / "maps", progress=False))
    (told,) = [row for row in rows if row.measure == "latents_dropped"]
    assert (told.method, told.split, told.trials) == ("clmas", "train", 128)
    assert told.value >= 0
    everywhere = comparison(toys=own.toys, plan=own.plan, controls=("untrained", "shuffled_labels"))
    rows = run_toy_comparison(Work("b", everywhere, tmp_path / "b-state", tmp_path / "b", progress=False))
    assert {row.control for row in rows} == {None, "untrained", "shuffled_labels"}


def test_a_transformer_beside_a_gru_each_at_its_own_site(small_settings):
    toys = (small_settings(0), small_settings(1, "transformer"))
    own = comparison(toys=toys, sites=("state", "blocks.0.hook_resid_post"))
    assert own.sites == ("state", "blocks.0.hook_resid_post")
    with pytest.raises(UnknownNameError, match=r"blocks\.0\.hook_resid_post"):
        comparison(toys=toys, sites=("blocks.0.hook_resid_post", "state"))
