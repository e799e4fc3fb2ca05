"""A sentencepiece tokenizer trained on documents."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from squeeze.data.documents import read_documents
from squeeze.errors import BadData, SqueezeError
from squeeze.files import read_file, scratch_folder, write_atomic
from squeeze.score.tokenizer import Tokenizer
from squeeze.train.data.text import train_tokenizer

MAX_VOCAB = 1 << 16  # shards hold uint16 tokens


def make_tokenizer(
    paths: Sequence[Path],
    out: Path,
    vocab_size: int,
    max_bytes: int | None = None,
    separator: str | None = None,
    field: str = "text",
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Train a byte-fallback BPE model (`train_tokenizer`) on the first `max_bytes` of text.

    The same text gives the same bytes. Raises BadData for too little text, or when what was trained
    does not give back a text it encodes.
    """
    if not 1 <= vocab_size <= MAX_VOCAB:
        raise BadData("vocabulary", expected=f"1 to {MAX_VOCAB} pieces", found=vocab_size)
    used = _Used(read_documents(paths, separator, field), max_bytes, on_progress)
    try:
        with scratch_folder(f".{out.name}.", out.parent) as folder:
            trained = folder / "tokenizer.model"
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

    def __init__(
        self,
        texts: Iterable[str],
        max_bytes: int | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self._texts, self._max_bytes, self._on_progress = texts, max_bytes, on_progress
        self.documents = self.bytes = 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            self.documents += 1
            self.bytes += len(text.encode())
            if self._on_progress is not None:
                self._on_progress(self.bytes, self._max_bytes or 0)
            yield text
            if self._max_bytes is not None and self.bytes >= self._max_bytes:
                return
