import pytest

from mas_hooks.alignment.maps import MapSpec
from mas_hooks.alignment.maps.fixed import Fixed
from mas_hooks.alignment.maps.frame import Frame
from mas_hooks.alignment.maps.reversible import Reversible
from mas_hooks.alignment.maps.rotation import Rotation
from mas_hooks.core.errors import RankError, SettingError, UnknownNameError

SIZES = r"but must be either rank=k or subspaces=\{name: dims, …\}\.$"


def test_rank_and_subspaces_are_one_or_the_other():
    with pytest.raises(SettingError, match=r"^the size of a map is \{'rank': None, 'subspaces': \{\}\}, " + SIZES):
        MapSpec()
    with pytest.raises(SettingError, match=SIZES):
        MapSpec(rank=3, subspaces={"count": 3})
    assert MapSpec(rank=3).total == MapSpec(subspaces={"count": 2, "phase": 1}).total == 3


@pytest.mark.parametrize("rank", [0, -1, 49])
@pytest.mark.parametrize("kind", ["frame", "rotation", "fixed", "reversible"])
def test_a_rank_that_does_not_fit_names_the_site(rank, kind):
    with pytest.raises(RankError, match=rf"^rank {rank} does not fit GRU:state: choose 1 to 48 dims\.$"):
        MapSpec(rank=rank, kind=kind).make(48, "GRU:state")


def test_subspaces_that_are_too_large_together():
    with pytest.raises(RankError, match=r"^rank 13 does not fit GRU:state: choose 1 to 12 dims\.$"):
        MapSpec(subspaces={"count": 10, "phase": 3}).make(12, "GRU:state")


@pytest.mark.parametrize(("cls", "rank"), [(Frame, 0), (Frame, 4), (Fixed, 4)])
def test_maps_hold_their_own_door_too(cls, rank):
    calibration = MapSpec(rank=1).make(3, "x").calibration
    with pytest.raises(RankError, match=rf"^rank {rank} does not fit a site of width 3"):
        cls(3, rank, calibration)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"subspaces": {"extra": 2}},
            "a subspace name is 'extra', but must be another name: 'extra' is what a rotation ",
        ),
        ({"subspaces": {"count": 0}}, "the number of dims of a subspace is 0, but must be 1 or more."),
        (
            {"rank": 2, "kind": "fixed", "scale": "learned"},
            "the scale of a fixed map is 'learned', but must be 'fixed'",
        ),
        (
            {"rank": 2, "kind": "frme"},
            "MapSpec.kind is 'frme', but must be 'frame', 'rotation', 'fixed' or 'reversible'.",
        ),
        ({"rank": 2, "kind": "reversible", "depth": 0}, "the depth of a reversible map is 0, but must be 1 or more."),
        ({"rank": 2, "kind": "reversible", "hidden": 0}, "the hidden of a reversible map is 0, but must be 1 or more."),
        ({"rank": 2, "depth": 2}, "depth of a map of kind 'frame' is 2, but must be 4: only 'reversible' has one."),
        ({"rank": 2, "hidden": 8}, "hidden of a map of kind 'frame' is 8, but must be None: only 'reversible' has"),
        ({"rank": 2.5}, "MapSpec.rank is 2.5, but must be a valid integer, got a number with a fractional part."),
        ({"subspaces": {"count": "x"}}, "MapSpec.subspaces.count is 'x', but must be a valid integer"),
    ],
)
def test_values_that_cannot_be(spec, message):
    with pytest.raises(SettingError) as caught:
        MapSpec(**spec)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(
        UnknownNameError, match=r"^MapSpec has no setting 'parametrisation'\. Did you mean 'parametriza"
    ):
        MapSpec(rank=2, parametrisation="cayley")


@pytest.mark.parametrize(
    ("kind", "rank", "cls"),
    [
        ("frame", 4, Frame),
        ("frame", 6, Rotation),
        ("rotation", 4, Rotation),
        ("fixed", 4, Fixed),
        ("fixed", 6, Fixed),
        ("reversible", 4, Reversible),
        ("reversible", 6, Reversible),
    ],
)
def test_which_map_is_made(kind, rank, cls):
    assert type(MapSpec(rank=rank, kind=kind).make(6, "x")) is cls


def test_blocks_follow_each_other():
    spec = MapSpec(subspaces={"count": 3, "phase": 2}, kind="rotation")
    named = {name: spec.block(name, 8) for name in ("count", "phase", "extra", None)}
    assert named == {"count": slice(0, 3), "phase": slice(3, 5), "extra": slice(5, 8), None: slice(0, 5)}


@pytest.mark.parametrize(
    ("spec", "asked", "listed"),
    [
        ({"subspaces": {"count": 3, "phase": 2}, "kind": "rotation"}, "cont", "Did you mean 'count'?"),
        ({"subspaces": {"count": 3, "phase": 2}, "kind": "rotation"}, "cont", "There is: count, phase, extra."),
        ({"subspaces": {"count": 3, "phase": 2}}, "extra", "There is: count, phase."),
        ({"subspaces": {"count": 5, "phase": 3}, "kind": "rotation"}, "extra", "There is: count, phase."),
    ],
)
def test_a_subspace_that_is_not_there(spec, asked, listed):
    with pytest.raises(UnknownNameError, match=f"^the map has no subspace '{asked}'") as caught:
        MapSpec(**spec).block(asked, 8)
    assert listed in str(caught.value)


def test_a_specification_survives_json():
    spec = MapSpec(subspaces={"phase": 3, "count": 2}, kind="rotation", parametrization="cayley", zscore=True)
    back = MapSpec.model_validate_json(spec.model_dump_json())
    assert back == spec
    assert list(back.subspaces) == ["phase", "count"]


def test_a_reversible_map_has_the_blocks_that_were_asked_for():
    made = MapSpec(rank=2, kind="reversible", depth=3, hidden=11).make(7, "x")
    assert [tuple(shift.inner.shape) for shift in made.shifts] == [(11, 3), (11, 4), (11, 3)]
    assert len(MapSpec(rank=2, kind="reversible").make(7, "x").shifts) == 4
    assert MapSpec(rank=2, kind="reversible").make(7, "x").shifts[0].inner.shape == (7, 3)
