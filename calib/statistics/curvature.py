"""Cost of weight errors: the factor of an inverse Hessian that GPTQ feeds errors forward with.

Notation: a matrix W [R, C] multiplies inputs x [C] with second moments H = E[x xᵀ] [C, C]. Errors
ΔW = W − Q cost tr(ΔW H ΔWᵀ). Columns are quantized one after another and the later ones make up for
the errors of the earlier; of a unit error in column j a cost of 1/U_jj² remains, where H⁻¹ = UᵀU
with U upper triangular (GPTQ, arXiv 2210.17323, section 3.3; WaterSIC, arXiv 2603.04956).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from squeeze.calib.parallel import one_thread, product
from squeeze.errors import BadConfig, BadData
from squeeze.tensors.floats import Float32

Float64 = npt.NDArray[np.float64]

# Of the mean diagonal. Record entries and the GPTQ paper add 0.01; errors of the layers before are
# noise on the inputs, which the Hessian of the exact model does not have (docs/log.md).
DAMPING = 0.03
# At low rates that noise is larger: below so many bits a weight this much (docs/log.md).
LOW_RATE, LOW_RATE_DAMPING = 1.5, 0.1
MAX_DAMPING = 10.0


@dataclass(frozen=True)
class Factor:
    """Columns in the order in which they are quantized, and the factor of their inverse Hessian.

    order: permutation of the columns, int64 [C]
    upper: U with H⁻¹ = UᵀU for the damped H[order][:, order], float64 [C, C]
    dead: columns whose input is always zero, bool [C] in tensor order
    """

    order: npt.NDArray[np.int64]
    upper: Float64
    dead: npt.NDArray[np.bool_]

    @property
    def weights(self) -> Float64:
        """Cost of a unit error in each column, 1/U_jj², float64 [C] in tensor order."""
        costs = np.empty(len(self.order))
        costs[self.order] = np.diag(self.upper) ** -2.0
        return costs


def damping_at(bits: float) -> float:
    """Return the damping for a model stored in so many bits a weight."""
    return LOW_RATE_DAMPING if bits < LOW_RATE else DAMPING


def factorize(hessian: Float32, damping: float = DAMPING, act_order: bool = True) -> Factor:
    """Return the factor of a Hessian, float32 or float64 [C, C].

    damping: share of the mean diagonal that is added to the diagonal
    act_order: take columns by falling diagonal instead of as they come

    A Hessian of zeros counts as the identity, a dead column as one of mean energy that no other depends
    on. When rounding has made the damped matrix indefinite the damping grows tenfold until it is not.

    Raises BadData for NaN, infinities, a shape that is not square, a negative diagonal, or a matrix
    that is not positive semidefinite; BadConfig for damping below or equal to zero.
    """
    if not (np.isfinite(damping) and 0 < damping <= MAX_DAMPING):
        raise BadConfig("damping", expected=f"above 0, at most {MAX_DAMPING}", found=damping)
    matrix = np.array(hessian, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise BadData("Hessian", expected="a square matrix", found=matrix.shape)
    if not np.isfinite(matrix).all():
        raise BadData(
            "Hessian is not finite",
            found="NaN or infinity",
            fix="The calibration activations overflowed; check the checkpoint.",
        )
    diagonal = matrix.diagonal().copy()
    if diagonal.min(initial=0.0) < 0:
        raise BadData("Hessian has a negative diagonal", found=f"{diagonal.min():g}")
    dead = diagonal == 0
    mean = float(diagonal.mean()) if len(diagonal) else 0.0
    if mean == 0.0:
        return Factor(np.arange(len(dead)), np.eye(len(dead)), np.zeros_like(dead))
    matrix[dead, :] = 0.0
    matrix[:, dead] = 0.0
    matrix[dead, dead] = mean
    order = np.arange(len(diagonal))
    if act_order:
        order = np.argsort(-diagonal, kind="stable")
    matrix = matrix[np.ix_(order, order)]
    while damping <= MAX_DAMPING:
        upper = _upper_of_inverse(matrix + damping * mean * np.eye(len(order)))
        if upper is not None:
            return Factor(order.astype(np.int64), upper, dead)
        damping *= 10
    raise BadData(
        "Hessian is not positive semidefinite",
        fix="Sum x·xᵀ over inputs; nothing else is a Hessian here.",
    )


def _upper_of_inverse(matrix: Float64) -> Float64 | None:
    """Return U upper triangular with matrix⁻¹ = UᵀU; None for a matrix that is not definite."""
    # matrix = R Rᵀ with R upper, from the Cholesky factor of the matrix read backwards; U = R⁻¹
    with one_thread():
        backwards, failed = torch.linalg.cholesky_ex(torch.tensor(matrix[::-1, ::-1].copy()))
        if int(failed):
            return None
        identity = torch.eye(len(matrix), dtype=torch.float64)
        lower = torch.linalg.solve_triangular(backwards, identity, upper=False)
        upper: Float64 = lower.flip(0, 1).numpy()
    return upper


def proxy_loss(delta: Float32, hessian: Float32) -> float:
    """Return tr(ΔW H ΔWᵀ): the squared output error per input, summed over the outputs.

    delta: float32 [R, C]
    hessian: float32 or float64 [C, C], undamped
    """
    return float(row_losses(delta, hessian).sum())


def row_losses(delta: Float32, hessian: Float32) -> Float64:
    """Return each row's share of `proxy_loss`, float64 [R]."""
    products = product(delta, hessian.astype(np.float32))
    losses: Float64 = np.einsum("rc,rc->r", products, delta, dtype=np.float64)
    return losses
