"""Whole files read into memory, of bounded size, and JSON of bounded depth."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from squeeze.errors import CorruptData, SqueezeError, UnsupportedFormat
from squeeze.files.outputs import kind_of

LONGEST_WHOLE = 20  # digits of 2^64, or 19 and a sign
MAX_FILE = 8 << 30  # bytes; nothing squeeze reads in one piece is larger


def read_file(path: str | os.PathLike[str], max_size: int = MAX_FILE) -> bytes:
    """The bytes of a regular file; raises SqueezeError when it is missing, odd or over max_size."""
    try:
        if not os.path.isfile(path):
            kind = kind_of(os.stat(path).st_mode) if os.path.exists(path) else "nothing there"
            raise SqueezeError(f"{path}: cannot be read", expected="a file", found=kind)
        size = os.path.getsize(path)
        if size > max_size:
            raise SqueezeError(f"{path}: too large", expected=f"≤ {max_size} bytes", found=size)
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise SqueezeError(f"{path}: cannot be read: {error.strerror or error}") from None


@contextmanager
def of_file(name: str | os.PathLike[str]) -> Iterator[None]:
    """Put the name of a file before the message of an error about its bytes."""
    try:
        yield
    except (CorruptData, UnsupportedFormat) as error:
        raise type(error)(f"{name}: {error}") from None


class Remembering:
    """`read_file` for several views of the same files: small ones are read once.

    most: bytes kept of all files together.
    """

    def __init__(self, most: int = 64 << 20) -> None:
        self.left, self.kept = most, dict[str, bytes]()

    def __call__(self, path: str | os.PathLike[str]) -> bytes:
        key = os.path.abspath(path)
        if key in self.kept:
            return self.kept[key]
        data = read_file(path)
        if len(data) <= self.left:
            self.kept[key] = data
            self.left -= len(data)
        return data


def read_json(path: str | os.PathLike[str], max_size: int = MAX_FILE) -> Any:
    """Return the JSON value of a regular file. Raises SqueezeError."""
    return parse_json(read_file(path, max_size), str(path))


def parse_json(data: bytes | str, name: str) -> Any:
    """Return the value of JSON text.

    name: of its file or origin, for the message. Raises SqueezeError for text that is no JSON or is
    nested too deeply, and for numbers that are none (NaN) or too large for 64 bits.
    """
    try:
        return json.loads(data, parse_constant=_refuse, parse_float=_finite, parse_int=_whole)
    except RecursionError:
        raise SqueezeError(f"{name}: nested too deeply") from None
    except ValueError as error:
        raise SqueezeError(f"{name}: not JSON", found=str(error)[:100]) from None


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _whole(text: str) -> int:
    return int(text) if len(text) <= LONGEST_WHOLE else _refuse(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is no number of 64 bits")


def sha256(data: bytes | memoryview) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(data).hexdigest()


def hash_of(*facts: Any) -> str:
    """Return the hex SHA-256 of JSON values."""
    return sha256(json.dumps(facts, sort_keys=True).encode())


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a file of any size, read in blocks; raises SqueezeError when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SqueezeError(f"{path}: cannot be read: {error.strerror or error}") from None
