"""Names and files that may be in a submission: plain ones. Everything else is refused by name.

A folder that strangers copy, unpack and commit holds regular files only, side by side, under names
that mean the same everywhere.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from squeeze.errors import SqueezeError
from squeeze.files import kind_of

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@-]{0,99}")
MAX_FILES = 200
MAX_FILE = 256 << 20  # bytes; the limit of the challenge is far below
MAX_JSON = 16 << 20


class BadSubmission(SqueezeError):
    """A submission that is incomplete, contradicts itself, or holds what must not ship."""


def safe_name(name: str) -> str:
    """Return a name. Raises BadSubmission for a path, a hidden file, an option, other than ASCII."""
    if not NAME.fullmatch(name):
        raise BadSubmission(
            "a name that must not be in a submission",
            expected="letters, digits and ._+@- without folders",
            found=repr(name)[:80],
        )
    return name


def safe_names(names: Iterable[str]) -> None:
    """Check names. Raises BadSubmission for an unsafe one, and for two that differ in case only."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(safe_name(name).lower(), name)
        if other is not name:
            raise BadSubmission("two files of one name", found=f"{other} and {name}")


def read_plain(path: Path, max_size: int = MAX_FILE) -> bytes:
    """Return the bytes of a regular file, without following links or waiting for pipes.

    Raises BadSubmission, which names the kind of anything else.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        what = "a symbolic link" if path.is_symlink() else error.strerror or str(error)
        raise BadSubmission(
            f"{path}: cannot be shipped", expected="a regular file", found=what
        ) from None
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > max_size:
        os.close(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise BadSubmission(
                f"{path}: cannot be shipped",
                expected="a regular file",
                found=kind_of(facts.st_mode),
            )
        raise BadSubmission(
            f"{path}: too large", expected=f"≤ {max_size:,} bytes", found=f"{facts.st_size:,}"
        )
    try:
        with os.fdopen(descriptor, "rb") as file:
            return file.read(max_size)
    except OSError as error:
        raise BadSubmission(f"{path}: cannot be read: {error.strerror or error}") from None


def plain_files(folder: Path) -> dict[str, int]:
    """Return the bytes of every file of a submission folder, by name, sorted.

    Raises BadSubmission for folders inside, links, devices, pipes, unsafe names, too many files.
    """
    try:
        if folder.is_symlink() or not folder.is_dir():
            what = "a symbolic link" if folder.is_symlink() else "no folder"
            raise BadSubmission(f"{folder}: not a submission", expected="a folder", found=what)
        sizes = {}
        with os.scandir(folder) as entries:
            for entry in entries:
                safe_name(entry.name)
                facts = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(facts.st_mode):
                    raise BadSubmission(
                        f"{folder.name}/{entry.name}: must not be in a submission",
                        expected="regular files, no folders",
                        found=kind_of(facts.st_mode),
                    )
                sizes[entry.name] = facts.st_size
                if len(sizes) > MAX_FILES or facts.st_size > MAX_FILE:
                    raise BadSubmission(
                        f"{folder}: too large for a submission",
                        expected=f"≤ {MAX_FILES} files of ≤ {MAX_FILE:,} bytes",
                    )
    except OSError as error:
        raise BadSubmission(f"{folder}: cannot be read: {error.strerror or error}") from None
    safe_names(sizes)
    return dict(sorted(sizes.items()))


def parse_object(data: bytes, what: str) -> dict[str, Any]:
    """Read a JSON object that every reader reads alike: UTF-8, no key twice, no NaN, bounded depth.

    what: name of the document in errors. Raises BadSubmission.
    """

    def refuse(text: str) -> NoReturn:
        raise BadSubmission(f"{what}: a number that is none", found=text[:40])

    def real(text: str) -> float:
        value = float(text)
        return value if math.isfinite(value) else refuse(text)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
            raise BadSubmission(f"{what}: a field twice", found=repr(twice)[:60])
        return fields

    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=once, parse_constant=refuse, parse_float=real
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # lone surrogates cannot be written
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise BadSubmission(f"{what}: cannot be read", expected="a JSON object")
    return value


def json_bytes(fields: Mapping[str, Any]) -> bytes:
    """Return a JSON object as the text of a file; raises ValueError for a number that is none."""
    return (json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_object(path: Path) -> dict[str, Any]:
    """Read the JSON object of a plain file; see `parse_object`."""
    return parse_object(read_plain(path, MAX_JSON), path.name)


def is_number(value: object) -> bool:
    """Return whether a value is a finite int or float, and no bool."""
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    )  # an int may be longer than any float


def is_whole(value: object) -> bool:
    """Return whether a value is an int, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def shown(value: object, length: int = 80) -> str:
    """Return a stranger's value as one line of a terminal or of a Markdown table."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = "".join(c if c.isprintable() else " " for c in text)
    text = " ".join(text.split())
    text = text if len(text) <= length else text[: length - 1] + "…"
    for old, new in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("[", "\\["), ("`", "'")):
        text = text.replace(old, new)
    return text
