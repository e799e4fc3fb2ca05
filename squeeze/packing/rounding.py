"""Pack without calibration: every weight rounded to nearest, or everything as it is."""

from __future__ import annotations

from squeeze import codecs
from squeeze.artifact.file import encode
from squeeze.packing.packed import Packed, checked
from squeeze.packing.presets import ROUNDINGS
from squeeze.packing.recipe import LOSSLESS, Recipe, parse_precisions, quantize_checkpoint
from squeeze.packing.request import PackRequest
from squeeze.reporter import Reporter
from squeeze.subject.workpiece import Workpiece
from squeeze.tensors.quantized import QuantizedTensor


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
    candidates = codecs.names() if request.codecs == ("all",) else request.codecs
    data = encode(artifact, candidates=candidates, reporter=reporter)
    return checked(Packed(data, exact=exact))
