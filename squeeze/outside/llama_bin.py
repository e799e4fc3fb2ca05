"""llama2.c model files: seven int32 and float32 numbers (version 0), or `ak42` with a version.

Version 0 has no magic: it is taken for one when the seven numbers give exactly the file's size.
Version 1 is float32, version 2 int8 with a float32 scale for each group. Source: llama2.c, export.py.
Tensors are named as the challenge names them: wq, wk, wv, wo are attn.c_q, c_k, c_v, proj; w1, w2, w3
are mlp.gate, proj, fc.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from squeeze.errors import CorruptData, UnsupportedFormat
from squeeze.outside.pieces import Piece, Plain, tiled

MAGIC = struct.pack("<I", 0x616B3432)
HEADER = 256  # bytes of a versioned header
MAX = 1 << 24  # of any of the seven numbers
MAX_LAYERS = 1 << 10


@dataclass(frozen=True)
class Shape:
    """The seven numbers, and whether the head is the embedding."""

    dim: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    length: int
    tied: bool

    @property
    def valid(self) -> bool:
        """True where a model of this shape can exist; checked before any product is used."""
        plain = (self.dim, self.hidden, self.heads, self.kv_heads, self.vocab, self.length)
        return (
            all(0 < n <= MAX for n in plain)
            and 0 < self.layers <= MAX_LAYERS
            and self.dim % self.heads == 0
            and self.heads % self.kv_heads == 0
        )

    def matrices(self) -> Iterator[tuple[str, int]]:
        """Yield (name, elements) of wq … w3 layer by layer, the order of every version."""
        kv = self.dim // self.heads * self.kv_heads
        for name, count in (
            ("attn.c_q.weight", self.dim * self.dim),
            ("attn.c_k.weight", kv * self.dim),
            ("attn.c_v.weight", kv * self.dim),
            ("attn.proj.weight", self.dim * self.dim),
            ("mlp.gate.weight", self.hidden * self.dim),
            ("mlp.proj.weight", self.dim * self.hidden),
            ("mlp.fc.weight", self.hidden * self.dim),
        ):
            for layer in range(self.layers):
                yield f"blocks.{layer}.{name}", count

    def of_tensor(self, name: str) -> tuple[int, ...]:
        """Return the dimensions of a tensor by its name."""
        kv = self.dim // self.heads * self.kv_heads
        rows = {"c_k": kv, "c_v": kv, "gate": self.hidden, "fc": self.hidden, "c_q": self.dim}
        part = name.split(".")[-2]
        if name.endswith("norm.weight"):
            return (self.dim,)
        if part in ("tok_emb", "lm_head"):
            return (self.vocab, self.dim)
        if name.endswith("mlp.proj.weight"):
            return (self.dim, self.hidden)
        return (rows.get(part, self.dim), self.dim)

    def norms(self, name: str) -> Iterator[tuple[str, int]]:
        """(name, elements) of one norm in each layer."""
        return ((f"blocks.{layer}.{name}", self.dim) for layer in range(self.layers))


def _shape(data: memoryview, at: int, tied: bool | None) -> Shape:
    """Return the seven numbers at a byte; tied: None when the sign of the vocabulary's size says it."""
    dim, hidden, layers, heads, kv_heads, vocab, length = struct.unpack_from("<7i", data, at)
    if tied is None:
        return Shape(dim, hidden, layers, heads, kv_heads, abs(vocab), length, vocab > 0)
    return Shape(dim, hidden, layers, heads, kv_heads, vocab, length, tied)


def shape_of(data: memoryview) -> Shape | None:
    """Shape in a version 0 file, or None when the file cannot be one."""
    if len(data) < 28:
        return None
    shape = _shape(data, 0, None)
    return (
        shape if shape.valid and 28 + 4 * sum(n for _, n in _version0(shape)) == len(data) else None
    )


def shape_in(data: memoryview) -> Shape:
    """Return the shape in a file that `read` takes."""
    if bytes(data[:4]) == MAGIC:
        return _shape(data, 8, bool(data[36]))
    shape = shape_of(data)
    assert shape is not None
    return shape


def _version0(shape: Shape) -> Iterator[tuple[str, int]]:
    yield "tok_emb.weight", shape.vocab * shape.dim
    yield from shape.norms("attn_norm.weight")
    matrices = list(shape.matrices())
    yield from matrices[: 4 * shape.layers]
    yield from shape.norms("mlp_norm.weight")
    yield from matrices[4 * shape.layers :]
    yield "final_norm.weight", shape.dim
    half = shape.length * (shape.dim // shape.heads) // 2
    yield "rope.cos", half
    yield "rope.sin", half
    if not shape.tied:
        yield "lm_head.weight", shape.vocab * shape.dim


def _norms_first(shape: Shape) -> Iterator[tuple[str, int]]:
    yield from shape.norms("attn_norm.weight")
    yield from shape.norms("mlp_norm.weight")
    yield "final_norm.weight", shape.dim


def _weights(shape: Shape) -> Iterator[tuple[str, int]]:
    yield "tok_emb.weight", shape.vocab * shape.dim
    yield from shape.matrices()
    if not shape.tied:
        yield "lm_head.weight", shape.vocab * shape.dim


def read(data: memoryview, what: str) -> Plain:
    """Pieces of a file of any version. Raises CorruptData or UnsupportedFormat."""
    if bytes(data[:4]) != MAGIC:
        shape = shape_of(data)
        assert shape is not None  # the registry asked shape_of
        return _plain("llama.c", 28, list(_version0(shape)), 0, data, what)
    if len(data) < HEADER:
        raise CorruptData(f"{what}: header is cut off", expected=HEADER, found=len(data))
    (version,) = struct.unpack_from("<i", data, 4)
    if version not in (1, 2):
        raise UnsupportedFormat(f"{what}: unknown version", expected="1 or 2", found=version)
    shape = _shape(data, 8, bool(data[36]))
    if not shape.valid:
        raise CorruptData(f"{what}: impossible shape", found=str(shape)[:120])
    norms, weights = list(_norms_first(shape)), list(_weights(shape))
    if version == 1:
        return _plain("llama.c v1", HEADER, norms + weights, 0, data, what)
    (group,) = struct.unpack_from("<i", data, 37)
    if group <= 0 or any(count % group for _, count in weights):
        raise CorruptData(f"{what}: group size does not divide the tensors", found=group)
    return _plain("llama.c v2 int8", HEADER, norms, group, data, what, weights)


def _plain(
    format: str,
    header: int,
    floats: list[tuple[str, int]],
    group: int,
    data: memoryview,
    what: str,
    quantized: list[tuple[str, int]] | None = None,
) -> Plain:
    pieces = [Piece(0, header, "container", "header")]
    at = header

    def add(tensor: str, kind: str, number: str, count: int, width: int) -> None:
        nonlocal at
        pieces.append(
            Piece(at, count * width, "weights", kind, tensor, number, count, (count,), (tensor,))
        )
        at += count * width

    for tensor, count in floats:
        add(tensor, "raw.fp32", "fp32", count, 4)
    for tensor, count in quantized or ():
        add(tensor, "codes", "int8", count, 1)
        add(tensor, "step.fp32", "fp32", count // group, 4)
    if at != len(data):
        raise CorruptData(f"{what}: size and shape disagree", expected=at, found=len(data))
    return Plain(format, data, tiled(pieces, len(data), what))
