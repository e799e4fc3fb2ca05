"""The file `squeeze prove` writes: a short header and one range-coded stream. See docs/prove.md.

No torch here: the header is checked before anything heavy is loaded.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import Any

from squeeze.codecs.coder import varint
from squeeze.errors import CorruptData, UnsupportedFormat

MAGIC = b"SQZP"
VERSION = 1
ID_BYTES = 4  # of the SHA-256 of artifact and tokenizer: they tell files apart, the digest proves
DIGEST_BYTES = 8
MAX_TOKENS = 1 << 31  # what a shard holds at most
MAX_BATCH = 1 << 12
MAX_THREADS = 1 << 10
MAX_TEXT = 1 << 12  # bytes of the machine's or the mode's description
MIN_BYTES = (
    len(MAGIC) + 1 + 2 * ID_BYTES + DIGEST_BYTES + 6 + 4
)  # six numbers of a byte, a checksum


@dataclass(frozen=True)
class Proof:
    """Contents of the file (docs/prove.md §1).

    artifact, tokenizer: first bytes of the SHA-256 of those files
    digest: of the coded tokens
    documents, tokens: their numbers, without the BOS that starts and ends each document
    batch: documents that advance together
    threads, machine: threads and kind of machine of the encoder
    mode: options of the predictor
    payload: the coded stream
    """

    artifact: bytes
    tokenizer: bytes
    digest: bytes
    documents: int
    tokens: int
    batch: int
    threads: int
    machine: str
    mode: dict[str, Any]
    payload: bytes

    def to_bytes(self) -> bytes:
        """Return the file's bytes."""
        texts = (self.machine.encode(), _canonical(self.mode))
        numbers = (self.documents, self.tokens, self.batch, self.threads)
        content = b"".join(
            (
                MAGIC,
                bytes([VERSION]),
                self.artifact,
                self.tokenizer,
                self.digest,
                *map(varint.write, numbers),
                *(varint.write(len(text)) + text for text in texts),
                self.payload,
            )
        )
        return content + zlib.crc32(content).to_bytes(4, "little")

    @classmethod
    def from_bytes(cls, data: bytes) -> Proof:
        """Return the proof in a file's bytes; raises UnsupportedFormat or CorruptData, by field."""
        if data[:4] != MAGIC:
            raise UnsupportedFormat(
                "not a file of squeeze prove", expected=MAGIC, found=data[:4] or "nothing"
            )
        if len(data) < MIN_BYTES:
            raise CorruptData("proof: too short", expected=f"≥ {MIN_BYTES} bytes", found=len(data))
        if data[4] != VERSION:
            raise UnsupportedFormat("proof: unknown version", expected=VERSION, found=data[4])
        if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
            raise CorruptData(
                "proof: the checksum does not match, so the file is damaged or cut off",
                fix="Copy it again, or encode again.",
            )
        reader = _Reader(data[:-4], 5)
        artifact, tokenizer = reader.take(ID_BYTES), reader.take(ID_BYTES)
        digest = reader.take(DIGEST_BYTES)
        documents = reader.number("documents", 1, MAX_TOKENS)
        tokens = reader.number("tokens", 0, MAX_TOKENS)
        batch = reader.number("batch", 1, min(MAX_BATCH, documents))
        threads = reader.number("threads", 1, MAX_THREADS)
        machine = reader.text("machine")
        mode = _read_mode(reader.text("mode"))
        return cls(
            artifact,
            tokenizer,
            digest,
            documents,
            tokens,
            batch,
            threads,
            machine,
            mode,
            reader.rest(),
        )


class _Reader:
    """A position in the header that fields are taken at; raises CorruptData beyond the end."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data, self._position = data, position

    def take(self, count: int) -> bytes:
        part = self._data[self._position : self._position + count]
        if len(part) < count:
            raise CorruptData("proof: header runs over the end", expected=count, found=len(part))
        self._position += count
        return part

    def number(self, name: str, low: int, high: int) -> int:
        value, self._position = varint.read(self._data, self._position, name, "proof header")
        if not low <= value <= high:
            raise CorruptData(f"proof: {name}", expected=f"{low}..{high}", found=value)
        return value

    def text(self, name: str) -> str:
        part = self.take(self.number(f"length of {name}", 0, MAX_TEXT))
        try:
            text = part.decode()
        except UnicodeDecodeError:
            raise CorruptData(f"proof: {name} is not UTF-8") from None
        if not text.isprintable():
            raise CorruptData(f"proof: {name} is not printable", found=ascii(text)[:80])
        return text

    def rest(self) -> bytes:
        return self._data[self._position :]


def _canonical(mode: dict[str, Any]) -> bytes:
    """Return canonical JSON; nothing for no options: most proofs need none, and every byte counts."""
    return json.dumps(mode, sort_keys=True, separators=(",", ":")).encode() if mode else b""


def _read_mode(text: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        mode = json.loads(text)
    except (ValueError, RecursionError):
        raise CorruptData("proof: mode is not JSON", found=text[:80]) from None
    if not isinstance(mode, dict) or _canonical(mode) != text.encode():
        raise CorruptData("proof: mode", expected="one canonical JSON object", found=text[:80])
    return mode
