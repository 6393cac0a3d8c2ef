from itertools import permutations

import numpy as np
import pytest
import torch
from sentences import refused
from slow_layers import cka_ratios, cka_terms, hsic_1, hsic_biased

from mas_hooks.core.errors import EmptyError, NotFiniteError, ShapeError, UnknownNameError, UnsupportedError
from mas_hooks.similarity import MEASURES, LayerPairs, rsa
from mas_hooks.similarity.layers import hsic
from mas_hooks.similarity.layers.hsic import make_features

LAYERED = [name for name, measure in MEASURES.items() if measure.layers]
ALL = pytest.mark.parametrize("measure", LAYERED)
CKA = pytest.mark.parametrize(
    ("measure", "name", "slow"),
    [
        ("cka_linear_unbiased", "linear", hsic_1),
        ("cka_cosine_unbiased", "cosine", hsic_1),
        ("cka_linear_biased", "linear", hsic_biased),
        ("cka_cosine_biased", "cosine", hsic_biased),
    ],
)
AVERAGES = pytest.mark.parametrize(("average", "slow_average"), [("terms", cka_terms), ("ratios", cka_ratios)])
A, B = ("a", ["a0", "a1", "a2"]), ("b", ["b0", "b1"])


@pytest.fixture
def batches(rng):
    """Four minibatches of 3 layers of a (widths 5, 9, 3) and 2 layers of b (7, 40) that share what they say."""
    made = []
    for n in (30, 30, 30, 41):
        cause = rng.normal(size=(n, 4))
        layers = [np.tanh(cause @ rng_map) + rng.normal(size=(n, rng_map.shape[1])) + 3 for rng_map in _maps()]
        made.append(([torch.tensor(x) for x in layers[:3]], [torch.tensor(x) for x in layers[3:]]))
    return made


def _maps():
    rng = np.random.default_rng(1)
    return [rng.normal(size=(4, width)) for width in (5, 9, 3, 7, 40)]


def grid(batches, measure="cka_linear_unbiased", average="terms"):
    pairs = LayerPairs(A, B, measure, average)
    for a, b in batches:
        pairs.add(a, b)
    return pairs.result()


def of(batches, i, j):
    return [(a[i], b[j]) for a, b in batches]


@CKA
@AVERAGES
def test_every_pair_equals_the_slow_form(batches, measure, name, slow, average, slow_average):
    found = grid(batches, measure, average)
    expected = [[slow_average(of(batches, i, j), name, slow) for j in range(2)] for i in range(3)]
    assert np.allclose(found.values, expected, rtol=0, atol=1e-10)
    assert np.ptp(found.values) > 0.05
    assert (found.rows, found.minibatches, found.measure) == (131, 4, measure)


@pytest.mark.parametrize("size", [1, 7, 29, 30, 512])
def test_the_size_of_a_tile_changes_nothing(batches, monkeypatch, size):
    expected = grid(batches).values
    monkeypatch.setitem(hsic.TILE, "cpu", size)
    assert np.allclose(grid(batches).values, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("measure", ["cka_linear_unbiased", "cka_cosine_unbiased", "cka_linear_biased"])
def test_narrow_rows_are_computed_in_float32(batches, dtype, measure):
    narrow = [tuple([x.to(dtype) for x in side] for side in one) for one in batches]
    same_rows = [tuple([x.double() for x in side] for side in one) for one in narrow]
    assert np.allclose(grid(narrow, measure).values, grid(same_rows, measure).values, rtol=0, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(grid(narrow, measure).values, grid(narrow, measure).values)
        autocast = grid(narrow, measure).values
    assert np.array_equal(autocast, grid(narrow, measure).values)


def test_the_sides_may_differ_in_dtype(batches):
    mixed = [([x.bfloat16() for x in a], b) for a, b in batches]
    widened = [([x.bfloat16().double() for x in a], b) for a, b in batches]
    assert np.array_equal(grid(mixed).values, grid(widened).values)


@pytest.mark.parametrize("measure", ["cka_linear_unbiased", "cka_linear_biased", "cka_cosine_unbiased"])
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_float32_survives_large_and_small_rows_and_far_means(batches, measure, scale):
    single = [tuple([x.float() for x in side] for side in one) for one in batches]
    scaled = [([x * scale for x in a], [x + 1000 for x in b]) for a, b in single]
    assert np.allclose(grid(scaled, measure).values, grid(single, measure).values, rtol=0, atol=2e-3)
    scaled = [([x * scale for x in a], b) for a, b in single]
    assert np.allclose(grid(scaled, measure).values, grid(single, measure).values, rtol=0, atol=2e-6)


@ALL
def test_a_model_and_its_copy_are_one_on_the_diagonal(batches, measure):
    single = [[x.float() for x in a] for a, _ in batches]
    itself, copy = (LayerPairs(A, A, measure) for _ in range(2))
    for a in single:
        itself.add(a, a)
        copy.add(a, [x.clone() for x in a])
    assert np.abs(itself.result().values.diagonal() - 1).max() < 1e-15
    assert np.array_equal(itself.result().values, copy.result().values)
    assert itself.result().values[0, 1] < 0.99


@ALL
def test_swapping_the_models_transposes(batches, measure):
    back = LayerPairs(B, A, measure)
    for a, b in batches:
        back.add(b, a)
    assert np.allclose(back.result().values.T, grid(batches, measure).values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("measure", ["cka_linear_unbiased", "cka_linear_biased"])
def test_linear_kernels_see_no_rotation_shift_or_scale_of_all(batches, rotation, measure):
    turned = [([x @ torch.tensor(rotation_of(x)) * 7 - 2 for x in a], b) for a, b in batches]
    assert np.allclose(grid(turned, measure).values, grid(batches, measure).values, rtol=0, atol=1e-10)
    stretched = [([x * torch.linspace(1, 9, x.shape[1]) for x in a], b) for a, b in batches]
    assert np.abs(grid(stretched, measure).values - grid(batches, measure).values).max() > 1e-3


def rotation_of(x):
    return np.linalg.qr(np.random.default_rng(x.shape[1]).normal(size=(x.shape[1], x.shape[1])))[0]


@pytest.mark.parametrize("measure", ["cka_cosine_unbiased", "cka_cosine_biased"])
def test_cosine_kernels_see_no_scale_of_a_unit(batches, measure):
    scaled = [([x * torch.linspace(-9, 9, x.shape[1] + 1)[1:] + 4 for x in a], b) for a, b in batches]
    assert np.allclose(grid(scaled, measure).values, grid(batches, measure).values, rtol=0, atol=1e-10)


@ALL
def test_the_order_of_units_and_of_rows_does_not_matter(batches, measure):
    mixed = [([x.flip(1).flip(0) for x in a], [x.flip(0) for x in b]) for a, b in batches]
    assert np.allclose(grid(mixed, measure).values, grid(batches, measure).values, rtol=0, atol=1e-10)
    unmatched = [(a, [x.flip(0) for x in b]) for a, b in batches]
    assert np.abs(grid(unmatched, measure).values - grid(batches, measure).values).max() > 0.05


def test_hsic_1_is_the_mean_over_all_quadruples_of_rows(rng):
    """Its definition (Gretton 2005; Song 2012): k_ij (l_ij + l_qr − 2 l_iq) over all distinct i, j, q, r."""
    x, y = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    k, other = x @ x.T, y @ y.T  # not even centred: HSIC₁ sees no shift
    terms = [k[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q]) for i, j, q, r in permutations(range(6), 4)]
    found = hsic.hsic_of_all_pairs(
        [make_features(torch.tensor(x), "linear", torch.float64)],
        [make_features(torch.tensor(y), "linear", torch.float64)],
    )
    assert float(found.cross) == pytest.approx(np.mean(terms), abs=1e-12)


def test_hsic_1_is_unbiased_where_the_biased_one_is_not():
    rng = np.random.default_rng(0)
    found = {True: [], False: []}
    for _ in range(400):
        x, y = (make_features(torch.tensor(rng.normal(size=(16, 12))), "linear", torch.float64) for _ in range(2))
        for unbiased, values in found.items():
            values.append(float(hsic.hsic_of_all_pairs([x], [y], unbiased).cross))
    z = {which: np.mean(values) / (np.std(values, ddof=1) / np.sqrt(len(values))) for which, values in found.items()}
    assert abs(z[True]) < 4
    assert z[False] > 4


@pytest.mark.parametrize("average", ["terms", "ratios"])
def test_minibatches_agree_with_the_full_batch_within_their_error(average):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1280, 6))
    y = x @ rng.normal(size=(6, 10)) + 4 * rng.normal(size=(1280, 10))
    whole, parts = (
        LayerPairs(("a", ["x"]), ("b", ["y"]), "cka_linear_unbiased", average),
        LayerPairs(("a", ["x"]), ("b", ["y"]), "cka_linear_unbiased", average),
    )
    whole.add([torch.tensor(x)], [torch.tensor(y)])
    for rows in np.split(np.arange(1280), 20):
        parts.add([torch.tensor(x[rows])], [torch.tensor(y[rows])])
    full, some = whole.result(), parts.result()
    assert np.isnan(full.errors).all()
    assert 0 < some.errors[0, 0] < 0.03
    assert abs(full.values - some.values)[0, 0] < 4 * some.errors[0, 0]
    # In the limit of many rows the estimators meet; in minibatches of 64 the biased one is far off.
    assert full.values[0, 0] == pytest.approx(cka_terms([(x, y)], "linear", hsic_biased), abs=0.01)
    parts = LayerPairs(("a", ["x"]), ("b", ["y"]), "cka_linear_biased", average)
    for rows in np.split(np.arange(1280), 20):
        parts.add([torch.tensor(x[rows])], [torch.tensor(y[rows])])
    assert parts.result().values[0, 0] - full.values[0, 0] > 4 * some.errors[0, 0]


@pytest.mark.parametrize("average", ["terms", "ratios"])
def test_the_error_is_how_far_repeats_scatter(average):
    rng = np.random.default_rng(5)
    values, errors = [], []
    for _ in range(150):
        pairs = LayerPairs(("a", ["x"]), ("b", ["y"]), "cka_linear_unbiased", average)
        for _ in range(12):
            x = rng.normal(size=(40, 3))
            pairs.add([torch.tensor(x)], [torch.tensor(x @ np.ones((3, 4)) + rng.normal(size=(40, 4)))])
        found = pairs.result()
        values.append(found.values[0, 0])
        errors.append(found.errors[0, 0])
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.25)


def test_the_error_of_a_mean_of_ratios_is_its_standard_error(batches):
    each = np.stack([grid([one], average="ratios").values for one in batches])
    assert np.allclose(grid(batches, average="ratios").errors, each.std(0, ddof=1) / 2, rtol=0, atol=1e-12)


def test_rsa_is_the_mean_correlation_of_the_minibatches(batches):
    expected = [[np.mean([rsa(x, y).value for x, y in of(batches, i, j)]) for j in range(2)] for i in range(3)]
    assert np.allclose(grid(batches, "rsa_cosine_spearman").values, expected, rtol=0, atol=1e-10)


def test_records_name_the_layers(batches):
    found = grid(batches)
    rows = found.records(recipe="family", seed=3)
    assert [(row.layer_a, row.layer_b) for row in rows[:3]] == [("a0", "b0"), ("a0", "b1"), ("a1", "b0")]
    assert (rows[5].measure, rows[5].source_model, rows[5].target_model, rows[5].seed) == ("cka", "a", "b", 3)
    assert (rows[5].comparison, rows[5].recipe) == ("a × b", "family")
    assert [row.value for row in rows] == found.values.ravel().tolist()
    assert rows[1].value_low == pytest.approx(found.values[0, 1] - 1.96 * found.errors[0, 1])
    assert rows[1].value_high == pytest.approx(found.values[0, 1] + 1.96 * found.errors[0, 1])
    assert grid(batches[:1]).records()[0].value_low is None
    assert "a1 " in str(found)
    assert "131 rows in 4 minibatches" in str(found)


def test_rows_are_not_changed_and_nothing_is_kept(batches):
    before = [x.clone() for x in batches[0][0]]
    pairs = LayerPairs(A, B)
    pairs.add(*batches[0])
    assert all(torch.equal(x, y) for x, y in zip(before, batches[0][0], strict=True))
    assert not [value for value in vars(pairs).values() if isinstance(value, torch.Tensor)]


def test_gradients_are_not_followed(batches):
    a, b = batches[0]
    pairs = LayerPairs(A, B)
    pairs.add([x.requires_grad_() for x in a], b)
    assert np.array_equal(pairs.result().values, grid(batches[:1]).values)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9 / 3])
@pytest.mark.parametrize("measure", ["cka_linear_unbiased", "cka_cosine_unbiased"])
def test_a_constant_unit_changes_nothing(batches, measure, constant):
    single = [tuple([x.float() for x in side] for side in one) for one in batches]
    beside = [([torch.cat([x, torch.full((len(x), 1), constant)], 1) for x in a], b) for a, b in single]
    assert np.allclose(grid(beside, measure).values, grid(single, measure).values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("average", ["terms", "ratios"])
@pytest.mark.parametrize("measure", [name for name in LAYERED if not name.startswith("rsa_cosine_spearman")])
def test_a_layer_of_equal_rows_is_refused(batches, measure, average):
    flat = [(a, [b[0], torch.full_like(b[1], 0.1)]) for a, b in batches]
    with refused(UnsupportedError, f"{measure} of b:b1, whose rows are all alike over"):
        grid(flat, measure, average)


def test_rsa_names_the_layer_of_equal_distances(batches):
    flat = [(a, [b[0], torch.ones_like(b[1])]) for a, b in batches]
    with refused(UnsupportedError, "rsa of b:b1, all of whose rows lie equally far apart,"):
        grid(flat, "rsa_cosine_spearman")


@ALL
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_refused(batches, measure, bad):
    batches[1][1][1][3, 2] = bad
    with refused(NotFiniteError, "b:b1 ", "1 value that is NaN or infinite"):
        grid(batches, measure)


@ALL
def test_too_few_rows_are_refused(batches, measure):
    one_row = [tuple([x[:1] for x in side] for side in batches[0])]
    fewest = 4 if measure.endswith("unbiased") else 3
    with refused(ShapeError, "a:a0 in minibatch 0 has shape (1, 5)", f"({fewest} or more, width)", "batch_size"):
        grid(one_row, measure)
    enough = tuple([x[:fewest] for x in side] for side in batches[0])
    assert np.isfinite(grid([enough], measure).values).all()


def test_unmatched_rows_are_refused(batches):
    a, b = batches[0]
    with refused(ShapeError, "b:b0 in minibatch 1 has shape (29, 7)", "(30, width), one row for each of a:a0"):
        grid([(a, b), (a, [x[:29] for x in b])])


def test_nothing_added_is_told():
    with refused(EmptyError, "the list of minibatches"):
        LayerPairs(A, B).result()


def test_misspelt_settings_get_the_nearest():
    with refused(UnknownNameError, "compare_layers has no measure 'cka_cosin'", "'cka_cosine'"):
        LayerPairs(A, B, "cka_cosin")
    with refused(UnknownNameError, "compare_layers has no average 'ratio'", "'ratios'"):
        LayerPairs(A, B, "cka_linear_unbiased", "ratio")
