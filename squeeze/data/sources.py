"""Sources of shards: a folder, a plain web server, or a repository of the Hugging Face Hub.

All three hold the same relative paths. The latter two resume a download that was cut off.
"""

from __future__ import annotations

import http.client
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from squeeze.data.origins import Origin, begin, forget_origin, read_origin, validator_of
from squeeze.errors import BadData, MissingPackage, SqueezeError
from squeeze.files import read_file
from squeeze.reporter import Reporter

BLOCK = 1 << 20  # bytes
TIMEOUT = 30.0  # seconds without a byte
TRIES = 4  # of a connection that breaks
SUMS, MAX_SUMS = "SHA256SUMS", 16 << 20  # as sha256sum writes it; optional; bytes


class Source(Protocol):
    """A tree of files."""

    @property
    def name(self) -> str:
        """Address of the source, for people."""

    def sums(self) -> dict[str, str]:
        """Return the SHA-256 of each file, by path, where the source states it."""

    def fetch(self, path: str, partial: Path, sha256: str | None, reporter: Reporter) -> None:
        """Bring the file to `partial`, after the bytes that it holds already if they are of that file.

        sha256: that it must have, where the source states it

        Raises SqueezeError when it does not exist or cannot be had.
        """


@dataclass(frozen=True)
class Folder:
    """Files on this machine."""

    name: str

    def sums(self) -> dict[str, str]:
        """See `Source`."""
        listed = Path(self.name) / SUMS
        if not listed.is_file():
            return {}
        return parse_sums(read_file(listed, MAX_SUMS).decode("utf-8", "replace"))

    def fetch(self, path: str, partial: Path, sha256: str | None, reporter: Reporter) -> None:
        """See `Source`."""
        origin = Path(self.name) / path
        if not origin.is_file():
            raise BadData(f"{origin}: no such file", expected="the layout of docs/data.md")
        total = origin.stat().st_size
        forget_origin(partial)
        try:
            with (
                open(origin, "rb") as source,
                open(partial, "wb") as target,
                reporter.stage(path, total, "bytes") as stage,
            ):
                while block := source.read(BLOCK):
                    target.write(block)
                    stage.advance(len(block))
        except OSError as error:
            raise SqueezeError(
                f"{origin}: cannot be copied to {partial}: {error.strerror or error}"
            ) from None


@dataclass(frozen=True)
class Web:
    """Files below an http or https address."""

    name: str

    def sums(self) -> dict[str, str]:
        """See `Source`."""
        try:
            with self._open(SUMS, 0) as answer:
                return parse_sums(answer.read(MAX_SUMS).decode("utf-8", "replace"))
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return {}
            raise SqueezeError(f"{self.name}: cannot be asked for checksums: {error}") from None
        except (OSError, http.client.HTTPException) as error:
            raise SqueezeError(f"{self.name}: cannot be reached: {error}") from None

    def fetch(self, path: str, partial: Path, sha256: str | None, reporter: Reporter) -> None:
        """See `Source`. A connection that breaks is taken up again, a few times."""
        for attempt in range(TRIES):
            try:
                if self._resume(path, partial, sha256, reporter):
                    forget_origin(partial)
                    return
                problem: object = "the connection was closed early"
            except urllib.error.HTTPError as error:
                if error.code == 416:  # nothing lies beyond what is there: it was another file
                    partial.unlink(missing_ok=True)
                elif error.code < 500:
                    raise BadData(f"{self.name}/{path}: not there", found=error) from None
                problem = error
            except (OSError, http.client.HTTPException) as error:
                problem = error
            if attempt + 1 == TRIES:
                raise SqueezeError(
                    f"{self.name}/{path}: cannot be fetched: {problem}",
                    fix="Run the command again: it goes on from what has arrived.",
                )

    def _resume(self, path: str, partial: Path, sha256: str | None, reporter: Reporter) -> bool:
        """Read the bytes that are missing, and return whether all of them came."""
        address = self._address(path)
        origin = read_origin(partial)
        resumable = sha256 is not None if origin is None else origin.is_of(address, sha256)
        there = partial.stat().st_size if resumable and partial.exists() else 0
        validator = origin.validator if origin and origin.address == address else None
        with self._open(path, there, validator) as answer:
            if answer.status == 206 and not _continues(answer, there, validator):
                partial.unlink()
                return False
            if answer.status != 206:
                there = 0  # the server sends the whole file
                begin(partial, Origin(address, sha256, validator_of(answer.headers)))
            length = answer.headers.get("Content-Length")
            total = there + int(length) if length else 0
            with (
                open(partial, "ab") as target,
                reporter.stage(path, total or None, "bytes") as stage,
            ):
                stage.advance(there)
                while block := answer.read(BLOCK):
                    target.write(block)
                    there += len(block)
                    stage.advance(len(block))
        return not total or there == total

    def _address(self, path: str) -> str:
        return f"{self.name.rstrip('/')}/{urllib.parse.quote(path)}"

    def _open(self, path: str, start: int, validator: str | None = None) -> Any:
        request = urllib.request.Request(self._address(path))
        if start:
            request.add_header("Range", f"bytes={start}-")
            if validator is not None:
                request.add_header("If-Range", validator)
        return urllib.request.urlopen(request, timeout=TIMEOUT)


def _continues(answer: Any, start: int, validator: str | None) -> bool:
    """Return whether an answer holds the bytes from `start` on, of the file with this validator."""
    if not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        return False
    if validator is None or validator_of(answer.headers) == validator:
        return True
    # a server that has compared the time of the last change need not say it again
    stated = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
    return stated is None and not validator.startswith('"')


class Hub:
    """A data set repository of the Hugging Face Hub at a revision, by huggingface_hub."""

    def __init__(self, repository: str, revision: str, root: str, work: Path) -> None:
        try:
            import huggingface_hub
        except ImportError:
            raise MissingPackage(
                "the Hugging Face Hub needs huggingface_hub; --from a folder or an address does not",
                "data",
            ) from None
        self._name = f"hub:{repository}@{revision}/{root}"
        self._hub: Any = huggingface_hub
        self._repository, self._revision = repository, revision
        self._root, self._work = root, work

    @property
    def name(self) -> str:
        """See `Source`."""
        return self._name

    def sums(self) -> dict[str, str]:
        """See `Source`: large files are stored under their SHA-256."""
        try:
            entries = self._hub.HfApi().list_repo_tree(
                self._repository,
                self._root or None,
                recursive=True,
                repo_type="dataset",
                revision=self._revision,
            )
            return {
                entry.path.removeprefix(f"{self._root}/"): entry.lfs.sha256
                for entry in entries
                if getattr(entry, "lfs", None) is not None
            }
        except Exception as error:  # the library raises its own kinds and those of its transport
            raise SqueezeError(f"{self.name}: cannot be listed: {_short(error)}") from None

    def fetch(self, path: str, partial: Path, sha256: str | None, reporter: Reporter) -> None:
        """See `Source`: the library leaves partial files below the working folder."""
        remote = f"{self._root}/{path}" if self._root else path
        forget_origin(partial)
        try:
            with reporter.stage(path):
                downloaded = self._hub.hf_hub_download(
                    self._repository,
                    remote,
                    repo_type="dataset",
                    revision=self._revision,
                    local_dir=self._work,
                )
            shutil.move(os.path.realpath(downloaded), partial)
        except Exception as error:
            raise SqueezeError(
                f"{self.name}: {path} cannot be fetched: {_short(error)}",
                fix="Run the command again: it goes on from what has arrived.",
            ) from None


def open_source(place: str) -> Source:
    """Return the source at a folder or an http(s) address. Raises BadData for neither."""
    if place.startswith(("http://", "https://")):
        return Web(place)
    if Path(place).is_dir():
        return Folder(place)
    raise BadData(f"{place}: no source of data", expected="a folder or an http(s) address")


def parse_sums(text: str) -> dict[str, str]:
    """Read lines of sha256sum: 64 hexadecimal digits, two characters, a path; skip other lines."""
    sums = {}
    for line in text.splitlines():
        digest, _, path = line.partition(" ")
        if len(digest) == 64 and set(digest) <= set("0123456789abcdef"):
            sums[path.lstrip(" *").removeprefix("./")] = digest
    return sums


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
