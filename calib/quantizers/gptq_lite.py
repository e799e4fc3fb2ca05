"""Steps of GPTQ-lite: each row clipped at the percentile of least squared error (#374, #414)."""

from __future__ import annotations

import numpy as np

from squeeze.tensors.floats import Float32, from_bits, to_bits

PERCENTILES = (0.999, 0.9995, 0.9999, 0.99999, 1.0)


def lite_steps(matrix: Float32, bits: int) -> Float32:
    """Return the step of each row, float32[R], that clips it at the percentile of least error.

    The percentiles of |row| are those of PERCENTILES, interpolated as numpy does. Each candidate is
    rounded to fp16 before it is tried. Ties go to the smaller clip; a row of zeros gets
    step 1.

    matrix: float32[R, C].
    bits: number of bits of a code.
    """
    q_max = (1 << (bits - 1)) - 1
    magnitudes = np.abs(matrix)
    best = np.ones(len(matrix), np.float32)
    least = np.full(len(matrix), np.inf)
    for clip in np.quantile(magnitudes, PERCENTILES, axis=1):
        clip[clip == 0] = q_max
        exact = np.maximum(clip / q_max, np.float64(2.0**-24)).astype(np.float32)
        steps = from_bits(to_bits(exact, "fp16"), "fp16")
        error = matrix - np.clip(np.rint(matrix / steps[:, None]), -q_max, q_max) * steps[:, None]
        squared = np.einsum("rc,rc->r", error, error, dtype=np.float64)
        better = squared < least
        best[better], least[better] = steps[better], squared[better]
    return best
