"""Text to token shards, training apart from validation.

A document's side follows from a hash of its text, so the same document can never stand on both, whatever
the order of the files or the number of times it occurs. Shards hold whole documents, each behind a BOS.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from squeeze.data.documents import TextFiles, read_documents
from squeeze.errors import BadConfig, BadData, CorruptData
from squeeze.files import file_sha256, make_folder, read_file, write_atomic
from squeeze.reporter import SILENT, Reporter
from squeeze.score.tokenizer import Tokenizer
from squeeze.train.data.identity import STATE
from squeeze.train.data.shards import Tokens, shard_length, write_shard

PENDING = "pending.npz"
SIDES = ("train", "val")
ENCODED_AT_ONCE = 1024  # documents
SAVED_EVERY = 64  # such groups, between two states
# raised by numpy, zipfile and json on damaged files of states
DAMAGES = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    MemoryError,
    RecursionError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class ShardOptions:
    """Options of the shards to write.

    share: of documents that go to validation, 0 … 1. shard_tokens: a shard ends with the document
    that reaches this many. threads: of the tokenizer; the shards do not depend on it.
    """

    share: float = 0.01
    shard_tokens: int = 100_000_000
    threads: int = 1


@dataclass(frozen=True)
class Job:
    """Inputs and options of a run; the same job on the same files gives the same shards.

    inputs: (path, SHA-256) of each file. share: of documents that go to validation, 0 … 1.
    shard_tokens: a shard ends with the document that reaches this.
    """

    inputs: tuple[tuple[str, str], ...]
    tokenizer: str  # SHA-256
    share: float
    shard_tokens: int
    separator: str | None
    field: str

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise BadConfig("share of validation", expected="0 to 1", found=self.share)
        if not 1 <= self.shard_tokens < 1 << 30:
            raise BadConfig("tokens of a shard", expected="1 to 2³⁰", found=self.shard_tokens)


def is_validation(text: str, share: float) -> bool:
    """Return whether a document goes to validation, by the first 8 bytes of its BLAKE2b."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2.0**64


def tokenize(
    texts: TextFiles,
    tokenizer: Path,
    out: Path,
    options: ShardOptions = ShardOptions(),
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Write shards `train_000000.bin` … and `val_000000.bin` … to the folder `out`.

    An interrupted run resumes from its last saved state, and ends with the same shards. Returns
    shards, documents, tokens and bytes of each side: of the text, and by the
    tokenizer's table, as scores count them. Raises BadData for text or tokenizers that do
    not fit, and when `out` holds shards of another job.
    """
    pieces = _Pieces(tokenizer)
    for path in texts.paths:
        if not path.is_file():
            raise BadData(f"{path}: no such file")
    inputs = tuple((str(path), file_sha256(path)) for path in texts.paths)
    job = Job(
        inputs, pieces.sha256, options.share, options.shard_tokens, texts.separator, texts.field
    )
    make_folder(out)
    shards = _Shards(out, job)
    if not shards.finished:
        with reporter.stage("tokenizing", unit="documents") as stage:
            stage.advance(shards.documents)
            waiting = itertools.islice(read_documents(texts), shards.documents, None)
            for count, group in enumerate(_groups(waiting), start=1):
                for text, tokens in zip(group, pieces.encode(group, options.threads), strict=True):
                    shards.add(text, tokens, pieces.tokenizer.count(tokens[1:]))
                if count % SAVED_EVERY == 0:
                    shards.save()
                stage.advance(len(group))
        shards.finish()
    return shards.report()


def _groups(texts: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(texts)
    while group := list(itertools.islice(iterator, ENCODED_AT_ONCE)):
        yield group


class _Pieces:
    """A sentencepiece model as an encoder that puts BOS before each document.

    Raises BadData for one whose table counts bytes that no text has.
    """

    def __init__(self, path: Path) -> None:
        import sentencepiece

        self.tokenizer = Tokenizer(path)
        self.sha256 = self.tokenizer.sha256
        self._processor: Any = sentencepiece.SentencePieceProcessor()
        self._processor.LoadFromSerializedProto(read_file(path))
        size, bos = self._processor.vocab_size(), self._processor.bos_id()
        if not 0 < size <= 1 << 16 or bos < 0:
            raise BadData(
                f"{path}: cannot make shards",
                expected="at most 65536 pieces, one of them BOS",
                found=f"{size} pieces, BOS {bos}",
            )

    def encode(self, texts: list[str], threads: int) -> list[Tokens]:
        """Return the tokens of each text, uint16 [n]."""
        encoded = self._processor.encode(texts, add_bos=True, num_threads=threads)
        return [np.array(tokens, np.uint16) for tokens in encoded]


class _Shards:
    """Both sides' shards on disk and what waits for the next; saved as one state."""

    def __init__(self, out: Path, job: Job) -> None:
        self._out, self._job = out, job
        self.documents, self.finished = 0, False
        self._sizes: dict[str, list[int]] = {side: [] for side in SIDES}  # tokens of each shard
        self._counts = {side: {"documents": 0, "text_bytes": 0, "table_bytes": 0} for side in SIDES}
        self._waiting: dict[str, list[Tokens]] = {side: [] for side in SIDES}
        self._lengths = dict.fromkeys(SIDES, 0)  # tokens that wait
        self._resume()

    def add(self, text: str, tokens: Tokens, counted: int) -> None:
        """Add one document, whose tokens count as so many bytes by the tokenizer's table."""
        side = "val" if is_validation(text, self._job.share) else "train"
        self._waiting[side].append(tokens)
        self._counts[side]["documents"] += 1
        self._counts[side]["text_bytes"] += len(text.encode())
        self._counts[side]["table_bytes"] += counted
        self.documents += 1
        self._lengths[side] += len(tokens)
        if self._lengths[side] >= self._job.shard_tokens:
            self._flush(side)
            self.save()

    def finish(self) -> None:
        """Write what is left."""
        for side in SIDES:
            if self._waiting[side]:
                self._flush(side)
        if not self.documents:
            raise BadData("the files hold no text")
        self.finished = True
        self.save()

    def save(self) -> None:
        """Write everything that a run needs to resume, in one file that is replaced as a whole."""
        state = {
            "job": asdict(self._job),
            "documents": self.documents,
            "finished": self.finished,
            "sizes": self._sizes,
            "counts": self._counts,
        }
        buffer = io.BytesIO()
        arrays = {
            side: np.concatenate([np.zeros(0, np.uint16), *self._waiting[side]]) for side in SIDES
        }
        np.savez(buffer, state=np.frombuffer(json.dumps(state).encode(), np.uint8), **arrays)  # type: ignore[arg-type]
        write_atomic(self._out / PENDING, buffer.getvalue())
        if self.finished:
            write_atomic(self._out / STATE, json.dumps(state, indent=1).encode())

    def report(self) -> dict[str, Any]:
        """Return shards, documents, tokens and bytes of each side."""
        return {
            side: {
                "shards": [str(self._path(side, i)) for i in range(len(self._sizes[side]))],
                "tokens": sum(self._sizes[side]),
                **self._counts[side],
            }
            for side in SIDES
        }

    def _flush(self, side: str) -> None:
        tokens = np.concatenate(self._waiting[side])
        self._waiting[side], self._lengths[side] = [], 0
        write_shard(self._path(side, len(self._sizes[side])), tokens)
        self._sizes[side].append(len(tokens))

    def _path(self, side: str, number: int) -> Path:
        return self._out / f"{side}_{number:06d}.bin"

    def _take(self, state: dict[str, Any], waiting: dict[str, Tokens]) -> None:
        """Put a state in place; KeyError, TypeError or ValueError for one that `save` never wrote."""
        self.documents, self.finished = int(state["documents"]), bool(state["finished"])
        self._sizes = {side: [int(size) for size in state["sizes"][side]] for side in SIDES}
        names = self._counts["train"]
        self._counts = {
            side: {name: int(state["counts"][side][name]) for name in names} for side in SIDES
        }
        if any(tokens.ndim != 1 for tokens in waiting.values()):
            raise ValueError("tokens that are no list")
        self._waiting = {side: [tokens] if len(tokens) else [] for side, tokens in waiting.items()}
        self._lengths = {side: len(tokens) for side, tokens in waiting.items()}

    def _resume(self) -> None:
        pending = self._out / PENDING
        if not pending.is_file():
            return
        try:
            with zipfile.ZipFile(pending) as archive:
                if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                    raise ValueError("its arrays are compressed")  # as `save` never writes them
            with np.load(pending, allow_pickle=False) as arrays:
                state = json.loads(arrays["state"].tobytes())
                waiting = {side: arrays[side].astype(np.uint16) for side in SIDES}
            job = state["job"]
            self._take(state, waiting)
        except DAMAGES as error:
            raise CorruptData(
                f"{pending}: damaged: {str(error)[:200]}", fix="Delete it to start over."
            ) from None
        if json.loads(json.dumps(asdict(self._job))) != job:
            raise BadData(
                f"{self._out}: holds the shards of another job",
                fix="Choose another folder, or delete them to start over.",
            )
        for side in SIDES:
            for number, size in enumerate(self._sizes[side]):
                if shard_length(self._path(side, number)) != size:
                    raise CorruptData(
                        f"{self._path(side, number)}: not the shard that was written",
                        expected=f"{size} tokens",
                        fix="Delete the folder's files to start over.",
                    )
