"""`mh.plot` offers the drawings that the face of `report` has, and what they draw."""

import mas_hooks as mh
from mas_hooks import report


def test_the_drawings_are_those_of_the_report():
    assert all(getattr(mh.plot, name) is getattr(report, name) for name in mh.plot.__all__)
    tables_and_pages = {name for name in report.__all__ if name not in mh.plot.__all__}
    assert not any(name.endswith(("_bars", "_curves", "_heatmap", "_heatmaps")) for name in tables_and_pages)
