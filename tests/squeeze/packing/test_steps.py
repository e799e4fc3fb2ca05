"""Steps of tables, whose rows are short: fewer bytes for the same values, or for the same loss."""

import numpy as np

from squeeze.artifact.file import encode
from squeeze.artifact.streams import Artifact
from squeeze.calib.allocation.waterfill import (
    STEP_FORMAT,
    expected_loss,
    waterfill,
    waterfill_cheaply,
)
from squeeze.calib.quantizers.trellis_gptq import TrellisOptions, trellis_gptq
from squeeze.calib.statistics.curvature import factorize
from squeeze.packing.kept import with_idle_steps

IDENTITY = np.eye(32, dtype=np.float32)


def table():
    """A table [4096, 32] and the importance of its rows, over some eight octaves."""
    rng = np.random.default_rng(5)
    weights = rng.normal(size=(4096, 32)).astype(np.float32)
    return weights, np.exp2(rng.normal(0, 2, 4096)).astype(np.float32)


def quantized(fill, scale):
    weights, importance = table()
    factor = factorize(IDENTITY)
    steps = fill(weights, factor, importance, scale)
    options = TrellisOptions(step_format=STEP_FORMAT)
    return trellis_gptq(weights, factor, steps.rows, steps.columns, options).tensor


def size_of(tensor):
    return len(encode(Artifact({}, {"table": tensor})))


def test_steps_of_short_rows_save_a_twentieth_at_the_same_loss():
    weights, importance = table()

    def at(fill, scale):
        tensor = quantized(fill, scale)
        return size_of(tensor), expected_loss(weights - tensor.dequantize(), IDENTITY, importance)

    size, loss = at(waterfill, 3.0)
    (large, low), (small, high) = (at(waterfill_cheaply, scale) for scale in (2.7, 3.1))
    assert low < loss < high
    share = np.log(loss / low) / np.log(high / low)
    assert large + share * (small - large) < 0.95 * size


def test_rows_of_zeros_have_the_commonest_step():
    tensor = quantized(waterfill, 3.0)
    changed = with_idle_steps(tensor)
    idle = ~tensor.dequantize().any(1)
    assert 0.1 < idle.mean() < 0.9
    np.testing.assert_array_equal(changed.dequantize(), tensor.dequantize())
    np.testing.assert_array_equal(changed.steps[~idle], tensor.steps[~idle])
    assert len(np.unique(changed.steps[idle])) == 1 and size_of(changed) < size_of(tensor)


def test_without_rows_of_zeros_nothing_changes():
    tensor = quantized(waterfill, 0.1)
    assert with_idle_steps(tensor) is tensor
