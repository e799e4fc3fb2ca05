"""Low-rank correction of a quantized matrix (LQER, arXiv 2402.02446; record #1855 corrects three).

W ≈ Q + A·B with A [R, r] and B [r, C], chosen so that what is left costs the least expected loss:
the best approximation of G^½·(W − Q)·H^½.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from squeeze.calib.allocation.waterfill import expected_loss
from squeeze.calib.parallel import one_thread, product
from squeeze.calib.statistics.curvature import Float64
from squeeze.errors import BadConfig, BadData
from squeeze.tensors.floats import Float32, round_to

ROOT_DAMPING = 1e-4  # of the mean diagonal: keeps the square roots invertible


@dataclass(frozen=True)
class LowRank:
    """A correction and its gain.

    left: float32[R, r], exactly representable in `number`.
    right: float32[r, C], likewise.
    before: expected loss without the correction, nats per token.
    after: expected loss with it.
    bytes: size when stored plainly, two bytes a number.
    number: float format of both factors.
    """

    left: Float32
    right: Float32
    before: float
    after: float
    bytes: int
    number: str = "bf16"


def low_rank(
    delta: Float32, hessian: Float32, gradients: Float32, rank: int, number: str = "bf16"
) -> LowRank:
    """Return the best correction of rank `rank`.

    delta: error W − Q, float32[R, C].
    hessian: second moments of the inputs, float32[C, C].
    gradients: G, float32[R, R], or its diagonal, float32[R].
    number: float format that both factors are rounded to.

    Raises BadConfig for a rank below 1 or above the smaller side, BadData for values not finite.
    """
    if not 1 <= rank <= min(delta.shape, default=0):
        raise BadConfig("rank", expected=f"1…{min(delta.shape, default=0)}", found=rank)
    if not all(np.isfinite(array).all() for array in (delta, hessian, gradients)):
        raise BadData("low-rank correction: error or curvature is not finite")
    full = np.diag(gradients) if gradients.ndim == 1 else gradients
    rows, rows_back = _roots(full)
    columns, columns_back = _roots(hessian)
    felt = product(product(rows, delta.astype(np.float64)), columns)
    with one_thread():
        u, s, vt = (
            part.numpy() for part in torch.linalg.svd(torch.tensor(felt), full_matrices=False)
        )
    share = np.sqrt(s[:rank])
    left = round_to(product(rows_back, u[:, :rank] * share).astype(np.float32), number)
    right = round_to(product(share[:, None] * vt[:rank], columns_back).astype(np.float32), number)
    before = expected_loss(delta, hessian, gradients)
    after = expected_loss(delta - product(left, right), hessian, gradients)
    return LowRank(left, right, before, after, 2 * (left.size + right.size), number)


def _roots(matrix: Float32) -> tuple[Float64, Float64]:
    """Return M^½ and M^−½ of a damped positive semidefinite matrix; identities for zeros."""
    wide = matrix.astype(np.float64)
    mean = float(wide.diagonal().mean()) or 1.0
    with one_thread():
        values, vectors = (part.numpy() for part in torch.linalg.eigh(torch.tensor(wide)))
    roots = np.sqrt(np.maximum(values, 0.0) + ROOT_DAMPING * mean)
    return product(vectors * roots, vectors.T), product(vectors / roots, vectors.T)
