"""GPTQ with the full Hessian: columns one after another, later ones make up for earlier errors.

E. Frantar et al., arXiv 2210.17323; as record entries use it (#1060: damping 0.01 of the mean
diagonal, act-order, blocks of 128). `gptq_reference` is the plain version and the test oracle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from squeeze.calib.parallel import product
from squeeze.calib.quantizers.round_to_nearest import check_bits
from squeeze.calib.statistics.curvature import Factor, Float64
from squeeze.codecs.jit import njit
from squeeze.errors import BadData
from squeeze.tensors.floats import Bits, Float32, from_bits, to_bits
from squeeze.tensors.quantized import QuantizedTensor, column_factors

BLOCK = 128  # columns between two matrix products
ENTRY_STEPS = "fp16"  # float format in which record entries store steps


class Block(NamedTuple):
    """Columns between two matrix products, in quantization order.

    working: float64[B, R], their weights, corrected for the errors of the columns before.
    upper: float64[B, B], U of these columns.
    scales: float32[R], the step of each row.
    factors: float32[B], the factor of each column's steps.
    errors: float64[B, R], filled with each column's error over U_jj.
    """

    working: Float64
    upper: Float64
    scales: Float32
    factors: Float32
    errors: Float64


class Pricing(NamedTuple):
    """Prices of the multiples of a step, for the weights of some columns.

    classes: uint8[B, R], the row of `prices` that each weight uses.
    prices: float64[G, M], the cost of coding a multiple of magnitude m, in each class.
    """

    classes: npt.NDArray[np.uint8]
    prices: Float64


@dataclass(frozen=True)
class Ordered:
    """A matrix ready to be quantized, its columns in quantization order.

    working: float64[C, R], the weights, zero in dead columns. float64, for a rounding that goes the
    other way changes every later column: with float32 the loss of one matrix differs from the
    reference by up to 1e-3 either way.
    factors: float32[C], the factor of each column's steps.
    patterns: [R], the step of each row as it is stored.
    scales: float32[R], the same steps as numbers.
    factor: of the Hessian.
    """

    working: Float64
    factors: Float32
    patterns: Bits
    scales: Float32
    factor: Factor

    def sweep(self, quantize_: Callable[[slice, Block], None]) -> None:
        """Quantize all columns block by block.

        quantize_: fills a block's errors, given its columns; the later blocks then make up for them.
        """
        working, upper = self.working.copy(), self.factor.upper
        for first in range(0, len(working), BLOCK):
            columns = slice(first, min(first + BLOCK, len(working)))
            later = slice(columns.stop, None)
            block = Block(
                working[columns],
                upper[columns, columns],
                self.scales,
                self.factors[columns],
                np.empty(working[columns].shape),
            )
            quantize_(columns, block)
            working[later] -= product(upper[columns, later].T, block.errors)

    def in_tensor_order(
        self, values: npt.NDArray[np.int32], dtype: npt.DTypeLike
    ) -> npt.NDArray[np.signedinteger[npt.NBitBase]]:
        """Return int32[C, R] in quantization order as [R, C] of another type."""
        ordered = np.empty(values.shape, dtype)
        ordered[self.factor.order] = values
        return np.ascontiguousarray(ordered.T)


def gptq(
    weights: Float32,
    factor: Factor,
    bits: int,
    steps: Float32,
    finer: npt.NDArray[np.int8] | None = None,
) -> QuantizedTensor:
    """Quantize a tensor to `bits`-bit codes in [−q_max, q_max], q_max = 2^(bits−1)−1.

    weights: float32, rows are the first dimension. Weights of dead columns become 0.
    factor: of the Hessian of the inputs, from `squeeze.calib.statistics.curvature.factorize`.
    steps: float32[R] > 0, the step of each row; rounded to fp16 before the codes are chosen.
    finer: int8[C] ≥ 0, bits by which a column's codes are longer, and octaves by which its steps are
        smaller; None for none.

    Raises BadConfig for bits out of range; BadData for shapes that disagree, steps that are not
    positive once rounded, and weights that are not finite.
    """
    longest = bits + (0 if finer is None else int(finer.max(initial=0)))
    check_bits(bits)
    check_bits(longest)
    columns = None if finer is None else (-8 * finer).astype(np.int8)
    matrix = prepare(weights, factor, steps, columns, ENTRY_STEPS)
    # (2^(bits−1)) over a column's factor, less one
    limits = (1 << (bits - 1)) / matrix.factors.astype(np.float64) - 1
    codes = np.empty(matrix.working.shape, np.int32)
    matrix.sweep(lambda part, block: _round_block_(block, limits[part], codes[part]))
    return QuantizedTensor(
        codes=matrix.in_tensor_order(codes, np.int8 if longest <= 8 else np.int16),
        steps=matrix.patterns,
        shape=weights.shape,
        step_format=ENTRY_STEPS,
        columns=columns,
    )


def prepare(
    weights: Float32,
    factor: Factor,
    steps: Float32,
    columns: npt.NDArray[np.int8] | None,
    step_format: str,
) -> Ordered:
    """Round the steps, zero the dead columns and put the columns in quantization order.

    columns: exponents of the columns' steps in eighths of an octave, or None for none.

    Raises BadData when the arguments do not fit each other or are not finite.
    """
    matrix = weights.reshape(weights.shape[0], math.prod(weights.shape[1:])).astype(np.float32)
    n_rows, n_cols = matrix.shape
    if factor.order.shape != (n_cols,) or steps.shape != (n_rows,):
        raise BadData(
            "Hessian or steps do not match this matrix",
            expected=f"{n_cols} columns and {n_rows} steps",
            found=f"{len(factor.order)} columns and {steps.shape} steps",
        )
    if columns is not None and (columns.shape != (n_cols,) or columns.dtype != np.int8):
        raise BadData(
            "column exponents do not match this matrix",
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
    factors = np.ones(n_cols, np.float32) if columns is None else column_factors(columns)
    working = np.ascontiguousarray(matrix.T[factor.order], np.float64)
    return Ordered(working, factors[factor.order], patterns, scales, factor)


@njit(nogil=True, _nrt=False)
def feed_forward_(block_: Block, j: int, multiples: npt.NDArray[np.int32]) -> None:
    """Record the error of column j, now int32[R] multiples of its steps; correct the columns after it.

    The product is formed in the order that `QuantizedTensor.dequantize` uses.
    """
    working, upper, factor = block_.working, block_.upper, block_.factors[j]
    inverse = 1.0 / upper[j, j]
    column, error = working[j], block_.errors[j]
    for r in range(working.shape[1]):
        error[r] = (column[r] - np.float32(multiples[r]) * block_.scales[r] * factor) * inverse
    for k in range(j + 1, working.shape[0]):
        share, other = upper[j, k], working[k]
        for r in range(working.shape[1]):
            other[r] -= share * error[r]


@njit(nogil=True, _nrt=False)
def _round_block_(block_: Block, limits: Float64, codes_: npt.NDArray[np.int32]) -> None:
    """Round the columns of a block one after the other; fill `codes_`, int32[B, R].

    limits: float64[B], the largest code of each column.
    """
    working, scales, factors = block_.working, block_.scales, block_.factors
    for j in range(working.shape[0]):
        limit = limits[j]
        for r in range(working.shape[1]):
            nearest = np.rint(working[j, r] / (scales[r] * factors[j]))
            codes_[j, r] = np.int32(min(max(nearest, -limit), limit))
        feed_forward_(block_, j, codes_[j])


def gptq_reference(
    weights: Float32, hessian: Float32, bits: int, steps: Float32, damping: float
) -> npt.NDArray[np.int64]:
    """Return codes [R, C] by the book: float64, the whole inverse updated after every column, no blocks.

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
