"""Feedback between the rows of a matrix: later rows make up for the errors of earlier ones.

Curvature is H ⊗ G (K-FAC): G [R, R], the mean outer product of the gradients at the outputs, couples
rows as H couples columns. Its inverse factor feeds errors down the rows just as GPTQ feeds them
across the columns (two-sided LDL rounding: YAQA, arXiv 2505.22988). The trellis runs down the rows
too, so rows go in blocks: one trellis search per block and column, feedback between blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from squeeze.calib.curvature import Float64, factorize
from squeeze.calib.floats import Float32

BLOCK = 32  # rows; 16 to 96 differ by 4 % of the loss, docs/log.md
DAMPING = 0.1  # of G's mean diagonal; G comes from few tokens


@dataclass(frozen=True)
class RowFeedback:
    """importance: float32[R], what a squared error in a row costs once later blocks have made up.

    blocks: (first, last) rows of each. shares: for each block float64[R − last, last − first], what
    the rows behind it take on of its residuals.
    """

    importance: Float32
    blocks: tuple[tuple[int, int], ...]
    shares: tuple[Float64, ...]


def row_feedback(gradients: Float32, damping: float = DAMPING, block: int = BLOCK) -> RowFeedback:
    """Feedback for the G of a matrix, float32[R, R], or without any for its diagonal, float32[R].

    Raises BadData for NaN, infinities, a shape that is not square or no outer products' mean.
    """
    n_rows = len(gradients)
    if gradients.ndim == 1:
        return RowFeedback(gradients, ((0, n_rows),), (np.zeros((0, n_rows)),))
    factor = factorize(gradients, damping, act_order=False)
    importance = np.empty(n_rows, np.float32)
    blocks = [(first, min(first + block, n_rows)) for first in range(0, n_rows, block)]
    shares = []
    for first, last in blocks:
        # G restricted to this block and the rows behind it is the inverse of UᵀU of the same rows
        root = np.linalg.inv(factor.upper[first:last, first:last])
        importance[first:last] = (root**2).sum(1)
        shares.append(-(root @ factor.upper[first:last, last:]).T)
    importance[factor.dead] = 0.0
    return RowFeedback(importance, tuple(blocks), tuple(shares))
