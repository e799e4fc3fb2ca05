"""A file taken apart as an artifact of `squeeze`: its tensors in the weights unit, coded and decoded.

Unlike the rest of this package it loads the codecs, and takes as long as packing does.
"""

from __future__ import annotations

import numpy as np

from squeeze.artifact.file import decode, encode
from squeeze.artifact.layout import FLOATS
from squeeze.artifact.streams import Artifact, Tensor
from squeeze.errors import SqueezeError
from squeeze.outside.pieces import INT8, Piece, Plain
from squeeze.tensors.floats import to_bits
from squeeze.tensors.quantized import Codes, QuantizedTensor, RawTensor

DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
WORDS = {"fp32": "<u4", "fp16": "<u2", "bf16": "<u2"}


def squeezed(plain: Plain) -> int:
    """Return the size in bytes of a `.sqz` with every number of the file.

    Tensors that it cannot hold count with the bytes they have.

    The artifact is decoded and compared before its size is believed. Raises SqueezeError when a
    tensor's numbers do not lie in one piece.
    """
    tensors, left = weights(plain)
    data = encode(Artifact({"model": {}}, tensors))
    _check(tensors, decode(data).tensors)
    return len(data) + left


def weights(plain: Plain) -> tuple[dict[str, Tensor], int]:
    """Return tensors by name, and the bytes of those no artifact stores (64-bit, integers)."""
    kinds_of: dict[str, dict[str, Piece]] = {}
    for piece in plain.pieces:
        if piece.component == "weights":
            kinds_of.setdefault(piece.tensor, {})[piece.kind] = piece
    tensors: dict[str, Tensor] = {}
    left = 0
    for name, kinds in kinds_of.items():
        codes = kinds.pop("codes", None)
        step = next((piece for kind, piece in kinds.items() if kind.startswith("step.")), None)
        if codes is not None:
            if step is not None and step.number in FLOATS and step.elements in (1, _rows(codes)):
                kinds.pop(step.kind)
                tensors[name] = _quantized(plain, codes, step)
            else:
                tensors[name] = _quantized(plain, codes, None)
        for kind, piece in kinds.items():
            if piece.number in FLOATS:
                bits = np.frombuffer(_bytes(plain, piece), WORDS[piece.number])
                raw = RawTensor(bits.reshape(_shape(piece)), piece.number, piece.number)
                tensors[name if name not in tensors else f"{name}.{kind}"] = raw
            elif piece.number in INT8:
                tensors[f"{name}.{kind}"] = _quantized(plain, piece, None)
            else:
                left += piece.size
    return tensors, left


def _bytes(plain: Plain, piece: Piece) -> memoryview:
    if piece.shape is None:
        raise SqueezeError(f"{piece.tensor}: its numbers do not lie in one piece")
    return plain.data[piece.start : piece.start + piece.size]


def _shape(piece: Piece) -> tuple[int, ...]:
    if piece.shape is None:
        raise SqueezeError(f"{piece.tensor}: its numbers do not lie in one piece")
    return piece.shape


def _rows(codes: Piece) -> int:
    return codes.shape[0] if codes.shape else 1


def _quantized(plain: Plain, codes: Piece, step: Piece | None) -> QuantizedTensor:
    """Codes with a step for each row; without steps of its own, steps of one."""
    dtype = np.int8 if codes.number == "int8" else np.uint8
    integers = np.frombuffer(_bytes(plain, codes), dtype)
    matrix = integers.reshape(_rows(codes), -1)
    narrow: Codes = matrix if codes.number == "int8" else matrix.astype(np.int16)  # type: ignore
    logical = DTYPES.get(plain.facts.get(f"dtype {codes.tensor}", ""), "fp32")
    if step is None:
        ones = to_bits(np.ones(len(matrix), np.float32), "fp16")
        return QuantizedTensor(narrow, ones, _shape(codes) or (1,), logical=logical)
    bits = np.frombuffer(_bytes(plain, step), WORDS[step.number])
    steps = np.ascontiguousarray(np.broadcast_to(bits, (len(matrix),)))
    return QuantizedTensor(
        narrow, steps, _shape(codes) or (1,), step_format=step.number, logical=logical
    )


def _check(before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    for name, tensor in before.items():
        other = after[name]
        if isinstance(tensor, QuantizedTensor) and isinstance(other, QuantizedTensor):
            same = np.array_equal(tensor.codes, other.codes) and np.array_equal(
                tensor.steps, other.steps
            )
        else:
            assert isinstance(tensor, RawTensor) and isinstance(other, RawTensor)
            same = np.array_equal(tensor.bits, other.bits)
        if not same:
            raise SqueezeError(f"{name}: not the same after coding and decoding")
