"""One table of measures: no name means two estimators, and the names of 0.1.0 still say what they said."""

import numpy as np
import pytest
import torch
from sentences import refused

import mas_hooks as mh
from mas_hooks.core.errors import ShapeError, UnknownNameError, UnsupportedError
from mas_hooks.core.records import Record
from mas_hooks.similarity import MEASURES, LayerPairs, cka, find_measure, procrustes, rsa, shape_distance
from mas_hooks.similarity.hsic import unbiased_hsic
from mas_hooks.similarity.registry import ALIASES, find_record_key

FUNCTIONS = {"rsa": rsa, "procrustes": {"angular": shape_distance, "euclidean": procrustes}}


def measure_rows(name, x, y):
    measure = MEASURES[name]
    if measure.family == "cka":
        return cka(x, y, measure.kernel, estimator=measure.estimator)
    function = FUNCTIONS[measure.family]
    return (function if callable(function) else function[measure.estimator])(x, y)


def measure_grid(name, x, y):
    pairs = LayerPairs(("a", ["x"]), ("b", ["y"]), name)
    pairs.add([torch.as_tensor(x)], [torch.as_tensor(y)])
    return pairs.result()


@pytest.mark.parametrize("name", MEASURES)
def test_one_name_is_one_number_of_rows_and_of_grids(related, name):
    found = measure_rows(name, *related)
    assert found.name == name
    if MEASURES[name].layers:
        grid = measure_grid(name, *related)
        assert grid.measure == name
        assert grid.values[0, 0] == pytest.approx(found.value, abs=1e-10)


def test_no_two_names_give_one_number(related):
    values = [measure_rows(name, *related).value for name in MEASURES]
    assert len({round(value, 6) for value in values}) == len(values)


def test_the_table_says_its_key_in_each_row():
    for name, measure in MEASURES.items():
        assert name == measure.name
        assert name.startswith(measure.family)
        assert name.endswith(measure.estimator)
        assert (measure.kernel or "") in name
        assert measure.summary.endswith(".")


@pytest.mark.parametrize("compared", ["rows", "layers"])
def test_names_of_before_lead_to_one_measure_and_back(compared):
    for alias, name in ALIASES[compared].items():
        assert find_measure(alias, compared) is MEASURES[name]
    for name, measure in MEASURES.items():
        if measure.compares(compared):
            assert find_measure(find_record_key(name, compared), compared) is measure


def test_the_defaults_are_those_of_before(related):
    x, y = related
    assert cka(x, y).value == cka(x, y, "cosine", estimator="biased").value
    pairs = LayerPairs(("a", ["x"]), ("b", ["y"]))
    assert pairs.measure == find_measure("cka", "layers").name == "cka_linear_unbiased"
    assert mh.cka_layers is mh.compare_layers


@pytest.mark.parametrize(("name", "key"), [("cka", "cka"), ("cka_linear_unbiased", "cka"), ("rsa", "rsa")])
def test_records_keep_the_keys_of_before(related, name, key):
    (row,) = measure_grid(name, *related).records()
    assert isinstance(row, Record)
    assert row.measure == key


def test_unbiased_hsic_equals_the_printed_form(related):
    k, other = (side @ side.T for side in related)
    n = len(k)
    k0, other0 = k - np.diag(np.diag(k)), other - np.diag(np.diag(other))
    one = np.ones(n)
    printed = np.trace(k0 @ other0) + (one @ k0 @ one) * (one @ other0 @ one) / ((n - 1) * (n - 2))
    printed = (printed - 2 / (n - 2) * (one @ k0 @ other0 @ one)) / (n * (n - 3))
    assert unbiased_hsic(k, other) == pytest.approx(printed, rel=1e-10)


@pytest.mark.parametrize("kernel", ["linear", "cosine"])
def test_unrelated_rows_are_0_on_average_if_unbiased_alone(rng, kernel):
    values = {"biased": [], "unbiased": []}
    for _ in range(40):
        x, y = rng.normal(size=(20, 30)), rng.normal(size=(20, 30))
        for estimator, found in values.items():
            found.append(cka(x, y, kernel, estimator=estimator).value)
    assert abs(np.mean(values["unbiased"])) < 0.05
    assert min(values["unbiased"]) < 0
    assert np.mean(values["biased"]) > 0.4


def test_names_that_are_not_there_are_told(related):
    with refused(UnknownNameError, "cka has no estimator 'unbiassed'", "Did you mean 'unbiased'?"):
        cka(*related, estimator="unbiassed")
    with refused(UnknownNameError, "has no measure 'cka_linear'", "Did you mean 'cka_linear_", "rsa_cosine_spearman"):
        find_measure("cka_linear", "layers")
    with refused(UnsupportedError, "the measure 'procrustes_angular' of layer grids", "choose one of cka_linear_unb"):
        find_measure("procrustes_angular", "layers")


def test_rows_that_the_unbiased_estimator_cannot_judge_are_refused(rng):
    x = rng.normal(size=(3, 4))
    with refused(ShapeError, "a sample of x has shape (3, 4)", "n of 4 or more for the unbiased estimator"):
        cka(x, x, estimator="unbiased")
    with refused(UnsupportedError, "unbiased cka of x, all of whose rows are equally alike"):
        cka(np.eye(8), rng.normal(size=(8, 3)), "linear", estimator="unbiased")
