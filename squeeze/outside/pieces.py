"""The common unit of every reader here: pieces that tile the plain bytes of a file, each of one purpose.

A file that is stored plainly has its pieces' own sizes as rows. A compressed one is split over the
pieces in proportion to their order-0 entropy (of each byte plane, for words): a share, not a
measurement, so those rows are `shared`. Either way rows sum to the file to the byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import log2, prod

from squeeze.errors import BadCheckpoint, CorruptData
from squeeze.rows import Row, split_bytes
from squeeze.tensors.roles import layer_of, role_of

CHUNK = 1 << 20  # bytes counted at once: bincount widens its input eightfold
MAX_TENSORS = 1 << 16  # of a file: as many as an artifact holds
MAX_PIECES = 1 << 17
MAX_EXTENT = 1 << 48  # product of a shape's sizes, zeros left out
SIZES = {
    "fp64": 8, "fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1, "uint8": 1, "bool": 1,
    "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8, "complex64": 8,
    "complex128": 16,
}  # fmt: skip
FLOATS = ("fp64", "fp32", "fp16", "bf16", "fp8")
INT8 = ("int8", "uint8")


@dataclass(frozen=True)
class Piece:
    """Bytes [start, start + size) of the plain file.

    component, kind, tensor: as in a ledger's row. number: what the values are (a key of SIZES).
    shape: of the tensor those bytes hold, when they hold all of it densely; else None.
    elements: how many values. path: keys that lead to the tensor in its file.
    """

    start: int
    size: int
    component: str
    kind: str
    tensor: str = ""
    number: str = "uint8"
    elements: int = 0
    shape: tuple[int, ...] | None = None
    path: tuple[str, ...] = ()
    shared: bool = False


@dataclass(frozen=True)
class Plain:
    """Content of a file once nothing is compressed any more.

    data: its plain bytes. pieces tile them. facts: short strings by name, such as the numbers' format.
    notes: sentences for the user.
    """

    format: str
    data: memoryview
    pieces: tuple[Piece, ...]
    facts: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def too_many_tensors(what: str) -> CorruptData:
    """Return the error of a file with more than MAX_TENSORS tensors."""
    return CorruptData(
        f"{what}: too many tensors",
        expected=f"≤ {MAX_TENSORS}",
        fix="No artifact holds more; leave out what are no weights.",
    )


def tiled(parts: Iterable[Piece], total: int, what: str, gap: str = "padding") -> tuple[Piece, ...]:
    """Return pieces in order with gaps filled. Raises CorruptData when two overlap or leave the file."""
    tiles: list[Piece] = []
    at = 0
    for piece in sorted(parts, key=lambda piece: (piece.start, piece.size)):
        if piece.start < at:
            raise CorruptData(
                f"{what}: two parts overlap",
                expected=f"{piece.tensor or piece.kind} at byte {at} or later",
                found=piece.start,
            )
        if piece.start + piece.size > total:
            raise CorruptData(
                f"{what}: {piece.tensor or piece.kind} runs over the end",
                expected=f"≤ {total} bytes",
                found=piece.start + piece.size,
            )
        if piece.start > at:
            tiles.append(Piece(at, piece.start - at, "container", gap))
        tiles.append(piece)
        at = piece.start + piece.size
        if len(tiles) > MAX_PIECES:
            raise CorruptData(f"{what}: too many parts", expected=f"≤ {MAX_PIECES}")
    if at < total:
        tiles.append(Piece(at, total - at, "container", gap))
    return tuple(tiles)


def divided(piece: Piece, owners: Sequence[Piece]) -> Iterator[Piece]:
    """One region that several tensors view, split by their numbers of elements."""
    at = piece.start
    shares = split_bytes(piece.size, [max(owner.elements, 1) for owner in owners])
    for owner, share in zip(owners, shares, strict=True):
        yield replace(owner, start=at, size=share, shape=None, shared=True)
        at += share


def numbers(shape: Sequence[int]) -> int:
    """Elements of a shape."""
    return prod(shape)


def check_extent(shape: Sequence[int], where: str) -> None:
    """Raise BadCheckpoint for an empty shape that no array has: its other sizes multiply to too much."""
    if prod(size for size in shape if size) > MAX_EXTENT:
        raise BadCheckpoint(
            f"{where} has an odd shape", expected=f"≤ {MAX_EXTENT} beside zeros", found=list(shape)
        )


def entropy(data: memoryview, number: str) -> float:
    """Order-0 entropy in bytes, summed over the byte planes of the numbers."""
    octets = data.cast("B")
    width = SIZES.get(number, 1)
    if len(octets) % width:
        width = 1
    total = 0.0
    for plane in range(width):
        counts = [count for count in byte_counts(octets[plane::width]) if count]
        total -= sum(count * log2(count / sum(counts)) for count in counts) / 8
    return max(total, 0.0)


def byte_counts(octets: memoryview) -> list[int]:
    """Return how often each of the 256 bytes occurs. Without numpy it takes some ten times as long."""
    try:
        import numpy as np
    except ModuleNotFoundError:
        counter = Counter(octets.tobytes())
        return [counter[byte] for byte in range(256)]
    counts = np.zeros(256, np.int64)
    array = np.asarray(octets)
    for at in range(0, array.size, CHUNK):
        counts += np.bincount(array[at : at + CHUNK], minlength=256)
    return counts.tolist()


def entropies(plain: Plain) -> list[float]:
    """Order-0 entropy of every piece, in bytes."""
    return [
        entropy(plain.data[piece.start : piece.start + piece.size], piece.number)
        for piece in plain.pieces
    ]


def rows(name: str, plain: Plain, size: int, codec: str, floors: Sequence[float]) -> list[Row]:
    """Return the rows of a file of `size` bytes. codec: what it is compressed with, "" for nothing.

    Pieces of one tensor and kind, and all of the container's of one kind, become one row.
    """
    pieces = plain.pieces
    if not pieces:  # an empty file inside
        return [Row(name, "container", "stream", size, codec=codec)]
    if codec:
        # bits, and one more so that even constant pieces have a share
        shares = split_bytes(size, [int(8 * floor) + 1 for floor in floors])
    else:
        shares = [piece.size for piece in pieces]
    merged: dict[tuple[str, str, str], Row] = {}
    for piece, share in zip(pieces, shares, strict=True):
        key = (piece.component, piece.kind, piece.tensor)
        earlier = merged.get(key)
        if earlier is None:
            merged[key] = Row(
                name,
                piece.component,
                piece.kind,
                share,
                role_of(piece.tensor) if piece.tensor else "",
                layer_of(piece.tensor),
                piece.tensor,
                codec,
                piece.elements,
                piece.shared or bool(codec),
            )
        else:
            merged[key] = replace(
                earlier, bytes=earlier.bytes + share, elements=earlier.elements + piece.elements
            )
    return list(merged.values())
