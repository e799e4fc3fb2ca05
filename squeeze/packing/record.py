"""Pack as a record entry of the challenge did, for comparison with this project's packing.

Quantizer, clips and coder are the entry's (`squeeze.packing.presets`); the container is ours, which
costs an entry nothing: under a kilobyte where torch.save takes more. Left out are the lrzip binary of
#1855 and its row sort, the groups of 128 of the ternary entry (one step a row instead), and low-rank
corrections, of which only the price is reported.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from squeeze.artifact.file import encode
from squeeze.calib.quantizers.gptq import gptq
from squeeze.calib.quantizers.gptq_lite import lite_steps
from squeeze.calib.quantizers.low_rank import low_rank
from squeeze.calib.quantizers.round_to_nearest import row_steps
from squeeze.calib.statistics.curvature import factorize
from squeeze.calib.taps.coverage import Coverage
from squeeze.calib.taps.layout import FLOAT, Layout
from squeeze.errors import BadConfig
from squeeze.packing.calibrate import Calibrated
from squeeze.packing.packed import Correction, Packed
from squeeze.packing.presets import RECORDS, Record
from squeeze.packing.recipe import contents_of
from squeeze.packing.request import PackRequest
from squeeze.packing.rounding import LISTED, note_floats, roles_in
from squeeze.packing.session import Session, open_session
from squeeze.reporter import Reporter
from squeeze.subject.workpiece import Workpiece
from squeeze.tensors.floats import Float32
from squeeze.tensors.quantized import QuantizedTensor

CLIP_PERCENTILE = 0.9999984  # of the baseline's int8 export
SMALLEST_STEP = 1e-6  # of a row of zeros
RECORD_DAMPING = 0.01  # of the mean diagonal, #1060
SALIENT_BITS = 8  # of the codes of salient columns, #1908
RANK = 4  # of a low-rank correction
WIDEST = 2048  # rows of a matrix that is priced: an embedding's square root would take minutes


def pack_record(piece: Workpiece, request: PackRequest, reporter: Reporter) -> Packed:
    """Return the model as the record that the request names stores it.

    Calibrates only where the record does. Raises BadConfig when a value does not fit its float format.
    """
    record = RECORDS[request.preset]
    with open_session(piece, request, reporter) as session:
        calibrated = session.calibrated() if record.hessian else None
        return session.on_first(lambda: _packed(session, record, calibrated))


def _packed(session: Session, record: Record, calibrated: Calibrated | None) -> Packed:
    piece, request = session.piece, session.request
    if calibrated:
        layout, hessians = calibrated.layout, calibrated.hessians.matrices
        roles = layout.roles
    else:
        layout, hessians = piece.plain_layout, {}
        of_tensors = roles_in(piece, request.small, session.reporter)
        of_matrices = {n: of_tensors[m.slice.tensor] for n, m in layout.matrices.items()}
        roles = {**of_tensors, **of_matrices}
    contents = contents_of(piece, layout, request.small_floats, request.small + 1, roles)
    quantized = {
        name: quantize_record(kind_of(name, roles[name]), weights, hessians.get(name), record)
        for name, weights in contents.matrices.items()
    }
    artifact = contents.artifact(quantized)
    note_floats(piece, artifact, request, session.reporter)
    note_unused(layout, request, session.reporter)
    correction = None
    if record.corrected and calibrated:
        errors = {n: w - quantized[n].dequantize() for n, w in contents.matrices.items()}
        correction = price_corrections(errors, calibrated, record.corrected)
    return Packed(encode(artifact, candidates=record.coders), correction=correction)


def note_unused(layout: Layout, request: PackRequest, reporter: Reporter) -> None:
    """Note the large matrices that stay floats, since no product or lookup of the forward uses them."""
    rows = Coverage.of(layout).rows
    wide = {name for name, shape in layout.shapes.items() if len(shape) > 1}
    floats = [
        row.matrix
        for row in rows
        if row.how == FLOAT and row.tensor in wide and row.elements > request.small
    ]
    if floats:
        reporter.note(
            f"{', '.join(floats[:LISTED])} stay {request.small_floats}: no product or lookup uses them"
        )


def kind_of(name: str, role: str) -> str:
    """Return "embed", "attn" or "mlp" for a matrix, as an entry stores it.

    Names of the baseline say it. Of others the role does; what is neither looked up nor makes logits
    has an entry's bits of attention.

    >>> kind_of("blocks.0.mlp.proj.weight", "other"), kind_of("wte.weight", "embed.table")
    ('mlp', 'embed')
    """
    named = [kind for kind in ("attn", "mlp") if f".{kind}." in name]
    return next((kind for kind in (*named, role.partition(".")[0]) if kind != "other"), "attn")


def quantize_record(
    kind: str,
    weights: Float32,
    hessian: Float32 | None,
    record: Record,
    coarser: float = 1.0,
) -> QuantizedTensor:
    """Return a matrix as an entry would store it.

    kind: of `kind_of`
    weights: float32 [R, C]
    hessian: of the inputs, float32 [C, C]; None: errors count alike, as in a table that is looked up
    coarser: factor of every step; an entry lands at another size in this way, by tuning k

    Raises BadConfig for `coarser` not above 0, BadData for a matrix that is no Hessian.
    """
    if not (np.isfinite(coarser) and coarser > 0):
        raise BadConfig("coarser", expected="finite and above 0", found=coarser)
    steps = (_steps(kind, weights, record) * coarser).astype(np.float32)
    if hessian is None or not record.hessian:
        # nothing is fed forward: GPTQ is rounding to nearest
        hessian = np.zeros((weights.shape[1], weights.shape[1]), np.float32)
    bits = record.bits[kind]
    finer = salient_columns(weights, hessian, record.salient, SALIENT_BITS - bits)
    return gptq(weights, factorize(hessian, RECORD_DAMPING), bits, steps, finer=finer)


def salient_columns(
    weights: Float32, hessian: Float32, width: int, finer: int
) -> npt.NDArray[np.int8] | None:
    """Return `finer` in the group of `width` columns that matters most and 0 elsewhere, int8 [C].

    Groups are counted from the first column. Of each the saliency of #1908 is summed: root mean square
    of the input, where it is known, times mean magnitude of the weights. None where there is nothing to
    choose.
    """
    if not width or finer <= 0:
        return None
    energy = np.diag(hessian)
    saliency = np.abs(weights).mean(0) * (np.sqrt(energy) if energy.any() else 1.0)
    first = width * int(np.argmax(np.add.reduceat(saliency, np.arange(0, len(saliency), width))))
    bits = np.zeros(len(saliency), np.int8)
    bits[first : first + width] = finer
    return bits


def _steps(kind: str, weights: Float32, record: Record) -> Float32:
    """Return the entry's step of each row, float32 [R]."""
    bits, k = record.bits[kind], record.k[kind]
    if k is not None:
        return row_steps(weights, bits, k)
    if bits == 2:  # BitNet b1.58, arXiv 2402.17764
        return np.maximum(np.abs(weights).mean(1), SMALLEST_STEP).astype(np.float32)
    if record.coders == ("zlib",) and bits == 8:
        clip = np.quantile(np.abs(weights), CLIP_PERCENTILE, axis=1)
        return np.maximum(clip / 127, SMALLEST_STEP).astype(np.float32)
    return lite_steps(weights, bits)


def price_corrections(
    errors: Mapping[str, Float32], calibrated: Calibrated, count: int
) -> Correction:
    """Return the price of correcting the `count` matrices with the largest errors, float32 [R, C]."""
    hessians, gradients = calibrated.hessians.matrices, calibrated.gradients
    narrow = [name for name, error in errors.items() if len(error) <= WIDEST and name in hessians]
    largest = sorted(narrow, key=lambda name: -float(np.square(errors[name]).sum()))[:count]
    corrections = [
        low_rank(
            errors[name],
            hessians[name],
            gradients.best(name),
            min(RANK, *errors[name].shape),
        )
        for name in largest
    ]
    return Correction(
        tensors=tuple(largest),
        bytes=sum(correction.bytes for correction in corrections),
        saved=sum(correction.before - correction.after for correction in corrections),
    )
