import example_runs as runs
import pytest

from mas_hooks.alignment import methods
from mas_hooks.core.records import Record
from mas_hooks.report.data import fits, names

PLANS = {
    "DAS": methods.das(),
    "MAS": methods.mas(),
    "stepwise MAS": methods.stepwise(),
    "UniMAS": methods.unimas(),
    "CLMAS": methods.clmas(),
    "linear map": methods.linear_map(),
    "stitching": methods.stitch(),
    "orthogonal stitching": methods.stitch(kind="orthogonal"),
    "affine stitching": methods.stitch(kind="affine"),
    "identity stitching": methods.identity_stitch(),
    "latent fit": methods.latent_fit(),
}


@pytest.mark.parametrize("title", PLANS)
def test_every_method_has_a_title(title):
    assert names.method_title(Record(method=PLANS[title].method)) == title


@pytest.mark.parametrize("title", PLANS)
def test_a_method_is_one_fit_only_where_it_trains_every_direction(title):
    """Its worst direction would else be one that nobody trained."""
    plan = PLANS[title]
    rows = runs.directions((0.9, 0.2, 0.8, 0.9), runs.GRUS, method=plan.method)
    every = plan.models == "one" or (plan.into == "every" and plan.within)
    assert len(fits.group_fits(rows)) == (1 if every else 4)
