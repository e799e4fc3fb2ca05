"""Trellis quantization: exact inverse, compiled = reference, and the claim against scalar."""

import math

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squeeze.codecs.trellis import quantize as trellis
from squeeze.codecs.trellis.quantize import (
    ColumnSearch,
    Rates,
    SearchOptions,
    dequantize_trellis,
    fit_rates,
    quantize_trellis,
)
from squeeze.codecs.trellis.rates import CLASSES, bits_of, first_guess
from squeeze.codecs.trellis.reference import multiples_reference, search_reference
from squeeze.codecs.trellis.tables import PARITY_CHECKS, supersets
from squeeze.errors import BadConfig, SqueezeError

needs_jit = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="minutes as plain Python, and no branch of its own"
)
every_trellis = pytest.mark.parametrize("n_states", PARITY_CHECKS)


def gaussian(rows, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def price_table(lam, mean_magnitude, length):
    """λ·bits of a two-sided geometric law for every class, the same in all."""
    magnitudes = np.full((1, 1), mean_magnitude)
    return lam * bits_of(first_guess(magnitudes, np.zeros((1, 1), np.uint8), length))


def order0_bits(indices, superset):
    """Ideal code length of `indices`, bits per element, given which superset each came from."""
    total = 0.0
    for which in np.unique(superset):
        counts = np.unique(indices[superset == which], return_counts=True)[1]
        total -= float((counts * np.log2(counts / counts.sum())).sum())
    return total / indices.size


def gap_to_shannon(weights, multiples, step, bits_per_weight):
    error = float(((weights - multiples * step) ** 2).mean() / (weights.astype(float) ** 2).mean())
    return bits_per_weight - 0.5 * math.log2(1 / error)


# ---- the compiled search is the reference ---------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    n_states=st.sampled_from(list(PARITY_CHECKS)),
    length=st.integers(0, 40),
    scale=st.sampled_from([0.0, 1e-300, 1e-6, 0.3, 1.0, 4.0, 100.0, 15000.0]),
    lam=st.sampled_from([0.0, 0.1, 0.3, 5.0]),
    exact_ties=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_compiled_search_equals_reference(n_states, length, scale, lam, exact_ties, seed):
    rng = np.random.default_rng(seed)
    column = scale * rng.standard_normal(length)
    importance = rng.choice([0.0, 0.5, 1.0, 3.7, 1e12], length)
    if exact_ties:
        column = np.round(2 * column) / 2
    table_length = int(np.abs(column).max(initial=0.0)) + 8
    price = price_table(lam, float(np.abs(column).mean()) if length else 0.0, table_length)
    price *= rng.uniform(0.5, 1.5, (CLASSES, 1))
    classes = rng.integers(0, CLASSES, length, np.uint8)
    compiled = ColumnSearch(length, n_states)(column, price, importance, classes)
    expected = search_reference(
        column.tolist(), importance.tolist(), price.tolist(), classes.tolist(), n_states
    )
    assert compiled.tolist() == expected


@needs_jit
@settings(max_examples=12, deadline=None)
@given(
    n_states=st.sampled_from(list(PARITY_CHECKS)),
    length=st.integers(0, 4096),
    seed=st.integers(0, 2**32 - 1),
)
def test_compiled_search_equals_reference_on_long_columns(n_states, length, seed):
    column = np.random.default_rng(seed).standard_normal(length) / 0.3
    price = price_table(0.3, 2.0, 40)
    compiled = ColumnSearch(length, n_states)(column, price)
    assert compiled.tolist() == search_reference(
        column.tolist(), [1.0] * length, price.tolist(), [0] * length, n_states
    )


@settings(max_examples=30, deadline=None)
@given(
    n_states=st.sampled_from(list(PARITY_CHECKS)),
    columns=st.integers(0, 5),
    indices=st.lists(st.integers(-(2**15), 2**15 - 1), max_size=30),
)
def test_compiled_inverse_equals_reference(n_states, columns, indices):
    matrix = np.repeat(np.array(indices, np.int16)[:, None], columns, axis=1)
    decoded = dequantize_trellis(matrix, n_states)
    assert decoded.shape == matrix.shape
    for column in decoded.T:
        assert column.tolist() == multiples_reference(indices, n_states)


# ---- what the result means ------------------------------------------------------------------


@every_trellis
@pytest.mark.parametrize("length", [1, 2, 3, 4096])
def test_indices_give_back_the_multiples_the_search_chose(n_states, length):
    column = gaussian(length, 1)[:, 0].astype(float) / 0.2
    price = price_table(0.3, 3.0, 40)
    multiples = ColumnSearch(length, n_states)(column, price)
    assert (dequantize_trellis((multiples >> 1)[:, None], n_states)[:, 0] == multiples).all()


@every_trellis
def test_multiples_lie_in_the_superset_of_their_state(n_states):
    result = quantize_trellis(gaussian(50, 3), 0.3, n_states)
    multiples = dequantize_trellis(result.indices, n_states)
    assert (multiples[0] % 2 == supersets(n_states)[0]).all()
    assert np.abs(gaussian(50, 3) - 0.3 * multiples).max() < 0.3 * 4


@every_trellis
def test_search_is_optimal_among_all_short_paths(n_states):
    column = np.array([0.7, -1.2, 2.6, 0.1])
    price = price_table(0.2, 1.5, 16)
    found = ColumnSearch(4, n_states)(column, price)

    def cost(multiples):
        return sum((x - n) ** 2 + price[0, abs(n)] for x, n in zip(column, multiples, strict=True))

    choices = np.stack(np.meshgrid(*[range(-3, 4)] * 4), -1).reshape(-1, 4)
    every = [multiples_reference(path, n_states) for path in choices.tolist()]
    assert cost(found) == pytest.approx(min(map(cost, every)), abs=1e-12)


@needs_jit
def test_more_states_bring_less_cost():
    weights, costs = gaussian(512, 64), []
    for n_states in PARITY_CHECKS:
        result = quantize_trellis(weights, 0.3, n_states)
        multiples = dequantize_trellis(result.indices, n_states)
        error = ((weights / 0.3 - multiples) ** 2).mean()
        costs.append(
            error + 0.3 * result.rates.bits[result.rates.classes, np.abs(multiples)].mean()
        )
    assert costs == sorted(costs, reverse=True)


@needs_jit
@pytest.mark.parametrize(("step", "scalar_step"), [(0.24, 0.44), (0.48, 0.9), (0.9, 1.5)])
def test_trellis_beats_rate_optimised_scalar_by_a_tenth_of_a_bit(step, scalar_step):
    """At about 3, 2 and 1 bits; the scalar quantizer gets the same kind of rate term."""
    weights = gaussian(512, 512)
    result = quantize_trellis(weights, step, 8)
    multiples = dequantize_trellis(result.indices, 8)
    trellis_gap = gap_to_shannon(
        weights, multiples, step, order0_bits(result.indices, multiples & 1)
    )
    scalar_gaps = []
    for scalar_lam in (0.0, 0.1, 0.15):
        codes = np.rint(weights / scalar_step).astype(int)
        for _ in range(5):
            values, counts = np.unique(codes, return_counts=True)
            bits = -np.log2(counts / counts.sum())
            costs = (weights.ravel()[:, None] / scalar_step - values) ** 2 + scalar_lam * bits
            codes = values[costs.argmin(1)].reshape(weights.shape)
        scalar_gaps.append(
            gap_to_shannon(weights, codes, scalar_step, order0_bits(codes, np.zeros_like(codes)))
        )
    assert trellis_gap < min(scalar_gaps) - 0.1
    assert trellis_gap < 0.08


@needs_jit
def test_rate_term_pays():
    """The same error costs fewer bits with the rate term than without."""
    weights = gaussian(512, 256)

    def gap(step, lam):
        result = quantize_trellis(weights, step, 8, SearchOptions(lam))
        multiples = dequantize_trellis(result.indices, 8)
        return gap_to_shannon(weights, multiples, step, order0_bits(result.indices, multiples & 1))

    assert gap(0.48, None) < gap(0.53, 0.0) - 0.03


# ---- steps, importances, shapes -------------------------------------------------------------


def test_steps_broadcast_over_rows_and_columns():
    weights = gaussian(40, 6)
    rows = np.linspace(0.1, 0.5, 40)[:, None]
    columns = np.linspace(0.2, 0.6, 6)[None, :]
    full = rows * columns
    for step in (rows, columns, full):
        given_ = quantize_trellis(weights, step, 8)
        spread = quantize_trellis(weights, np.broadcast_to(step, weights.shape).copy(), 8)
        assert (given_.indices == spread.indices).all()


def test_scaling_weights_and_steps_together_changes_nothing():
    weights = gaussian(64, 8)
    plain = quantize_trellis(weights, 0.25, 8)
    scaled = quantize_trellis(weights * 2**-20, 0.25 * 2**-20, 8)
    assert (plain.indices == scaled.indices).all()


def test_important_weights_get_smaller_errors():
    weights = gaussian(256, 64)
    importance = np.ones((1, 64))
    importance[0, :32] = 30.0
    result = quantize_trellis(weights, 0.5, 8, SearchOptions(1.0, importance))
    errors = (weights / 0.5 - dequantize_trellis(result.indices, 8)) ** 2
    assert errors[:, :32].mean() < 0.8 * errors[:, 32:].mean()


def test_worthless_weights_cost_next_to_nothing():
    result = quantize_trellis(gaussian(256, 64), 0.1, 8, SearchOptions(importance=0.0))
    assert np.abs(result.indices).max() <= 1


@every_trellis
def test_all_zero_weights_stay_zero(n_states):
    result = quantize_trellis(np.zeros((33, 5), np.float32), 0.1, n_states)
    assert not dequantize_trellis(result.indices, n_states).any()


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (1, 1), (1, 70), (70, 1)])
def test_odd_shapes_keep_their_shape(shape):
    result = quantize_trellis(gaussian(*shape), 0.3, 8)
    assert result.indices.shape == shape
    assert dequantize_trellis(result.indices, 8).shape == shape


def test_indices_take_the_smallest_type_that_holds_them():
    weights = gaussian(16, 4)
    assert quantize_trellis(weights, 0.3, 8).indices.dtype == np.int8
    assert quantize_trellis(weights, 1e-3, 8).indices.dtype == np.int16


def test_largest_weight_in_steps_still_fits():
    weights = np.array([[65_000.0], [-65_000.0], [3.0]], np.float32)
    result = quantize_trellis(weights, 1.0, 8)
    error = np.abs(dequantize_trellis(result.indices, 8) - weights).max()
    assert result.indices.dtype == np.int16
    assert error <= 4


def test_huge_steps_quantize_to_zero():
    result = quantize_trellis(gaussian(64, 4), 1e30, 8)
    assert not dequantize_trellis(result.indices, 8).any()


# ---- determinism ----------------------------------------------------------------------------


@needs_jit
@pytest.mark.parametrize("n_states", [8, 256])
def test_one_and_two_threads_give_the_same_indices(n_states):
    weights = gaussian(128, 200)
    one = quantize_trellis(weights, 0.3, n_states, SearchOptions(threads=1))
    two = quantize_trellis(weights, 0.3, n_states, SearchOptions(threads=2))
    assert one.indices.tobytes() == two.indices.tobytes()
    assert one.rates.bits.tobytes() == two.rates.bits.tobytes()


def test_given_rates_are_used_as_they_are():
    weights = gaussian(64, 10)
    rates = fit_rates(weights, 0.3, 8)
    again = quantize_trellis(weights, 0.3, 8, SearchOptions(rates=rates))
    assert again.rates is rates
    assert again.indices.tobytes() == quantize_trellis(weights, 0.3, 8).indices.tobytes()


def test_column_search_equals_the_matrix_search():
    weights, step = gaussian(100, 3) * np.array([[0.3, 1.0, 3.0]], np.float32), 0.3
    result = quantize_trellis(weights, step, 16, SearchOptions(0.35))
    column_search = ColumnSearch(100, 16)
    price = 0.35 * result.rates.bits
    for j in range(3):
        classes = np.ascontiguousarray(result.rates.classes[:, j])
        multiples = column_search(weights[:, j] / np.float64(step), price, classes=classes)
        assert (multiples >> 1 == result.indices[:, j]).all()


@needs_jit
def test_rates_that_know_the_scale_of_a_column_cost_less(monkeypatch):
    """Columns of different scales, coded with their scale known: gap at 2 bits or so."""
    scales = np.exp2(np.random.default_rng(0).uniform(-2, 2, 256))
    weights = (gaussian(512, 256) * scales).astype(np.float32)

    def mean_gap():
        multiples = dequantize_trellis(
            quantize_trellis(weights, 1.0, 8, SearchOptions(0.36)).indices, 8
        )
        bits = [order0_bits(n >> 1, n & 1) for n in multiples.T]
        return np.mean(bits) - 0.5 * math.log2(1 / ((weights - multiples) ** 2).mean())

    aware = mean_gap()
    monkeypatch.setattr(trellis, "scale_classes", lambda w: np.zeros(w.shape, np.uint8))
    assert aware < mean_gap() - 0.01


def test_inputs_are_left_alone():
    weights, steps = gaussian(20, 4), np.full((20, 1), 0.3)
    before = weights.copy(), steps.copy()
    quantize_trellis(weights, steps, 8)
    assert (weights == before[0]).all()
    assert (steps == before[1]).all()


# ---- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(bad):
    weights = gaussian(4, 4)
    weights[2, 1] = bad
    with pytest.raises(SqueezeError, match="not finite"):
        quantize_trellis(weights, 0.3, 8)


@pytest.mark.parametrize("bad", [0.0, -0.1, np.nan, np.inf])
@pytest.mark.parametrize("shape", [(), (4, 1), (1, 4), (4, 4)])
def test_bad_step_is_refused(bad, shape):
    steps = np.full(shape, 0.3)
    steps[(0,) * len(shape)] = bad
    with pytest.raises(BadConfig, match="step out of range"):
        quantize_trellis(gaussian(4, 4), steps, 8)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_bad_importance_is_refused(bad):
    with pytest.raises(BadConfig, match="importance out of range"):
        quantize_trellis(gaussian(4, 4), 0.3, 8, SearchOptions(importance=bad))


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_bad_lambda_is_refused(bad):
    with pytest.raises(BadConfig, match="lam out of range"):
        quantize_trellis(gaussian(4, 4), 0.3, 8, SearchOptions(bad))


def test_step_of_the_wrong_shape_is_refused():
    with pytest.raises(BadConfig, match="step does not fit"):
        quantize_trellis(gaussian(4, 4), np.ones((3, 1)), 8)


def test_too_small_step_is_refused():
    with pytest.raises(SqueezeError, match="too large for their step"):
        quantize_trellis(gaussian(4, 4), 1e-9, 8)


def test_unknown_trellis_is_refused():
    with pytest.raises(BadConfig, match="no such number of states"):
        quantize_trellis(gaussian(4, 4), 0.3, 12)


@pytest.mark.parametrize(
    ("shape", "magnitudes", "chosen"), [((4, 5), 40, 0), ((4, 4), 3, 0), ((4, 4), 40, 1)]
)
def test_rates_of_another_matrix_are_refused(shape, magnitudes, chosen):
    rates = Rates(np.ones((1, magnitudes)), np.full(shape, chosen, np.uint8))
    with pytest.raises(BadConfig, match="rates do not match this matrix"):
        quantize_trellis(gaussian(4, 4), 0.3, 8, SearchOptions(rates=rates))


@pytest.mark.parametrize(
    "weights", [np.zeros(4, np.float32), np.zeros((2, 2)), np.zeros((2, 2, 2), np.float32)]
)
def test_wrong_dtype_or_dimension_is_refused(weights):
    with pytest.raises(SqueezeError, match="2-D of float32"):
        quantize_trellis(weights, 0.3, 8)


def test_column_too_long_for_its_traceback_is_refused_before_allocation():
    with pytest.raises(BadConfig, match="column too long"):
        ColumnSearch(2**23, 256)
