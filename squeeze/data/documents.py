"""Documents of text files: plain text, JSON lines, Parquet; one at a time, in the order of the files."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from squeeze.errors import BadData, MissingPackage

BLOCK = 1 << 20  # characters of plain text read at once
MAX_DOCUMENT = 1 << 30  # characters: a separator that never comes must not fill the memory
# Characters of a document in a compressed file: so many for each byte of the file, but any may have
# FEW. A compressor makes a thousand of a byte that says nothing.
RATIO, FEW = 64, 8 << 20
XZ_MEMORY = 129 << 20  # bytes of history, of which xz -9 asks for 65 MiB
KINDS = "txt, jsonl or parquet; txt and jsonl also with .gz, .xz or .bz2"


@dataclass(frozen=True)
class TextFiles:
    """Files of text, each of the kind that its name ends with.

    separator: string between the documents of a plain text file; None: a file is one document.
    field: name of the text in a JSON object or a Parquet row.
    """

    paths: Sequence[Path]
    separator: str | None = None
    field: str = "text"


def read_documents(texts: TextFiles) -> Iterator[str]:
    """Yield the documents that are not empty, in the order of the files.

    Raises BadData naming the file, and the line or row, that does not hold text.
    """
    for path in texts.paths:
        for text in _read(path, texts.separator, texts.field):
            if text:
                yield _without_halves(text)


def _without_halves(text: str) -> str:
    """Return text with U+FFFD for lone surrogates, which JSON may spell and no encoding carries."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class _Xz(io.RawIOBase):
    """Plain bytes of an .xz file of one or more streams, none of which may take more than XZ_MEMORY."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._decoder: lzma.LZMADecompressor | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        plain = self._plain(len(buffer))
        buffer[: len(plain)] = plain
        return len(plain)

    def close(self) -> None:
        self._file.close()
        super().close()

    def _plain(self, most: int) -> bytes:
        """Return some plain bytes, none at the end. Raises LZMAError, EOFError."""
        while True:
            data = b""
            if self._decoder is None or self._decoder.eof:
                data = b"" if self._decoder is None else self._decoder.unused_data
                data = data.lstrip(b"\0") or self._file.read(io.DEFAULT_BUFFER_SIZE).lstrip(b"\0")
                if not data:
                    return b""
                self._decoder = lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=XZ_MEMORY)
            elif self._decoder.needs_input:
                data = self._file.read(io.DEFAULT_BUFFER_SIZE)
                if not data:
                    raise EOFError("the stream is cut off")
            plain = self._decoder.decompress(data, most)
            if plain:
                return plain


OPENERS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".xz": _Xz, ".bz2": bz2.open}


def _read(path: Path, separator: str | None, field: str) -> Iterator[str]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    opener = OPENERS.get(suffixes[-1]) if suffixes else None
    kind = (suffixes[:-1] if opener else suffixes)[-1:] or [""]
    if not path.is_file():
        raise BadData(f"{path}: no such file", expected=KINDS)
    try:
        if kind[0] == ".parquet":
            yield from _parquet(path, field)
            return
        readers = {
            ".txt": _plain,
            ".text": _plain,
            ".md": _plain,
            ".jsonl": _lines,
            ".json": _lines,
        }
        if kind[0] not in readers:
            raise BadData(
                f"{path}: unknown kind of text", expected=KINDS, found=path.suffix or "no suffix"
            )
        plain = path.open("rb") if opener is None else io.BufferedReader(opener(path))
        longest = MAX_DOCUMENT
        if opener is not None:
            longest = min(longest, max(FEW, RATIO * os.path.getsize(path)))
        with io.TextIOWrapper(plain, encoding="utf-8-sig", newline="") as file:
            option: Any = separator if readers[kind[0]] is _plain else field
            yield from readers[kind[0]](path, file, option, longest)
    except UnicodeDecodeError as error:
        raise BadData(
            f"{path}: not UTF-8",
            found=f"byte {error.start} of a block",
            fix="Convert it, as iconv does.",
        ) from None
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise BadData(f"{path}: cannot be read: {error}") from None


def _plain(path: Path, file: IO[str], separator: str | None, longest: int) -> Iterator[str]:
    rest = ""
    while block := file.read(BLOCK):
        rest += block
        if separator:
            *whole, rest = rest.split(separator)
            yield from whole
        if len(rest) > longest:
            raise _too_long(path, longest, "Name what stands between documents with --separator.")
    yield rest


def _too_long(path: Path, longest: int, fix: str) -> BadData:
    return BadData(f"{path}: a document is too long", expected=f"≤ {longest:,} characters", fix=fix)


def _lines(path: Path, file: IO[str], field: str, longest: int) -> Iterator[str]:
    number = 0
    while line := file.readline(longest + 1):
        number += 1
        if len(line) > longest:
            raise _too_long(path, longest, f"Line {number} has no end.")
        if not line.strip():
            continue
        try:
            text = json.loads(line)[field]
        except (ValueError, RecursionError):
            raise BadData(f"{path}, line {number}: not JSON", found=line[:40]) from None
        except (TypeError, KeyError):
            text = None
        if not isinstance(text, str):
            raise BadData(
                f"{path}, line {number}: no text",
                expected=f"an object with a string {field!r}",
                found=line[:40],
                fix="Name another with --field.",
            )
        yield text


def _parquet(path: Path, field: str) -> Iterator[str]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingPackage(f"{path}: Parquet needs pyarrow; JSON lines do not", "data") from None
    try:
        table = pyarrow.parquet.ParquetFile(path)
        names = table.schema_arrow.names
        if field not in names:
            raise BadData(
                f"{path}: no column {field!r}",
                expected=", ".join(names)[:200],
                fix="Name another with --field.",
            )
        row = 0
        for batch in table.iter_batches(batch_size=1024, columns=[field]):
            for text in batch.column(0).to_pylist():
                row += 1
                if not isinstance(text, str):
                    raise BadData(f"{path}, row {row}: no text", found=repr(text)[:40])
                yield text
    except pyarrow.ArrowException as error:
        raise BadData(
            f"{path}: not a Parquet file", found=str(error).splitlines()[0][:80]
        ) from None
