"""Float matrices to integer codes and steps, at a wanted error: what the benchmarks compare.

Errors are mean squares in variances: of each row, or of the whole matrix for synthetic inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from inputs import Codes, Matrix

from squeeze.codecs.trellis.quantize import dequantize_trellis, quantize_trellis

Floats = npt.NDArray[np.float64]

INT6_K = 12.85


@dataclass(frozen=True)
class Quantized:
    """Codes of an input's matrices and all that rebuilds them.

    steps: bit patterns, uint16 for an fp16 a row of all matrices, uint32 for one fp32.
    error: mean squared, in variances. n_states: of the trellis, 0 for scalar.
    """

    name: str
    codes: list[Codes]
    steps: npt.NDArray[np.unsignedinteger[Any]]
    error: float
    n_states: int = 0


def row_sigmas(matrix: Matrix, synthetic: bool) -> Floats:
    """σ of each row [R, 1], or of the whole synthetic matrix [1, 1]."""
    sigma = matrix.astype(np.float64).std(None if synthetic else 1, keepdims=True)
    return np.maximum(sigma, 1e-8)


def step_floats(wanted: Floats, synthetic: bool) -> npt.NDArray[np.floating[Any]]:
    """Steps as stored, [R, 1]: fp16 a row, or one fp32."""
    return wanted.astype("<f4" if synthetic else "<f2")


def step_bits(steps: list[npt.NDArray[np.floating[Any]]]) -> npt.NDArray[np.unsignedinteger[Any]]:
    joined = np.concatenate([s.ravel() for s in steps])
    return joined.view(f"<u{joined.dtype.itemsize}")


def error_of(matrices: Sequence[Matrix], decoded: Sequence[Floats], synthetic: bool) -> float:
    total = sum(
        float((((m - d) / row_sigmas(m, synthetic)) ** 2).sum())
        for m, d in zip(matrices, decoded, strict=True)
    )
    return total / sum(m.size for m in matrices)


def int6(matrices: list[Matrix], synthetic: bool, k: float = INT6_K) -> Quantized:
    """Round to nearest with step k·σ/31 a row, clipped to ±31, as the records do."""
    codes, steps, decoded = [], [], []
    for matrix in matrices:
        step = step_floats(k / 31 * row_sigmas(matrix, synthetic), synthetic)
        codes.append(np.clip(np.rint(matrix / step.astype(float)), -31, 31).astype(np.int8))
        decoded.append(codes[-1] * step.astype(float))
        steps.append(step)
    error = error_of(matrices, decoded, synthetic)
    return Quantized(f"int6 k={k}", codes, step_bits(steps), error)


def trellis(matrices: list[Matrix], n_states: int, factor: float, synthetic: bool) -> Quantized:
    """Trellis with steps of about factor·σ a row, in eighths of an octave.

    The coarse grid costs 0.0009 bit a weight in error and saves some 6 bits a row.
    """
    codes, steps, decoded = [], [], []
    for matrix in matrices:
        wanted = row_sigmas(matrix, synthetic)
        if not synthetic:
            wanted = np.exp2(np.rint(8 * np.log2(wanted)) / 8)
        step = step_floats(factor * wanted, synthetic)
        indices = quantize_trellis(matrix, step.astype(float), n_states).indices
        codes.append(indices)
        decoded.append(dequantize_trellis(indices, n_states) * step.astype(float))
        steps.append(step)
    error = error_of(matrices, decoded, synthetic)
    return Quantized(f"trellis {n_states}", codes, step_bits(steps), error, n_states)


def trellis_at(matrices: list[Matrix], n_states: int, error: float, synthetic: bool) -> Quantized:
    """The trellis whose error is within 0.05 % of `error`, by regula falsi on logarithms."""
    points: list[tuple[float, float]] = []  # log factor, log of the error's excess
    at = np.log(1.95 * error**0.5)
    for _ in range(12):
        result = trellis(matrices, n_states, float(np.exp(at)), synthetic)
        excess = float(np.log(result.error / error))
        if abs(excess) < 5e-4:
            break
        points = sorted([*points, (float(at), excess)], key=lambda p: abs(p[1]))[:2]
        slope = 1.8
        if len(points) == 2:
            slope = (points[0][1] - points[1][1]) / (points[0][0] - points[1][0])
        at = points[0][0] - points[0][1] / min(max(slope, 0.5), 6.0)
    return result


def uniform_at(matrices: list[Matrix], error: float) -> Quantized:
    """Round-to-nearest with one step for all, at this error or the nearest a few steps find."""
    k = 31 * (12 * error) ** 0.5
    for _ in range(12):
        result = int6(matrices, True, k)
        if abs(result.error / error - 1) < 5e-4:
            break
        k *= (error / result.error) ** 0.5
    return Quantized("uniform", result.codes, result.steps, result.error)
