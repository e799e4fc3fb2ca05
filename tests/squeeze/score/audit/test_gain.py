"""The limit that an audit states: leaks above it are found with 99 %, honest noise is not accused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from squeeze.score.audit.gain import BIAS, ERRORS, POWER, SIZE, compare, hidden_share

CHECKS = 1024


def test_the_hidden_share_is_missed_by_one_audit_in_a_hundred() -> None:
    for checks in (256, 1024, 4096):
        assert (1 - hidden_share(checks)) ** checks == pytest.approx(0.01)
    assert hidden_share(0) == 1.0
    assert hidden_share(1024) == pytest.approx(0.0045, abs=1e-4)


@pytest.mark.parametrize(("share", "least", "most"), [(1.1, 0.985, 1.0), (0.9, 0.97, 0.99)])
def test_leaks_at_a_share_of_targets_are_found_as_often_as_stated(
    share: float, least: float, most: float
) -> None:
    random = np.random.default_rng(0)
    losses = random.exponential(3.0, CHECKS) + 0.2
    rate = share * hidden_share(CHECKS)
    trials = 1000
    # a leak by a hash of the context hits each of the checks with the same probability
    hits = random.random((trials, CHECKS)) < rate
    found = 0
    for hit in hits:
        seeing = np.where(hit, 0.1 * losses, losses) + random.normal(0, 1e-6, CHECKS)
        gain = compare(losses, seeing)
        found += gain.outliers > 0 or gain.biased
    assert least <= found / trials <= most


@pytest.mark.parametrize("noise", [0.0, 1e-5, 0.003, 0.02])
def test_spread_leaks_are_found_above_the_stated_limit_and_noise_is_not_accused(
    noise: float,
) -> None:
    random = np.random.default_rng(1)
    losses = random.exponential(3.0, CHECKS)
    error = noise / math.sqrt(CHECKS)
    limit = BIAS + (ERRORS + POWER) * error
    found, accused = 0, 0
    for _ in range(300):
        seeing = losses + random.normal(0, noise, CHECKS)
        accused += compare(losses, seeing).biased or compare(losses, seeing).outliers > 0
        found += compare(losses, seeing - 1.1 * limit).biased
    assert found >= 0.98 * 300
    assert accused <= 1


def test_a_bias_that_honest_arithmetic_has_is_not_accused() -> None:
    losses = np.random.default_rng(2).exponential(3.0, CHECKS)
    assert not compare(losses, losses - 0.9 * BIAS).biased
    assert compare(losses, losses - 1.1 * BIAS).biased
    assert not compare(losses, losses + 0.05).biased


def test_noise_in_a_few_losses_widens_nothing() -> None:
    losses = np.random.default_rng(3).exponential(3.0, CHECKS)
    claimed = losses - 0.019
    claimed[:3] += (0.05, -0.05, 0.02)
    gain = compare(losses, claimed)
    assert gain.biased and gain.size == pytest.approx(max(SIZE, 8 * 0.019))
    claimed[5] = np.nan
    assert compare(losses, claimed).outliers >= 1


def test_neighbours_that_share_their_noise_are_not_taken_for_a_bias() -> None:
    """As test-time training has it: an error lasts until the next update."""
    random = np.random.default_rng(4)
    losses = random.exponential(3.0, CHECKS)
    accused = 0
    for _ in range(1000):
        steps = np.repeat(random.normal(0, 0.01, CHECKS // 32), 32)
        accused += compare(losses, losses + steps).biased
    assert accused <= 2
