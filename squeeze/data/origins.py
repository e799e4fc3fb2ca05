"""Origins of partial downloads: bytes of two files are never joined.

Beside the bytes that have arrived lies a note of where they are from. They are continued from the same
address as long as the server says that the file is the same one (RFC 9110, sections 8.8 and 13.1.5), and
from any address where both state the same SHA-256.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from squeeze.errors import SqueezeError
from squeeze.files import read_json, write_atomic

MAX_NOTE = 1 << 16  # bytes


@dataclass(frozen=True)
class Origin:
    """The file that the bytes of a partial download belong to.

    sha256: as the source states it; validator: ETag or Last-Modified of the server; None: not stated
    """

    address: str
    sha256: str | None
    validator: str | None

    def is_of(self, address: str, sha256: str | None) -> bool:
        """Return whether bytes from an address may be put behind these, if the validator agrees."""
        same_content = sha256 is not None and sha256 == self.sha256
        return same_content or (self.validator is not None and address == self.address)


def validator_of(headers: Mapping[str, str]) -> str | None:
    """Return the header that changes with the file: a strong ETag, else the time of its last change."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def read_origin(partial: Path) -> Origin | None:
    """Return the origin of a partial download, None where nothing tells it."""
    try:
        facts = read_json(_note(partial), MAX_NOTE)
        origin = Origin(facts["address"], facts["sha256"], facts["validator"])
    except (SqueezeError, OSError, ValueError, TypeError, KeyError):
        return None
    texts = (origin.sha256, origin.validator)
    fine = isinstance(origin.address, str) and all(t is None or isinstance(t, str) for t in texts)
    return origin if fine else None


def begin(partial: Path, origin: Origin) -> None:
    """Drop what has arrived, and note the origin of what will."""
    partial.unlink(missing_ok=True)
    write_atomic(_note(partial), json.dumps(asdict(origin)).encode())


def forget_origin(partial: Path) -> None:
    """Remove the note beside a download that is whole, or will be of something else."""
    _note(partial).unlink(missing_ok=True)


def _note(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.origin")
