"""A sentencepiece tokenizer trained on documents."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from squeeze.data.documents import TextFiles, read_documents
from squeeze.errors import BadData, SqueezeError
from squeeze.files import read_file, scratch_folder, write_atomic
from squeeze.reporter import SILENT, Reporter
from squeeze.score.tokenizer import Tokenizer
from squeeze.train.data.text import train_tokenizer

MAX_VOCAB = 1 << 16  # shards hold uint16 tokens


def make_tokenizer(
    texts: TextFiles,
    out: Path,
    vocab_size: int,
    max_bytes: int | None = None,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Train a byte-fallback BPE model (`train_tokenizer`) on text, write it, and return its figures.

    out: the sentencepiece model to write. vocab_size: pieces, at most MAX_VOCAB. max_bytes: of UTF-8
    text used, from the first document on; None: all. The same text gives the same bytes. Raises
    BadData for too little text, and for a tokenizer that does not give back a text it encodes.
    """
    if not 1 <= vocab_size <= MAX_VOCAB:
        raise BadData("vocabulary", expected=f"1 to {MAX_VOCAB} pieces", found=vocab_size)
    try:
        with scratch_folder(f".{out.name}.", out.parent) as folder:
            trained = folder / "tokenizer.model"
            with reporter.stage("reading text", max_bytes, "bytes") as stage:
                used = _Used(read_documents(texts), max_bytes, stage)
                train_tokenizer(used, vocab_size, trained)
            pieces = Tokenizer(trained)
            write_atomic(out, read_file(trained))
    except OSError as error:
        raise SqueezeError(f"{out}: cannot be written: {error.strerror or error}") from None
    return {
        "tokenizer": os.fspath(out),
        "pieces": pieces.vocab_size,
        "bytes": out.stat().st_size,
        "sha256": pieces.sha256,
        "documents": used.documents,
        "text_bytes": used.bytes,
    }


class _Used:
    """Documents until their text is long enough, counted."""

    def __init__(self, texts: Iterable[str], max_bytes: int | None, reporter: Reporter) -> None:
        self._texts, self._max_bytes, self._reporter = texts, max_bytes, reporter
        self.documents = self.bytes = 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            self.documents += 1
            size = len(text.encode())
            self.bytes += size
            self._reporter.advance(size)
            yield text
            if self._max_bytes is not None and self.bytes >= self._max_bytes:
                return
