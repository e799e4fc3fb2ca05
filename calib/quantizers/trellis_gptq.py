"""Trellis GPTQ: a trellis down the rows of each column, Hessian feedback across the columns.

A column's weights are searched as one trellis path of least error + λ·bits, then the later columns
make up for its errors as in GPTQ. This feedback needs no state per surviving path, because it enters
between columns, never within one; that between the rows does (`squeeze.calib.quantizers.survivors`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from squeeze.calib.quantizers.gptq import Block, Ordered, Pricing, feed_forward_, prepare
from squeeze.calib.quantizers.row_feedback import RowFeedback
from squeeze.calib.statistics.curvature import Factor
from squeeze.codecs.jit import njit
from squeeze.codecs.trellis.kernels import Columns, Workspace, make_workspace, search_
from squeeze.codecs.trellis.rates import bits_of, counted, first_guess, scale_classes
from squeeze.codecs.trellis.tables import check_states
from squeeze.errors import BadConfig, BadData
from squeeze.tensors.floats import Float32
from squeeze.tensors.quantized import QuantizedTensor

LAMBDA = 0.15  # squared steps per bit; see docs/log.md
COUNTING_STATES = 8  # of the trellis, at most, in the pass that only counts bits
LARGEST_WEIGHT = 40_000  # in steps; feedback may add half as much, and codes are int16 of n >> 1
HEADROOM = 1.5  # that feedback may add to the largest weight, in a price table
MARGIN = 64  # entries of a price table beyond that


@dataclass(frozen=True)
class TrellisOptions:
    """Settings of a trellis quantization.

    feedback: shares by which later rows make up for earlier ones; None where they do not.
    n_states: number of states of the trellis.
    lam: price of a bit in squared steps; right when steps² ∝ 1 / sensitivity, as
    `squeeze.calib.allocation.waterfill` makes them.
    step_format: float format to which the steps are rounded before anything is chosen.
    """

    feedback: RowFeedback | None = None
    n_states: int = 8
    lam: float = LAMBDA
    step_format: str = "fp16"


@dataclass(frozen=True)
class TrellisGptq:
    """Result of a search: the tensor, and the bits that the statistics of its codes promise."""

    tensor: QuantizedTensor
    bits: float


def trellis_gptq(
    weights: Float32,
    factor: Factor,
    steps: Float32,
    columns: npt.NDArray[np.int8] | None = None,
    options: TrellisOptions = TrellisOptions(),
) -> TrellisGptq:
    """Quantize a tensor to trellis indices.

    weights: float32, rows are the first dimension. Weights of dead columns count as 0.
    factor: of the Hessian of the inputs.
    steps: float32[R] > 0, the step of each row.
    columns: int8[C], exponents of the columns' steps in eighths of an octave.

    Raises BadConfig for an unknown trellis or a negative lam; BadData for shapes that disagree,
    steps that are not positive once rounded, weights that are not finite or more than
    LARGEST_WEIGHT steps large.
    """
    check_states(options.n_states)
    if not (np.isfinite(options.lam) and options.lam >= 0):
        raise BadConfig("trellis: lam out of range", expected="finite and ≥ 0", found=options.lam)
    matrix = prepare(weights, factor, steps, columns, options.step_format)
    feedback = options.feedback
    if feedback is not None and feedback.importance.shape != matrix.scales.shape:
        raise BadData(
            "row feedback does not match this matrix",
            expected=matrix.scales.shape,
            found=feedback.importance.shape,
        )
    multiples, bits = _searched(matrix, options)
    indices = matrix.in_tensor_order(multiples >> 1, np.int16)
    small = np.int8 if indices.size == 0 or np.abs(indices).max() < 128 else np.int16
    tensor = QuantizedTensor(
        codes=indices.astype(small),
        steps=matrix.patterns,
        shape=weights.shape,
        quantizer="trellis",
        step_format=options.step_format,
        states=options.n_states,
        columns=columns,
    )
    return TrellisGptq(tensor, bits)


def _searched(matrix: Ordered, options: TrellisOptions) -> tuple[npt.NDArray[np.int32], float]:
    """Return the multiples int32[C, R] of a matrix in quantization order, and the bits they cost.

    The first pass counts what indices cost, the second uses those prices.
    """
    if not matrix.working.size:
        return np.zeros(matrix.working.shape, np.int32), 0.0
    steps = matrix.scales[None, :].astype(np.float64) * matrix.factors[:, None]
    magnitudes = np.abs(matrix.working) / steps
    largest = float(magnitudes.max())
    if largest > LARGEST_WEIGHT:
        raise BadData(
            "trellis: weights too large for their step",
            expected=f"at most {LARGEST_WEIGHT} steps",
            found=f"{largest:.6g}",
            fix="Store this tensor without loss.",
        )
    classes = scale_classes(magnitudes)
    guess = first_guess(magnitudes, classes, int(HEADROOM * largest) + MARGIN)
    bits = bits_of(guess)
    for n_states in (min(COUNTING_STATES, options.n_states), options.n_states):
        pricing = Pricing(classes, options.lam * bits)
        multiples = _search(matrix, options.feedback, n_states, pricing)
        bits = bits_of(counted(multiples, classes, guess))
    return multiples, float(bits[classes, np.abs(multiples)].sum())


def _search(
    matrix: Ordered,
    feedback: RowFeedback | None,
    n_states: int,
    pricing: Pricing,
) -> npt.NDArray[np.int32]:
    """Return the multiples int32[C, R] that one pass over all columns chooses."""
    multiples = np.empty(matrix.working.shape, np.int32)
    search_block_, workspace = (
        (_search_block_, make_workspace(len(matrix.scales), n_states))
        if feedback is None or feedback.shares is None
        else feedback.search(n_states)
    )

    def quantize_(columns: slice, block: Block) -> None:
        search_block_(
            block, Pricing(pricing.classes[columns], pricing.prices), workspace, multiples[columns]
        )

    matrix.sweep(quantize_)
    return multiples


@njit(nogil=True)
def _search_block_(
    block_: Block,
    pricing: Pricing,
    workspace_: Workspace,
    multiples_: npt.NDArray[np.int32],
) -> None:
    """Search the columns of a block as `survivors.search_block_`, without feedback between rows."""
    n_cols, n_rows = block_.working.shape
    classes, prices = pricing.classes, pricing.prices
    targets, ones = np.empty((1, n_rows)), np.ones((1, n_rows))
    farthest = np.float64(prices.shape[1] - 8)  # candidates reach four multiples beyond
    for j in range(n_cols):
        for r in range(n_rows):
            step = np.float64(block_.scales[r]) * np.float64(block_.factors[j])
            targets[0, r] = min(max(block_.working[j, r] / step, -farthest), farthest)
        column = slice(j, j + 1)
        search_(Columns(targets, ones, classes[column]), prices, workspace_, multiples_[column])
        feed_forward_(block_, j, multiples_[j])
