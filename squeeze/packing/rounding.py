"""Pack without calibration: every weight rounded to nearest, or everything as it is."""

from __future__ import annotations

import numpy as np

from squeeze import codecs
from squeeze.artifact.file import encode
from squeeze.artifact.parts import whole_tensors
from squeeze.artifact.streams import Artifact
from squeeze.packing.packed import Packed, checked
from squeeze.packing.presets import ROUNDINGS
from squeeze.packing.quantizer import QUANTIZED
from squeeze.packing.recipe import LOSSLESS, Recipe, parse_precisions, quantize_checkpoint
from squeeze.packing.request import PackRequest
from squeeze.reporter import Reporter
from squeeze.subject.workpiece import Workpiece
from squeeze.tensors.quantized import QuantizedTensor, RawTensor

LOST = 0.5  # share of the sum of squares of a tensor
LISTED = 4  # tensors


def pack_rounded(piece: Workpiece, request: PackRequest, reporter: Reporter) -> Packed:
    """Return the model rounded as `request.quant` says; a quantized export is stored as it is.

    Raises BadConfig for a precision or role that does not exist, or when a value does not fit its float
    format; UnsupportedFormat for an unknown codec.
    """
    preset = ROUNDINGS[request.preset]
    quantized = any(isinstance(tensor, QuantizedTensor) for tensor in piece.stored.values())
    exact = preset.exact or (quantized and not request.quant)
    recipe = LOSSLESS
    if not exact:
        recipe = Recipe(parse_precisions(request.quant), request.small, request.small_floats)
    elif not preset.exact:
        reporter.note(
            "the checkpoint is quantized already: stored without loss (--quant to change)"
        )
    artifact = quantize_checkpoint(piece.stored, piece.header, recipe)
    if not exact:
        note_floats(piece, artifact, request, reporter)
        note_losses(piece, artifact, reporter)
    candidates = codecs.names() if request.codecs == ("all",) else request.codecs
    data = encode(artifact, candidates=candidates, reporter=reporter)
    return checked(Packed(data, exact=exact))


def note_floats(
    piece: Workpiece, artifact: Artifact, request: PackRequest, reporter: Reporter
) -> None:
    """Note the matrices that stay floats for their size, which a preset would quantize."""
    floats = [
        tensor.bits.size
        for tensor in artifact.tensors.values()
        if isinstance(tensor, RawTensor) and tensor.bits.ndim > 1 and tensor.bits.size >= QUANTIZED
    ]
    floats = [size for size in floats if size <= request.small]
    if floats:
        weights = sum(t.dequantize().size for t in piece.stored.values())
        reporter.note(
            f"{len(floats)} matrices, {sum(floats):,} of {weights:,} weights, stay "
            f"{request.small_floats}, being of at most {request.small:,} (--small); --preset best would "
            "spend the bits where the model needs them"
        )


def note_losses(piece: Workpiece, artifact: Artifact, reporter: Reporter) -> None:
    """Note the tensors of which little is left: clipped, below the smallest step, or of too few bits."""
    lost = []
    for name, tensor in whole_tensors(artifact).items():
        before = piece.tensors.get(name, np.zeros(0, np.float32)).astype(np.float64)
        if before.size and np.square(tensor.dequantize() - before).sum() > LOST * (before**2).sum():
            lost.append(name)
    if lost:
        reporter.note(
            f"rounding loses more than half of {len(lost)} tensor{'' if len(lost) == 1 else 's'} "
            f"(sum of squares): {', '.join(lost[:LISTED])}"
        )
