"""Float matrices to integer codes and steps, at a wanted error: what the benchmarks compare.

Errors are mean squares in variances: of each row, or of the whole matrix for synthetic inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from inputs import Codes, Matrix

from squeeze.codecs.trellis import dequantize_trellis, quantize_trellis

Floats = npt.NDArray[np.float64]

INT6_K = 12.85


@dataclass(frozen=True)
class Quantized:
    """Codes of an input's matrices and all that rebuilds them."""

    name: str
    codes: list[Codes]
    side: bytes  # steps
    error: float  # mean squared, in variances
    n_states: int = 0


def row_sigmas(matrix: Matrix, synthetic: bool) -> Floats:
    """σ of each row [R, 1], or of the whole synthetic matrix [1, 1]."""
    sigma = matrix.astype(np.float64).std(None if synthetic else 1, keepdims=True)
    return np.maximum(sigma, 1e-8)


def steps_of(matrix: Matrix, factor: float, synthetic: bool) -> tuple[Floats, bytes]:
    """(steps as decoded, their bytes): fp16 a row, or one fp32."""
    dtype = np.dtype("<f4" if synthetic else "<f2")
    steps = (factor * row_sigmas(matrix, synthetic)).astype(dtype)
    return steps.astype(np.float64), steps.tobytes()


def error_of(matrices: Sequence[Matrix], decoded: Sequence[Floats], synthetic: bool) -> float:
    total = sum(
        float((((m - d) / row_sigmas(m, synthetic)) ** 2).sum())
        for m, d in zip(matrices, decoded, strict=True)
    )
    return total / sum(m.size for m in matrices)


def int6(matrices: list[Matrix], synthetic: bool, k: float = INT6_K) -> Quantized:
    codes, side, decoded = [], b"", []
    for matrix in matrices:
        steps, blob = steps_of(matrix, k / 31, synthetic)
        codes.append(np.clip(np.rint(matrix / steps), -31, 31).astype(np.int8))
        decoded.append(codes[-1] * steps)
        side += blob
    return Quantized(f"int6 k={k}", codes, side, error_of(matrices, decoded, synthetic))


def trellis(matrices: list[Matrix], n_states: int, factor: float, synthetic: bool) -> Quantized:
    codes, side, decoded = [], b"", []
    for matrix in matrices:
        steps, blob = steps_of(matrix, factor, synthetic)
        codes.append(quantize_trellis(matrix, steps, n_states).indices)
        decoded.append(dequantize_trellis(codes[-1], n_states) * steps)
        side += blob
    error = error_of(matrices, decoded, synthetic)
    return Quantized(f"trellis {n_states}", codes, side, error, n_states)


def trellis_at(matrices: list[Matrix], n_states: int, error: float, synthetic: bool) -> Quantized:
    """The trellis whose error is within 0.05 % of `error`."""
    factor = 1.95 * error**0.5
    for _ in range(8):
        result = trellis(matrices, n_states, factor, synthetic)
        if abs(result.error / error - 1) < 5e-4:
            break
        factor *= (error / result.error) ** 0.55
    return result


def uniform_at(matrices: list[Matrix], error: float) -> Quantized:
    """Round-to-nearest with one step for all, at this error or the nearest a few steps find."""
    k = 31 * (12 * error) ** 0.5
    for _ in range(12):
        result = int6(matrices, True, k)
        if abs(result.error / error - 1) < 5e-4:
            break
        k *= (error / result.error) ** 0.5
    return Quantized("uniform", result.codes, result.side, result.error)
