"""Token shards of the challenge. No torch here."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from squeeze.errors import BadData
from squeeze.files import atomic_writer

Tokens = npt.NDArray[np.uint16]
Batch = npt.NDArray[np.int64]
TokenIds = npt.ArrayLike  # integers [n]

MAGIC = 20240520
VERSION = 1
HEADER_INTS = 256
HEADER_BYTES = 4 * HEADER_INTS
MAX_TOKEN = 65_535


def shard_length(path: str | os.PathLike[str]) -> int:
    """Return the number of tokens in a shard.

    A shard is 256 little-endian int32 (magic, version, count, rest ignored), then uint16 tokens.

    Raises BadData, with its own message for a file that is missing, shorter than its header, of a wrong
    magic or version, with a negative count, or of fewer or more bytes than its count says.
    """
    try:
        if not os.path.isfile(path):
            raise BadData(f"{path}: no such file", expected="a token shard (.bin)")
        size = os.path.getsize(path)
        header = np.fromfile(path, "<i4", min(HEADER_INTS, size // 4))
    except OSError as error:
        raise BadData(f"{path}: cannot be read: {error.strerror}") from None
    if len(header) < HEADER_INTS:
        raise BadData(
            f"{path}: too short for a shard header", expected=f"≥ {HEADER_BYTES} bytes", found=size
        )
    magic, version, count = (int(value) for value in header[:3])
    if magic != MAGIC:
        raise BadData(f"{path}: not a token shard", expected=f"magic {MAGIC}", found=magic)
    if version != VERSION:
        raise BadData(f"{path}: unknown shard version", expected=VERSION, found=version)
    if count < 0:
        raise BadData(f"{path}: shard header has a negative token count", found=count)
    expected = HEADER_BYTES + 2 * count
    if size < expected:
        raise BadData(f"{path}: shard is truncated", expected=f"{expected} bytes", found=size)
    if size > expected:
        raise BadData(
            f"{path}: bytes left over after the last token", expected=f"{expected}", found=size
        )
    return count


def as_tokens(ids: TokenIds) -> Tokens:
    """Return token ids, a sequence or an array of integers [n], as uint16. Raises BadData for others.

    >>> as_tokens([1, 2, 65535])
    array([    1,     2, 65535], dtype=uint16)
    """
    try:
        array = np.asarray(ids)
    except ValueError:
        raise BadData(
            "not token ids", expected="one dimension of integers", found="rows of several lengths"
        ) from None
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise BadData(
            "not token ids",
            expected="one dimension of integers",
            found=f"{array.dtype} of shape {array.shape}",
        )
    if array.size and not 0 <= int(array.min()) <= int(array.max()) <= MAX_TOKEN:
        raise BadData(
            "a token id is out of range",
            expected=f"0 to {MAX_TOKEN:,}",
            found=f"{int(array.min())} to {int(array.max())}",
        )
    return array.astype(np.uint16)


def read_shard(path: str | os.PathLike[str], max_tokens: int | None = None) -> Tokens:
    """Return the first max_tokens (or all) tokens uint16 [n] of a shard; raises as `shard_length`."""
    count = shard_length(path)
    if max_tokens is not None:
        count = min(count, max_tokens)
    return np.fromfile(path, "<u2", count, offset=HEADER_BYTES).astype(np.uint16, copy=False)


def map_shard(path: str | os.PathLike[str]) -> Tokens:
    """Return all tokens uint16 [n] of a shard, read from disk when they are used; raises BadData."""
    count = shard_length(path)
    if not count:
        return np.zeros(0, np.uint16)
    return np.memmap(path, "<u2", "r", HEADER_BYTES, (count,))


def read_shards(paths: list[Path] | list[str], max_tokens: int | None = None) -> Tokens:
    """Return shards joined in their order, cut after max_tokens; the headers of all are checked."""
    parts, left = [], max_tokens
    for path in paths:
        parts.append(read_shard(path, left))
        if left is not None:
            left -= len(parts[-1])
    return np.concatenate(parts) if parts else np.zeros(0, np.uint16)


def write_shard(path: str | os.PathLike[str], tokens: Tokens) -> None:
    """Write tokens uint16 [n] as a shard, whole or not at all.

    Raises BadData when they are not uint16 or too many, SqueezeError when the file cannot be written.
    """
    if tokens.dtype != np.uint16 or tokens.ndim != 1 or len(tokens) >= 1 << 31:
        raise BadData(
            f"{path}: cannot be written as a shard",
            expected="uint16 [n], n < 2³¹",
            found=f"{tokens.dtype} {tokens.shape}",
        )
    header = np.zeros(HEADER_INTS, "<i4")
    header[:3] = MAGIC, VERSION, len(tokens)
    with atomic_writer(path) as file:
        file.write(header.tobytes())
        file.write(tokens.astype("<u2", copy=False).tobytes())
