"""GPTQ with the full Hessian: columns one after another, later ones make up for earlier errors.

E. Frantar et al., arXiv 2210.17323; as record entries use it (#1060: damping 0.01 of the mean
diagonal, act-order, blocks of 128). `gptq_reference` is the plain version and the test oracle.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from squeeze.calib.quantizers.round_to_nearest import MAX_BITS, MIN_BITS
from squeeze.calib.statistics.curvature import Factor, Float64
from squeeze.codecs.jit import njit
from squeeze.errors import BadConfig, BadData
from squeeze.tensors.floats import Bits, Float32, from_bits, to_bits
from squeeze.tensors.quantized import QuantizedTensor, column_factors

BLOCK = 128  # columns between two matrix products


def gptq(
    weights: Float32,
    factor: Factor,
    bits: int,
    steps: Float32,
    *,
    columns: npt.NDArray[np.int8] | None = None,
    step_format: str = "fp16",
    logical: str = "fp32",
) -> QuantizedTensor:
    """Quantize a tensor to `bits`-bit codes in [−q_max, q_max], q_max = 2^(bits−1)−1.

    weights: float32, rows are the first dimension. factor: of the Hessian of the inputs, from
    `squeeze.calib.statistics.curvature.factorize`. steps: float32[R] > 0, rounded to `step_format`
    before the codes are chosen. columns: step exponents in eighths of an octave. Weights of dead
    columns become 0.

    Raises BadConfig for bits out of range; BadData for shapes that disagree, steps that are not
    positive once rounded, and weights that are not finite.
    """
    if not MIN_BITS <= bits <= MAX_BITS:
        raise BadConfig("bad number of bits", expected=f"{MIN_BITS}…{MAX_BITS}", found=bits)
    matrix, patterns, scales = prepare(weights, factor, steps, columns, step_format)
    limit = float((1 << (bits - 1)) - 1)
    working, factors = in_order(matrix, factor, columns)
    upper = factor.upper
    codes = np.empty(working.shape, np.int32)
    for first, last in blocks(len(working)):
        errors = np.empty((last - first, working.shape[1]))
        _round_block_(
            working[first:last], upper[first:last, first:last], scales, factors[first:last],
            limit, codes[first:last], errors,
        )  # fmt: skip
        working[last:] -= upper[first:last, last:].T @ errors
    return QuantizedTensor(
        codes=in_tensor_order(codes, factor, np.int8 if bits <= 8 else np.int16),
        steps=patterns,
        shape=weights.shape,
        step_format=step_format,
        logical=logical,
        columns=columns,
    )


def prepare(
    weights: Float32,
    factor: Factor,
    steps: Float32,
    columns: npt.NDArray[np.int8] | None,
    step_format: str,
) -> tuple[Float32, Bits, Float32]:
    """(matrix [R, C] with dead columns zeroed, step patterns [R], the float32 steps they stand for).

    Raises BadData when the arguments do not fit each other or are not finite.
    """
    matrix = weights.reshape(weights.shape[0], math.prod(weights.shape[1:])).astype(np.float32)
    n_rows, n_cols = matrix.shape
    if factor.order.shape != (n_cols,) or steps.shape != (n_rows,):
        raise BadData(
            "Hessian or steps of another matrix",
            expected=f"{n_cols} columns and {n_rows} steps",
            found=f"{len(factor.order)} columns and {steps.shape} steps",
        )
    if columns is not None and (columns.shape != (n_cols,) or columns.dtype != np.int8):
        raise BadData(
            "column exponents",
            expected=f"int8 [{n_cols}]",
            found=f"{columns.dtype} {columns.shape}",
        )
    if not np.isfinite(matrix).all():
        raise BadData("weights are not finite", found="NaN or infinity")
    patterns = to_bits(steps.astype(np.float32), step_format)
    scales = from_bits(patterns, step_format)
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        raise BadData(
            f"steps do not fit {step_format}",
            expected="positive and finite once rounded",
            found=f"{steps.min():g}…{steps.max():g}",
        )
    matrix[:, factor.dead] = 0.0
    return matrix, patterns, scales


def in_order(
    matrix: Float32, factor: Factor, columns: npt.NDArray[np.int8] | None
) -> tuple[Float64, Float32]:
    """The matrix as float64[C, R] in quantization order, and its column factors [C].

    float64, for a rounding that goes the other way changes every later column: with float32 the loss
    of one matrix differs from the reference by up to 1e-3 either way.
    """
    factors = np.ones(matrix.shape[1], np.float32) if columns is None else column_factors(columns)
    working = np.ascontiguousarray(matrix.T[factor.order], np.float64)
    return working, factors[factor.order]


def in_tensor_order(
    values: npt.NDArray[np.int32], factor: Factor, dtype: npt.DTypeLike
) -> npt.NDArray[np.signedinteger[npt.NBitBase]]:
    """[C, R] in quantization order back to [R, C]."""
    back = np.empty(values.shape, dtype)
    back[factor.order] = values
    return np.ascontiguousarray(back.T)


def blocks(n_cols: int) -> list[tuple[int, int]]:
    """(first, last) of each run of BLOCK columns."""
    return [(first, min(first + BLOCK, n_cols)) for first in range(0, n_cols, BLOCK)]


@njit(nogil=True)
def feed_forward_(
    working: Float64, upper: Float64, j: int, scales: Float32, factor: np.float32,
    chosen: npt.NDArray[np.int32], errors: Float64,
) -> None:  # fmt: skip
    """Column j of a block is now `chosen` multiples: record its error, correct the block's others.

    working: float64[B, R] of the block; upper: U of the block; errors: float64[B, R], error over
    U_jj. The product is formed in the order that `QuantizedTensor.dequantize` uses.
    """
    inverse = 1.0 / upper[j, j]
    column, error = working[j], errors[j]
    for r in range(working.shape[1]):
        error[r] = (column[r] - np.float32(chosen[r]) * scales[r] * factor) * inverse
    for k in range(j + 1, working.shape[0]):
        share, other = upper[j, k], working[k]
        for r in range(working.shape[1]):
            other[r] -= share * error[r]


@njit(nogil=True)
def _round_block_(
    working: Float64, upper: Float64, scales: Float32, factors: Float32, limit: float,
    codes: npt.NDArray[np.int32], errors: Float64,
) -> None:  # fmt: skip
    for j in range(working.shape[0]):
        for r in range(working.shape[1]):
            nearest = np.rint(working[j, r] / (scales[r] * factors[j]))
            codes[j, r] = np.int32(min(max(nearest, -limit), limit))
        feed_forward_(working, upper, j, scales, factors[j], codes[j], errors)


def gptq_reference(
    weights: Float32, hessian: Float32, bits: int, steps: Float32, damping: float
) -> npt.NDArray[np.int64]:
    """Codes [R, C] by the book: float64, the whole inverse updated after every column, no blocks.

    After column j, with inverse Hessian A of the columns left: W −= (error / A_jj)·A_j, then column
    j is eliminated from A. No dead columns, no column steps; act-order as `factorize`.
    """
    work = weights.astype(np.float64)
    damped = hessian.astype(np.float64)
    damped += damping * damped.diagonal().mean() * np.eye(len(damped))
    order = np.argsort(-hessian.diagonal(), kind="stable")
    inverse = np.linalg.inv(damped)
    limit = (1 << (bits - 1)) - 1
    codes = np.zeros(weights.shape, np.int64)
    for j in order:
        codes[:, j] = np.clip(np.rint(work[:, j] / steps), -limit, limit)
        error = (work[:, j] - codes[:, j] * steps) / inverse[j, j]
        work -= np.outer(error, inverse[j])
        inverse = inverse - np.outer(inverse[:, j], inverse[j]) / inverse[j, j]
    return codes
