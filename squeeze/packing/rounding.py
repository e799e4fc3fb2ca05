"""Pack without calibration: every weight rounded to nearest, or everything as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

import numpy as np

from squeeze import codecs
from squeeze.artifact.file import encode
from squeeze.artifact.parts import whole_tensors
from squeeze.artifact.streams import Artifact
from squeeze.calib.taps.roles import by_name
from squeeze.errors import BadConfig
from squeeze.packing.packed import Packed, checked
from squeeze.packing.presets import ROUNDINGS
from squeeze.packing.quantizer import QUANTIZED
from squeeze.packing.recipe import LOSSLESS, Recipe, parse_precisions, quantize_checkpoint
from squeeze.packing.request import PackRequest
from squeeze.reporter import Reporter
from squeeze.subject.workpiece import SUBJECT, Workpiece
from squeeze.tensors.quantized import QuantizedTensor, RawTensor
from squeeze.tensors.roles import role_by_use, role_of

LOST = 0.5  # share of the sum of squares of a tensor
LISTED = 4  # tensors


def pack_rounded(piece: Workpiece, request: PackRequest, reporter: Reporter) -> Packed:
    """Return the model rounded as `request.quant` says; a quantized export is stored as it is.

    Raises BadConfig for a precision or role that does not exist, or that no matrix has, or when a value
    does not fit its float format; UnsupportedFormat for an unknown codec.
    """
    preset = ROUNDINGS[request.preset]
    quantized = any(isinstance(tensor, QuantizedTensor) for tensor in piece.stored.values())
    exact = preset.exact or (quantized and not request.quant)
    recipe, roles = LOSSLESS, {}
    if not exact:
        roles = roles_in(piece, request.small, reporter)
        precisions = parse_precisions(request.quant)
        _check_named(request.quant, roles.values())
        recipe = Recipe(precisions, request.small, request.small_floats, roles=roles)
    elif not preset.exact:
        reporter.note(
            "the checkpoint is quantized already: stored without loss (--quant to change)"
        )
    artifact = quantize_checkpoint(piece.stored, piece.header, recipe)
    artifact.config.update(piece.roles_field(artifact.tensors, roles))
    if not exact:
        note_floats(piece, artifact, request, reporter)
        note_losses(piece, artifact, reporter)
    candidates = codecs.names() if request.codecs == ("all",) else request.codecs
    data = encode(artifact, candidates=candidates, reporter=reporter)
    return checked(Packed(data, exact=exact))


def roles_in(piece: Workpiece, small: int, reporter: Reporter) -> dict[str, str]:
    """Return the role of every tensor that is or holds matrices, by its name.

    Of a model that is not squeeze's own it is read off a forward. Where nothing runs the weights names
    are all there is, and a note says what those of more than `small` weights were taken for.
    """
    names = [name for name, tensor in piece.stored.items() if len(tensor.shape) > 1]
    roles = {name: role_of(name) for name in names}
    if piece.build is not None and SUBJECT not in piece.header:
        return roles
    if piece.build is None:
        layout = piece.plain_layout
    else:
        layout = piece.subject.tapped(piece.subject.drawn_ids()).layout
    for name in names:
        # no matrix: such as an expert that got none of these tokens
        roles[name] = layout.roles.get(name) or role_by_use(name, by_name(name))
    large = [name for name in names if prod(piece.stored[name].shape) > small]
    if piece.build is None and any(role_of(name) == "other" for name in large):
        tables = [name for name in large if roles[name].startswith("embed")]
        listed = ", ".join(tables[:LISTED]) or "none"
        reporter.note(
            f"no model tells what matrices are for: embeddings and heads are, by name, {listed}"
        )
    return roles


def _check_named(quant: Mapping[str, str], roles: Iterable[str]) -> None:
    """Raise BadConfig for a precision of a role that no matrix has."""
    present = {name for role in roles for name in (role, role.partition(".")[0])} | {"all"}
    for role in quant:
        if role not in present:
            raise BadConfig(
                "--quant names no matrix", expected=", ".join(sorted(present)), found=role
            )


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
