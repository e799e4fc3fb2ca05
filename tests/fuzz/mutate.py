"""Mutations of corpus files: of bytes anywhere, and of single values inside JSON."""

from __future__ import annotations

import json
import random
from typing import Any

INTERESTING = [0, 1, 0x7F, 0x80, 0xFF]
NUMBERS = [0, 1, -1, 255, 1 << 15, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1]
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, 1e308, -0.0, 0.5, float("inf"), float("nan"),
    "", "x", "inf", "\u2581", "../../x", "\ud800", [], {}, [[]], [None], {"": None}, "x" * 300,
]  # fmt: skip
MAX_SIZE = 1 << 17


def mutate(data: bytes, others: list[bytes], rng: random.Random, text: bool = False) -> bytes:
    """A changed copy. others: corpus files to splice with."""
    if text and rng.random() < 0.7:
        try:
            return _json(data, rng)
        except (ValueError, RecursionError):
            pass
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        _bytes(changed, others, rng)
    return bytes(changed[:MAX_SIZE])


def _bytes(data: bytearray, others: list[bytes], rng: random.Random) -> None:
    size = len(data)
    # headers are at the front: half of all changes fall into the first 256 bytes
    at = rng.randrange(min(size, 256) if rng.random() < 0.5 else size) if size else 0
    kind = rng.randrange(8)
    if kind == 0 and size:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1 and size:
        data[at] = rng.choice(INTERESTING)
    elif kind == 2:
        width = rng.choice((2, 4, 8))
        number = rng.choice(NUMBERS) % (1 << 8 * width)
        data[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
    elif kind == 3:
        del data[at:]
    elif kind == 4:
        del data[at : at + rng.randrange(1, 17)]
    elif kind == 5:
        data[at:at] = rng.randbytes(rng.randrange(1, 9))
    elif kind == 6:
        other = rng.choice(others)
        start = rng.randrange(len(other) + 1)
        data[at : at + 64] = other[start : start + rng.randrange(1, 129)]
    else:
        data[at:at] = data[at : at + rng.randrange(1, 65)]


def _json(data: bytes, rng: random.Random) -> bytes:
    root = [json.loads(data)]
    places: list[tuple[Any, Any]] = []
    waiting: list[Any] = [root]
    while waiting:
        value = waiting.pop()
        inner = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        for key, child in inner:
            places.append((value, key))
            if isinstance(child, dict | list):
                waiting.append(child)
    for _ in range(rng.choice((1, 1, 2))):
        parent, key = rng.choice(places)
        action = rng.randrange(4)
        if action == 0 and isinstance(parent, dict):
            parent.pop(key, None)
        elif action == 1 and isinstance(parent, dict):
            parent[rng.choice(("x", "", "version", "__proto__"))] = rng.choice(ODD)
        elif action == 2 and rng.random() < 0.1:
            return b"[" * 100_000
        else:
            parent[key] = rng.choice(ODD)
    return json.dumps(root[0]).encode("utf-8", "surrogatepass")
