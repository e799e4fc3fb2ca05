"""Pack weights that nothing runs to a byte limit, each matrix as if its use were like any other's."""

from __future__ import annotations

import numpy as np

from squeeze.packing.curvature import CheapCurvature
from squeeze.packing.fit import fit_or_explain
from squeeze.packing.kept import KeptCodes
from squeeze.packing.packed import Packed, checked
from squeeze.packing.presets import ALONE
from squeeze.packing.quantizer import Quantizer
from squeeze.packing.recipe import contents_of
from squeeze.packing.request import PackRequest
from squeeze.packing.rounding import note_losses
from squeeze.packing.session import without_loss
from squeeze.reporter import Reporter
from squeeze.subject.workpiece import Workpiece
from squeeze.tensors.floats import Float32

SMALLEST = 1e-30  # mean square of a matrix of zeros


def pack_alone(piece: Workpiece, request: PackRequest, reporter: Reporter) -> Packed:
    """Return the file that fits the limit with the least squared error, relative to each matrix.

    Inputs count as white and outputs as alike. Raises OverBudget when nothing fits.
    """
    limit = request.room
    exact = without_loss(piece, limit)
    if exact is not None:
        return checked(Packed(exact, exact=True))
    contents = contents_of(piece, piece.plain_layout, request.small_floats)
    inputs: dict[int, Float32] = {}
    for weights in contents.matrices.values():
        width = weights.shape[1]
        inputs.setdefault(width, np.eye(width, dtype=np.float32))
    curvature = CheapCurvature(
        contents.matrices,
        {name: inputs[weights.shape[1]] for name, weights in contents.matrices.items()},
        {name: _importance(weights) for name, weights in contents.matrices.items()},
    )
    quantizer = Quantizer(contents, curvature, ALONE[request.preset].states, KeptCodes(None))
    with reporter.stage("fit") as stage:
        fitted = fit_or_explain(quantizer, limit, stage)
    note_losses(piece, contents.artifact(fitted.tensors), reporter)
    return checked(Packed(fitted.data))


def _importance(weights: Float32) -> Float32:
    """Return the importance of the rows [R, C] of a matrix: that of its mean square, float32 [R]."""
    energy = max(float(np.square(weights, dtype=np.float64).mean()), SMALLEST)
    return np.full(len(weights), 1.0 / energy / weights.size, np.float32)
