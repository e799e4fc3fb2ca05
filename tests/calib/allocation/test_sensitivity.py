"""The rate–loss curve: through what is known, falling, a factor of four a bit at high rates."""

from __future__ import annotations

import numpy as np
import pytest

from squeeze.calib.allocation.octaves import OCTAVES
from squeeze.calib.allocation.sensitivity import curve, gaussian
from squeeze.calib.allocation.waterfill import waterfill
from squeeze.calib.quantizers.trellis_gptq import TrellisOptions, trellis_gptq
from squeeze.calib.statistics.curvature import factorize, proxy_loss

RNG = np.random.default_rng(0)
WEIGHTS = (RNG.standard_normal((128, 96)) * np.exp2(RNG.uniform(-2, 2, 96))).astype(np.float32)
INPUTS = RNG.standard_normal((400, 96)) @ RNG.standard_normal((96, 96))
HESSIAN = (INPUTS.T @ INPUTS / 400).astype(np.float32)
FACTOR, ONES = factorize(HESSIAN), np.ones(128, np.float32)


def measured(scale: float) -> tuple[float, float]:
    """(bits a weight, loss) of quantizing at a scale."""
    steps = waterfill(WEIGHTS, FACTOR, ONES, scale)
    found = trellis_gptq(
        WEIGHTS, FACTOR, steps.rows, steps.columns, TrellisOptions(step_format="bf16")
    )
    loss = 0.5 * proxy_loss(found.tensor.dequantize() - WEIGHTS, HESSIAN)
    return found.bits / WEIGHTS.size, loss


def test_it_goes_through_what_is_known_and_falls() -> None:
    points = curve(WEIGHTS, FACTOR, ONES, 0.5, {0.0: (3.1, 0.02), 2.0: (1.2, 0.25)})
    bits, losses = zip(*points, strict=True)
    assert len(points) == len(OCTAVES)
    assert points[OCTAVES.index(0.0)] == pytest.approx((3.1, 0.02))
    assert points[OCTAVES.index(2.0)] == pytest.approx((1.2, 0.25))
    assert list(bits) == sorted(bits) and bits[0] >= 0
    assert list(losses) == sorted(losses, reverse=True)


def test_a_bit_more_quarters_the_loss_at_high_rates() -> None:
    points = curve(WEIGHTS, FACTOR, ONES, 0.02, {0.0: (6.0, 1e-4)})
    (bits, loss), (more, less) = points[-2:]
    assert more - bits == pytest.approx(1.0, abs=0.02)
    assert loss / less == pytest.approx(4.0, rel=0.05)


def test_it_foresees_what_quantizing_gives() -> None:
    points = curve(WEIGHTS, FACTOR, ONES, 0.5, {o: measured(0.5 * 2**o) for o in (0.0, 2.0)})
    for octaves in (3.0, 1.0, 0.5, -1.0):  # between the two known, and beyond them
        bits, loss = measured(0.5 * 2.0**octaves)
        foreseen = points[OCTAVES.index(octaves)]
        assert foreseen[0] == pytest.approx(bits, abs=0.05)
        assert foreseen[1] == pytest.approx(loss, rel=0.1)


def test_zeros_and_a_matrix_of_nothing_have_a_curve() -> None:
    zeros = np.zeros_like(WEIGHTS)
    points = curve(zeros, FACTOR, ONES, 0.5, {0.0: (0.1, 0.0)})
    assert all(np.isfinite(point).all() and point[1] == 0 for point in points)


def test_errors_of_gaussian_weights_end_at_those_of_zeros() -> None:
    octaves = np.array([-6.0, -5.0, -4.0, 0.0, 1.5, 9.0])
    errors = gaussian(octaves)
    assert errors[1] / errors[0] == pytest.approx(4.0) == pytest.approx(errors[2] / errors[1])
    assert errors[-1] == errors[-2] == 1.0
