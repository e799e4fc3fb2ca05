"""Feedback between the rows of a matrix: later rows make up for the errors of earlier ones.

Curvature is H ⊗ G (K-FAC): G [R, R], the mean outer product of the gradients at the outputs, couples
rows as H couples columns. Its inverse factor feeds errors down the rows just as GPTQ feeds them
across the columns (two-sided LDL rounding: YAQA, arXiv 2505.22988).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from squeeze.calib.quantizers.survivors import Workspace, make_workspace, search_block_
from squeeze.calib.statistics.curvature import Float64, factorize
from squeeze.tensors.floats import Float32

ROW_DAMPING = 0.1  # of G's mean diagonal; G comes from few tokens


@dataclass(frozen=True)
class RowFeedback:
    """Shares by which later rows make up for the errors of earlier ones.

    importance: float32[R], cost of a squared error in each row, once later rows have made up for it.
    shares: float64[R, R], zero on and below the diagonal: the correction of row s behind row r for a
    unit error of row r; None where rows do not make up for each other.
    """

    importance: Float32
    shares: Float64 | None = None

    def search(self, n_states: int) -> tuple[Any, Workspace]:
        """Return the compiled search of a block whose rows make up for each other, and its workspace."""
        assert self.shares is not None
        return search_block_, make_workspace(self.shares, n_states)


def row_feedback(gradients: Float32, damping: float = ROW_DAMPING) -> RowFeedback:
    """Return the feedback between the rows of a matrix.

    gradients: G, float32[R, R], or its diagonal, float32[R], which allows no feedback.
    damping: share of G's mean diagonal that is added to the diagonal.

    Raises BadData for NaN, infinities, a shape that is not square or no outer products' mean.
    """
    if gradients.ndim == 1:
        return RowFeedback(gradients)
    factor = factorize(gradients, damping, act_order=False)
    # G restricted to the rows from r on is the inverse of UᵀU of the same rows
    diagonal = factor.upper.diagonal()
    importance = (diagonal**-2.0).astype(np.float32)
    importance[factor.dead] = 0.0
    return RowFeedback(importance, np.triu(-factor.upper / diagonal[:, None], 1))
