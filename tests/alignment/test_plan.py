import pytest

from mas_hooks.alignment import methods
from mas_hooks.alignment.maps import MapSpec
from mas_hooks.alignment.plan import Direction, Plan
from mas_hooks.core.errors import SettingError, UnknownNameError


def test_mas_trains_every_ordered_pair():
    ways = methods.mas().directions(3)
    assert len(ways) == 9
    assert set(ways) == {(source, target) for source in range(3) for target in range(3)}


def test_das_trains_the_one_direction_within_a_model():
    assert methods.das().directions(1) == [(0, 0)]
    with pytest.raises(SettingError, match=r"^the number of sites for das is 2, but must be 1\.$"):
        methods.das().directions(2)


def test_unimas_trains_what_ends_in_the_accessible_model():
    assert methods.unimas(accessible=1).directions(3) == [(0, 1), (1, 1), (2, 1)]
    with pytest.raises(SettingError, match=r"^the accessible model of unimas is 2, but must be one of 0 to 1\.$"):
        methods.unimas(accessible=2).directions(2)


def test_a_direction_reads_as_an_arrow():
    assert str(Direction(0, 2)) == "0→2"


@pytest.mark.parametrize("method", ["das", "mas", "unimas"])
def test_a_plan_carries_its_map_specification(method):
    spec = MapSpec(rank=4, centre=True)
    plan = getattr(methods, method)(maps=spec)
    assert (plan.method, plan.maps) == (method, spec)
    assert getattr(methods, method)().maps is None
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_the_papers_defaults():
    plan = methods.mas()
    assert (plan.loss_average, plan.direction_average) == ("trial", "sum")


def test_mistakes_in_a_plan():
    with pytest.raises(UnknownNameError, match=r"^Plan has no setting 'acessible'\. Did you mean 'accessible'\?"):
        Plan(method="unimas", acessible=1)
    with pytest.raises(UnknownNameError, match=r"^MapSpec has no setting 'rnak'\. Did you mean 'rank'\?"):
        Plan(method="mas", maps={"rnak": 3})
    with pytest.raises(SettingError, match=r"^Plan\.into is 'all', but must be 'every', 'accessible' or 'none'\.$"):
        Plan(method="mas", into="all")
    with pytest.raises(SettingError, match=r"^Plan\.method is missing; give it a value\.$"):
        Plan()
