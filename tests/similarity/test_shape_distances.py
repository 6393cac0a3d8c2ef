import math

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import procrustes as scipy_procrustes
from sentences import refused

from mas_hooks.core.errors import NotFiniteError, SettingError, ShapeError, UnknownNameError, UnsupportedError
from mas_hooks.similarity import (
    LayerPairs,
    arccos_distance,
    cluster_models,
    find_measure,
    procrustes,
    shape_distance,
)

BOTH = pytest.mark.parametrize("distance", [shape_distance, procrustes])


def size_one(x):
    x = x - x.mean(0)
    return x / np.linalg.norm(x)


def padded(x, width):
    return np.pad(x, ((0, 0), (0, width - x.shape[1])))


def test_procrustes_is_what_scipys_best_rotation_leaves(related):
    x, y = (padded(size_one(side), 9) for side in related)
    turn, _ = orthogonal_procrustes(y, x)
    left = np.linalg.norm(x - y @ turn)
    assert 0.2 < left < 1.3
    assert procrustes(*related).value == pytest.approx(left, abs=1e-10)


def test_the_angle_is_that_of_scipys_disparity(related):
    """SciPy also fits a scale: what it leaves is sin² of the angle."""
    x, y = related
    disparity = scipy_procrustes(padded(x, 9), y)[2]
    assert math.sin(shape_distance(x, y).value) ** 2 == pytest.approx(disparity, abs=1e-10)
    assert procrustes(x, y).value == pytest.approx(2 * math.sin(shape_distance(x, y).value / 2), abs=1e-10)


@BOTH
def test_shifts_rotations_and_one_scale_change_nothing(related, rotation, distance):
    x, y = related
    turned = distance(x @ rotation(6) * 3 + 5, y[:, ::-1] * 1e-200)
    assert turned.value == pytest.approx(distance(x, y).value, abs=1e-9)
    assert distance(x, x @ rotation(6) * 3 + 5).value == pytest.approx(0, abs=1e-6)
    assert distance(np.pad(x, ((0, 0), (0, 4))), y).value == pytest.approx(distance(x, y).value, abs=1e-9)
    assert distance(x, x * np.array([9, 1, 1, 1, 1, 1])).value > 0.2
    assert distance(x, x[::-1]).value > 0.2


@BOTH
def test_it_is_a_metric(distance):
    rng = np.random.default_rng(0)
    slack = []
    for _ in range(60):
        x = rng.normal(size=(12, 3))
        y, z = (x @ rng.normal(size=(3, w)) + rng.uniform(0, 1) * rng.normal(size=(12, w)) for w in (4, 5))
        xy, yz, xz = (distance(*pair).value for pair in ((x, y), (y, z), (x, z)))
        assert distance(y, x).value == pytest.approx(xy, abs=1e-9)
        slack.append(min(xy + yz - xz, xy + xz - yz, xz + yz - xy))
    assert min(slack) > -1e-9
    assert min(slack) < 0.4  # some came near the bound


@BOTH
def test_samples_are_those_of_every_measure(related, distance):
    found = distance(*related, samples=20, resamples=4, seed=1)
    assert (found.name, found.resamples) == (find_measure(distance.__name__, "rows").name, 4)
    assert found.low < found.value < found.high


@BOTH
def test_equal_rows_have_no_shape(related, distance):
    with refused(UnsupportedError, "a shape distance of y, whose rows are all alike,"):
        distance(related[0], np.full((40, 3), 0.1))
    with refused(ShapeError, "y has shape (39, 9)"):
        distance(related[0], related[1][:39])


def grid_of(x, y, measure="cka_linear_unbiased"):
    """The similarity of two models of several layers, given as their rows, in minibatches of 20."""
    pairs = LayerPairs(("x", [str(i) for i in range(len(x))]), ("y", [str(i) for i in range(len(y))]), measure)
    for begin in range(0, len(x[0]), 20):
        pairs.add([own[begin : begin + 20] for own in x], [own[begin : begin + 20] for own in y])
    return pairs.result()


def model_near(cause, rng, noise):
    turns = [rng.normal(size=(cause.shape[1], width)) for width in (4, 6, 8)]
    return [torch.tensor(cause @ turn + noise * rng.normal(size=(len(cause), turn.shape[1]))) for turn in turns]


def test_arccos_distance_is_its_formula():
    assert arccos_distance([1, 0.5, 0]) == pytest.approx(math.sqrt((math.pi / 3) ** 2 + (math.pi / 2) ** 2))
    assert arccos_distance(np.array([[1, 9], [9, 1]])) == 0
    assert arccos_distance([1 + 1e-9, 1]) == 0
    assert arccos_distance([-1.2]) == pytest.approx(math.pi)


def test_a_model_is_at_no_distance_from_its_rotation():
    rng = np.random.default_rng(2)
    model = [own.float() for own in model_near(rng.normal(size=(60, 3)), rng, 1)]
    assert arccos_distance(grid_of(model, [own.clone() for own in model])) < 1e-6
    turned = [own @ torch.linalg.qr(torch.randn(own.shape[1], own.shape[1]))[0] for own in model]
    assert arccos_distance(grid_of(model, turned)) < 5e-3


@pytest.mark.parametrize("measure", ["cka_linear_unbiased", "cka_linear_biased"])
def test_arccos_distances_obey_the_triangle_inequality(measure):
    rng = np.random.default_rng(1)
    slack = []
    for _ in range(30):
        cause = rng.normal(size=(40, 3))
        a, b, c = (model_near(cause, rng, rng.uniform(0, 2)) for _ in range(3))
        ab, bc, ac = (arccos_distance(grid_of(*pair, measure)) for pair in ((a, b), (b, c), (a, c)))
        assert arccos_distance(grid_of(b, a, measure)) == pytest.approx(ab, abs=1e-6)
        slack.append(min(ab + bc - ac, ab + ac - bc, ac + bc - ab))
    assert min(slack) > -1e-9


@pytest.mark.parametrize("shape", [(2, 3), (0,), (2, 2, 2), ()])
def test_unequal_depths_have_no_arccos_distance(shape):
    with refused(ShapeError, f"the similarity of layers has shape {shape}", "two models of equal depth"):
        arccos_distance(np.ones(shape))


def test_a_value_that_is_none_is_told():
    with refused(NotFiniteError, "the similarity of layers holds 1 value"):
        arccos_distance([1, float("nan")])


def near_and_far():
    """Two groups: a, c, e lie within 1 of each other, b and d too; the groups are 5 apart."""
    side = np.array([0, 1, 0, 1, 0])
    distances = 5.0 * (side[:, None] != side)
    distances[0, 4] = distances[4, 0] = 0.9
    distances[2, [0, 4]] = distances[[0, 4], 2] = 0.7
    distances[1, 3] = distances[3, 1] = 0.5
    return distances


@pytest.mark.parametrize("linkage", ["average", "complete", "single", "weighted"])
def test_clustering_finds_the_groups(linkage):
    tree = cluster_models(near_and_far(), "abcde", linkage)
    assert tree.groups(1) == [list("abcde")]
    assert tree.groups(2) == [["a", "c", "e"], ["b", "d"]]
    assert sorted(map(len, tree.groups(3))) == [1, 2, 2]
    assert tree.groups(5) == [["a"], ["b"], ["c"], ["d"], ["e"]]
    assert set(tree.order[:2]) == {"b", "d"} or set(tree.order[-2:]) == {"b", "d"}
    assert tree.merges.shape == (4, 4)
    assert tree.merges[0, 2] == 0.5
    assert tree.merges[-1, 2] == 5


@pytest.mark.parametrize(
    ("spoil", "told"),
    [("asymmetric", "a and b is 4.0"), ("diagonal", "b and b is 0.1"), ("negative", "a and b is -1.0")],
)
def test_what_is_no_distance_is_refused(spoil, told):
    distances = near_and_far()
    if spoil == "asymmetric":
        distances[0, 1] = 4
    elif spoil == "diagonal":
        distances[1, 1] = 0.1
    else:
        distances[0, 1] = distances[1, 0] = -1
    with refused(SettingError, f"the distance of {told}", "the same both ways"):
        cluster_models(distances, "abcde")


def test_other_mistakes_are_named():
    with refused(ShapeError, "the distances has shape (5, 5)", "(4, 4)"):
        cluster_models(near_and_far(), "abcd")
    with refused(NotFiniteError, "the distances holds 25 values"):
        cluster_models(near_and_far() * float("nan"), "abcde")
    with refused(UnknownNameError, "cluster has no linkage 'avrage'", "'average'"):
        cluster_models(near_and_far(), "abcde", "avrage")
    with refused(SettingError, "the number of groups is 6", "1 to 5"):
        cluster_models(near_and_far(), "abcde").groups(6)
