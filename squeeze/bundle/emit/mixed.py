"""A context-mixing coder for the text of one program, whose decoder ships with it.

`predict` (the module of that name) is decoder and model in one: `decoder` makes the text that ships
from its source, and the encoder asks it for the chances of a text it knows. The text of the decoder,
which is there anyway, is what the model has read before the first byte.
"""

from __future__ import annotations

import ast
import functools
import inspect
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from squeeze.bundle.emit.minify import minify
from squeeze.bundle.emit.predict import SHARED, predict
from squeeze.bundle.load.modules import BundleError
from squeeze.codecs.jit import njit

NAME = "d"  # of the shipped decoder
SPARE = 9  # zeros after the text it returns
HEADER = 4  # bytes: the length, little-endian
EXPANSION = 50_000  # bytes that a byte may stand for: a bit costs at least log2(65536/65535)

fast: Any = njit()(predict)


def encode(data: bytes) -> bytes:
    """Return the arithmetic code of `data` after its length; the same bytes on every machine."""
    if len(data) >= 1 << 8 * HEADER:
        raise BundleError("a text is too long", expected="less than 4 GiB", found=len(data))
    known = decoder().encode()
    chances = np.zeros(8 * (len(known) + len(data)), np.int32)
    fast(b"", known + data, 0, chances)
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    return len(data).to_bytes(HEADER, "little") + _code(bits, chances[8 * len(known) :])


def decode(payload: bytes) -> bytes:
    """Return what was encoded. Raises BundleError for an impossible length; other damage is silent."""
    size = int.from_bytes(payload[:HEADER], "little")
    if len(payload) < HEADER or size > EXPANSION * (len(payload) - HEADER + 4):
        raise BundleError("not a payload of the mixing coder", found=f"{len(payload)} bytes")
    known = decoder().encode()
    chances = np.zeros(8 * len(known), np.int32)
    text = fast(payload[HEADER:], known, size, chances)
    return bytes(text[len(known) :][:size])


def _code(bits: npt.NDArray[np.uint8], chances: npt.NDArray[np.int32]) -> bytes:
    """Return the code of `bits`, mirroring the decoder: a 1 takes the lower part of the range."""
    out = bytearray()
    low, high = 0, 2**32 - 1
    for bit, chance in zip(bits.tolist(), chances.tolist(), strict=True):
        one = chance if bit else 65536 - chance
        middle = low + (high - low >> 16) * one
        if bit:
            high = middle
        else:
            low = middle + 1
        while low >> 24 == high >> 24:
            out.append(low >> 24)
            low = low << 8 & 2**32 - 1
            high = high << 8 & 2**32 - 1 | 255
    if low:  # the shortest end that lies in the range when zeros follow
        for length in range(1, 5):
            shift = 32 - 8 * length
            end = (low + (1 << shift) - 1) >> shift << shift
            if end <= high:
                out += end.to_bytes(4, "big")[:length]
                break
    return bytes(out).rstrip(b"\0")


@functools.cache
def decoder() -> str:
    """Return the decoder's source as it ships: `predict` minified, without the encoder's part."""
    tree = ast.parse(inspect.getsource(predict))
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    function.name = NAME
    function.args.args.pop()
    function.decorator_list = [ast.Name("njit", ast.Load())]
    readable = ast.unparse(ast.fix_missing_locations(_Shipped().visit(tree)))
    return minify("from numba import njit\n" + readable, (NAME,))


class _Shipped(ast.NodeTransformer):
    """The kernel without `chances`, and with the variables that share a name."""

    names: ClassVar = {name: shared for shared, names in SHARED.items() for name in names}

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Drop what describes a function."""
        node.returns = None
        for arg in node.args.args:
            arg.annotation = None
        if ast.get_docstring(node) is not None:
            node.body.pop(0)
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        target = node.targets[0]
        value = getattr(target, "value", None)
        if isinstance(value, ast.Name) and value.id == "chances":
            return None
        return self.generic_visit(node)
