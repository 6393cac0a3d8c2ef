"""Grids of models of unequal depth: what is matched, how far apart models are, which lies out, and where blocks are."""

import math

import numpy as np
import pytest
from sentences import refused

from mas_hooks.core.errors import NotFiniteError, SettingError, ShapeError
from mas_hooks.similarity import arccos_distance, depth_distance, find_blocks, find_outlier
from mas_hooks.similarity.layer_structure import match_depths


def test_equal_depths_are_matched_on_the_diagonal():
    grid = np.random.default_rng(0).random((5, 5))
    assert np.array_equal(match_depths(grid), grid.diagonal())
    assert depth_distance(grid) == pytest.approx(arccos_distance(grid) / math.sqrt(5))


def test_unequal_depths_are_matched_by_their_share():
    grid = np.arange(8).reshape(2, 4) / 10
    assert match_depths(grid).tolist() == [0.0, 0.1, 0.6, 0.7]
    assert match_depths(grid.T).tolist() == [0.0, 0.1, 0.6, 0.7]
    assert depth_distance(grid) == depth_distance(grid.T)
    assert match_depths(np.arange(15).reshape(3, 5)).tolist() == [0, 1, 7, 13, 14]


def test_distance_runs_from_nothing_to_a_right_angle():
    assert depth_distance(np.ones((3, 7))) == 0
    assert depth_distance(np.zeros((3, 7))) == pytest.approx(math.pi / 2)
    assert depth_distance(np.full((2, 2), 1 + 1e-12)) == 0


def far(m, who, near=0.2, apart=0.9):
    values = np.full((m, m), near)
    values[who] = values[:, who] = apart
    np.fill_diagonal(values, 0)
    return values


@pytest.mark.parametrize("m", [3, 4, 7])
def test_the_member_far_from_all_others_is_flagged(m):
    names = [f"m{i}" for i in range(m)]
    found = find_outlier(far(m, 1), names)
    assert (found.name, found.flagged) == ("m1", True)
    assert found.ratio == pytest.approx(4.5)
    assert found.ratios[1] == max(found.ratios)
    near = find_outlier(far(m, 1, apart=0.29), names)
    assert (near.name, near.flagged) == ("m1", False)
    assert find_outlier(far(m, 1, apart=0.29), names, factor=1.4).flagged


def test_a_similarity_that_falls_with_distance_has_no_blocks():
    apart = np.abs(np.subtract.outer(np.arange(8), np.arange(8)))
    found = find_blocks(0.9**apart)
    assert found.contrast == pytest.approx(found.smooth)
    assert found.contrast > 0.1
    assert not find_blocks(0.9**apart - 1e-9 * apart**2).visible


def test_blocks_are_found_where_they_are():
    block = np.array([0, 0, 1, 1, 1, 1, 1, 2])
    values = np.where(block[:, None] == block[None, :], 0.9, 0.3)
    found = find_blocks(values)
    assert (found.cuts, found.within, found.across) == ((2, 7), pytest.approx(0.9), pytest.approx(0.3))
    assert found.visible
    assert found.smooth < 0.55


def test_mistakes_are_named():
    with refused(ShapeError, "the similarity of layers has shape (3,)"):
        depth_distance([1, 1, 1])
    with refused(NotFiniteError, "the similarity of layers holds 1 value"):
        depth_distance([[np.nan, 1.0]])
    with refused(ShapeError, "the distances of a family has shape (2, 2)", "3 members or more"):
        find_outlier(np.zeros((2, 2)), ["a", "b"])
    with refused(SettingError, "the distance among the members beside c is 0.0"):
        find_outlier([[0, 0, 1], [0, 0, 1], [1, 1, 0]], ["a", "b", "c"])
    for shape in ((3, 3), (4, 5)):
        with refused(ShapeError, "the similarity of the layers of one model", "4 or more"):
            find_blocks(np.ones(shape))
