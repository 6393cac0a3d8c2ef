"""What studies share: pieces of work under a bar, with what is done and what is left in words."""

from mas_hooks.core.settings import Options
from mas_hooks.studies.stages import follow_work


def test_pieces_of_work_are_counted_and_the_last_has_nothing_left():
    found = list(follow_work(abs, [-3, 4, -5], Options(progress=False), "all", before=2))
    assert [(one, result) for one, result, *_ in found] == [(-3, 3), (4, 4), (-5, 5)]
    assert [done for *_, done, _ in found] == ["3/5", "4/5", "5/5"]
    assert [left.startswith(", about 0:00:0") for *_, left in found] == [True, True, False]
    assert found[-1][3] == ""


def test_nothing_to_do_is_nothing():
    assert list(follow_work(abs, [], Options(progress=False), "all", before=4)) == []
