"""A context-mixing coder for the text of one program, whose decoder ships with it.

Fifteen contexts (the last one to six bytes, words, the shape of the last tokens, the bracket that is
open, the beginning of the line, what followed earlier text that ends alike) each predict the next bit;
three mixers weigh them, a fourth weighs the mixers, and a table corrects the result by what came of it
before. The scheme is that of the PAQ family (Mahoney, "Adaptive weighing of context models for
lossless data compression", 2005); what is left out was not worth its bytes in the decoder.

`predict` is decoder and model in one: `decoder` makes the text that ships from its source, and the
encoder asks it for the chances of a text it knows. It uses + − × ÷ and comparisons of doubles and
integers below 2^62 only, so that compiled and plain Python agree on every machine. The text of the
decoder, which is there anyway, is what the model has read before the first byte.
"""

from __future__ import annotations

import ast
import functools
import inspect
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from squeeze.bundle.load.modules import BundleError

NAME = "d"  # of the shipped decoder
SPARE = 9  # zeros after the text it returns
HEADER = 4  # bytes: the length, little-endian
EXPANSION = 50_000  # bytes that a byte may stand for: a bit costs at least log2(65536/65535)


def predict(
    code: bytes, known: bytes, size: int, chances: npt.NDArray[np.int32]
) -> list[int]:  # fmt: skip
    """The text that begins with `known` and goes on, for `size` bytes, with what `code` decodes to.

    code: the arithmetic code; what it lacks reads as zeros. chances: int32[8 * len(known)], filled with
    the probability of each known bit in 1/65536. Returns the bytes of the whole text and nine zeros.
    """
    mult = 789269575

    def squash(x: float) -> float:  # 1 / (1 + exp(-x)), by exp(x) ~ (1 + x/1024)^1024
        x = 1 - max(-15.9, min(15.9, x)) / 1024
        for _ in range(10):
            x *= x
        return 1 / (1 + x)

    # stretch(p) = ln(p / (1 - p)); the logarithm as a sum of 1/i
    low, harmonic = 0.0, [0.0]
    for i in range(1, 4096):
        low += 1 / i
        harmonic.append(low)
    stretch = [harmonic[i] - harmonic[4095 - i] for i in range(4096)]
    total = len(known) + size
    text = [0] * (total + 9)
    # of a context and the bits of the byte so far: chance of a 1, and count << 8 | last bits after a 1
    chance, state = [0.5] * 2**24, [1] * 2**24
    # what came of every such state, by context
    learned, trials = [0.5] * (15 << 16), [1.5] * (15 << 16)
    hashes, slots, inputs = [0] * 15, [0] * 15, [0.3] * 46
    weights, final = [0.07] * (768 * 46), [0.35] * 768
    chosen, sums, parts = [0] * 3, [0.0] * 3, [0.0] * 3
    corrected = [squash(i - 16) for i in range(33)] * 65536
    # where hashes were seen last; matches: where in the text, and their length
    seen, place, length = [0] * 2**21, [0] * 2, [0] * 2
    # hashes of what stands before the brackets that are open
    opened = [0] * (total + 9)
    word = before = shape = depth = start = at = first = last = value = 0
    for i in range(total):
        byte = text[i - 1]
        h = 0
        for k in range(6):
            h = (h + text[i - 1 - k] + 1) * mult % 2**32
            hashes[k] = h
        for m in range(2):  # two matches with earlier text, of four bytes and of six
            if length[m] and text[place[m]] == byte:
                length[m] = min(length[m] + 1, 15)
                place[m] += 1
            else:
                length[m] = 0
            k = hashes[3 + 2 * m] % 2**20 * 2 + m
            if length[m] < 1 and seen[k]:
                place[m] = seen[k]
                length[m] = 1
            seen[k] = i
        k = 6
        for h in (
            word,
            word + before,
            shape % 2**32,
            shape % 4294967291,
            word + opened[depth] + byte * 77,
            word + shape % 65536 * mult + start,
            byte + start * mult,
            (text[place[0]] + 1) * length[0],
            (text[place[1]] + 1) * length[1],
        ):
            hashes[k] = (h % 2**32 + k) * mult % 2**32
            k += 1
        c = 1
        for b in range(8):
            for k in range(15):
                s = (hashes[k] + c * 2654435761) % 2**32 * mult % 2**32 >> 8
                slots[k] = s
                n = state[s]
                inputs[k] = stretch[int(chance[s] * 4096)]
                inputs[15 + k] = (chance[s] - 0.5) * (n >> 8) * 0.2
                inputs[30 + k] = stretch[int(learned[k << 16 | n] * 4096)]
            chosen[0] = length[0]
            chosen[1] = 256 + c
            chosen[2] = 512 + byte
            x = 0.0
            for m in range(3):
                u = 0.0
                for k in range(46):
                    u += inputs[k] * weights[chosen[m] * 46 + k]
                sums[m] = u
                parts[m] = squash(u)
                x += final[c * 3 + m] * u
            p = squash(x)
            u = max(0, min(31.9, x + 16))
            o = int(u)
            u -= o
            o += (byte << 8 | c) * 33
            f = int((p + corrected[o] * (1 - u) + corrected[o + 1] * u) * 32768)
            f = max(1, min(65535, f))
            if i < len(known):
                y = known[i] >> 7 - b & 1
                chances[i * 8 + b] = f if y else 65536 - f
            else:
                while first >> 24 == last >> 24:
                    first = first << 8 & 2**32 - 1
                    last = last << 8 & 2**32 - 1 | 255
                    value = value << 8 & 2**32 - 1 | (code[at] if at < len(code) else 0)
                    at += 1
                f = first + (last - first >> 16) * f
                if value > f:
                    y = 0
                    first = f + 1
                else:
                    y = 1
                    last = f
            corrected[o] += (y - corrected[o]) * (1 - u) * 0.03
            corrected[o + 1] += (y - corrected[o + 1]) * u * 0.03
            for m in range(3):
                final[c * 3 + m] += (y - p) * sums[m] * 0.002
                u = (y - parts[m]) * 0.006
                for k in range(46):
                    weights[chosen[m] * 46 + k] += u * inputs[k]
            for k in range(15):
                s = slots[k]
                n = state[s]
                o = k << 16 | n
                learned[o] += (y - learned[o]) / trials[o]
                trials[o] = min(trials[o] + 1, 255)
                chance[s] += (y - chance[s]) / ((n >> 8) + 1.4)
                h = n % 256 * 2 + y
                if h > 255:
                    h = h % 128 + 128
                state[s] = min((n >> 8) + 1, 30) << 8 | h
            c += c + y
        c -= 256
        text[i] = c
        if 96 < c | 32 < 123 or 47 < c < 58 or c == 95:
            if word < 1:
                shape = shape % 2**32 * 256 + 1
            word = (word + c) * mult % 2**32
        else:
            shape = shape % 2**32 * 256 + c
            if word:
                before = word
            before = (before + c) * mult % 2**32
            if c in (40, 91, 123):
                depth += 1
                opened[depth] = (word + c) * mult % 2**32
            if depth and c in (41, 93, 125):
                depth -= 1
            if c == 10:
                depth = start = 0
            word = 0
        if c > 10 and start < 2**20:
            start = start * 256 + c
    return text


fast: Any = njit(cache=True)(predict)


def encode(data: bytes, model: Any = fast) -> bytes:
    """Arithmetic code of `data` after its length; the same bytes on every machine.

    model: `fast`, or `predict`, its plain reference.
    """
    if len(data) >= 1 << 8 * HEADER:
        raise BundleError("a text is too long", expected="less than 4 GiB", found=len(data))
    known = decoder().encode()
    chances = np.zeros(8 * (len(known) + len(data)), np.int32)
    model(b"", known + data, 0, chances)
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    return len(data).to_bytes(HEADER, "little") + _code(bits, chances[8 * len(known) :])


def decode(payload: bytes, model: Any = fast) -> bytes:
    """What was encoded. Raises BundleError for an impossible length; other damage is not seen."""
    size = int.from_bytes(payload[:HEADER], "little")
    if len(payload) < HEADER or size > EXPANSION * (len(payload) - HEADER + 4):
        raise BundleError("not a payload of the mixing coder", found=f"{len(payload)} bytes")
    known = decoder().encode()
    chances = np.zeros(8 * len(known), np.int32)
    text = model(payload[HEADER:], known, size, chances)
    return bytes(text[len(known) :][:size])


def _code(bits: npt.NDArray[np.uint8], chances: npt.NDArray[np.int32]) -> bytes:
    """Mirrors the decoder: of a range of 32 bits, bits of 1 take the lower part."""
    out = bytearray()
    first, last = 0, 2**32 - 1
    for bit, chance in zip(bits.tolist(), chances.tolist(), strict=True):
        one = chance if bit else 65536 - chance
        middle = first + (last - first >> 16) * one
        if bit:
            last = middle
        else:
            first = middle + 1
        while first >> 24 == last >> 24:
            out.append(first >> 24)
            first = first << 8 & 2**32 - 1
            last = last << 8 & 2**32 - 1 | 255
    if first:  # the shortest end that lies in the range when zeros follow
        for kept in range(1, 5):
            shift = 32 - 8 * kept
            end = (first + (1 << shift) - 1) >> shift << shift
            if end <= last:
                out += end.to_bytes(4, "big")[:kept]
                break
    return bytes(out).rstrip(b"\0")


@functools.cache
def decoder() -> str:
    """The source of the decoder as it ships: `predict` minified, without what only the encoder needs."""
    from squeeze.bundle.emit.minify import minify

    tree = ast.parse(inspect.getsource(predict))
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    function.name = NAME
    function.args.args.pop()
    function.decorator_list = [ast.Name("njit", ast.Load())]
    readable = ast.unparse(ast.fix_missing_locations(_WithoutChances().visit(tree)))
    return minify("from numba import njit\n" + readable, (NAME,))


class _WithoutChances(ast.NodeTransformer):
    def visit_Assign(self, node: ast.Assign) -> ast.Assign | None:
        target = node.targets[0]
        value = getattr(target, "value", None)
        return None if isinstance(value, ast.Name) and value.id == "chances" else node
