"""Text files through the tokenizer of a transformers folder: tokens, and the bytes that each stands for.

Only `tokenizer.json` of the folder is read, by the library tokenizers: no code of it runs, nothing is
fetched. A token's bytes are those of the characters that end in it, by the offsets of the encoding.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.errors import BadData, MissingPackage
from squeeze.files import read_file, read_json, sha256
from squeeze.score.tokenizer import refuse_vocabulary

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
MAX_TOKENIZER, MAX_SETTINGS, MAX_TEXT = 1 << 26, 1 << 24, 1 << 26  # bytes
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SpanTable:
    """The bytes of one text's tokens, by position: a tokenizer of words has none by token alone.

    sizes: int64 [n - 1], UTF-8 bytes that tokens[1:] stand for
    pieces: tokens that the tokenizer knows
    """

    sizes: Int64
    pieces: int

    def check(self, vocab_size: int) -> None:
        """Raise BadData for a model of fewer tokens; models pad their tables."""
        if vocab_size < self.pieces:
            raise refuse_vocabulary(vocab_size, self.pieces)

    def count(self, tokens: Any, scored: npt.NDArray[np.bool_]) -> int:
        """Return the bytes of those of tokens[1:] that are scored, bool [≤ n - 1]."""
        return int(self.sizes[: len(scored)][scored].sum())


class TextTokenizer:
    """The tokenizer of a folder of transformers.

    bos: token that begins a text, None where the folder names none

    Raises BadData for a folder without `tokenizer.json`, or with one that the library does not read.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.notes: list[str] = []
        path = Path(folder, TOKENIZER)
        if not path.is_file():
            raise BadData(
                f"{folder}: no tokenizer that squeeze reads",
                expected=f"{TOKENIZER} in it",
                fix="Write one with the fast tokenizer's save_pretrained, which runs no code when read.",
            )
        data = read_file(path, MAX_TOKENIZER)
        self.sha256 = sha256(data)
        library = _library()
        try:
            self._pieces: Any = library.Tokenizer.from_str(data.decode())
        except Exception as error:  # the library raises bare Exceptions
            raise BadData(f"{path}: not a tokenizer: {str(error)[:200]}") from error
        self._pieces.no_padding()
        self._pieces.no_truncation()
        # "<|endoftext|>" in a text is text
        self._pieces.encode_special_tokens = True
        self.vocab_size: int = self._pieces.get_vocab_size()
        self.bos = self._bos(Path(folder, SETTINGS))
        if self.bos is None:
            self.notes.append(
                "the tokenizer names no token that begins a text: the first token of the data has no "
                "context and is not scored, and its bytes are not counted"
            )

    def read(self, files: Sequence[Path]) -> tuple[Int64, SpanTable, dict[str, str]]:
        """Return the tokens of text files, a BOS before each, their bytes, and the files' SHA-256.

        Raises BadData for what is not UTF-8, or does not come back from its tokens.
        """
        start = [] if self.bos is None else [self.bos]
        tokens: list[int] = []
        sizes: list[int] = []
        hashes = {}
        for file in files:
            data = read_file(file, MAX_TEXT)
            hashes[str(file)] = sha256(data)
            ids, spans = self._encode(file, data)
            tokens += start + ids
            sizes += [0] * len(start) + spans
        table = SpanTable(np.array(sizes[1:], np.int64), self.vocab_size)
        return np.array(tokens, np.int64), table, hashes

    def _encode(self, file: Path, data: bytes) -> tuple[list[int], list[int]]:
        """Return the tokens of a text and the bytes of each."""
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise BadData(
                f"{file}: not text",
                expected="UTF-8, since the tokenizer is that of a folder",
                fix="Score shards with the sentencepiece model that they were made with.",
            ) from None
        encoding = self._pieces.encode(text, add_special_tokens=False)
        again = self._pieces.decode(encoding.ids, skip_special_tokens=False)
        if again != text:
            pairs = enumerate(zip(again, text, strict=False))
            at = next((i for i, (a, b) in pairs if a != b), min(len(again), len(text)))
            raise BadData(
                f"{file}: the tokenizer does not give the text back",
                expected=f"{text[at : at + 30]!r} from character {at} on",
                found=repr(again[at : at + 30]),
                fix="A score would divide by bytes that the tokens do not stand for; use a tokenizer "
                "that neither normalises nor drops characters.",
            )
        # bytes of the text before each character: UTF-8 spends one to four on it
        codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
        width = 1 + (codes > 0x7F).astype(np.int64) + (codes > 0x7FF) + (codes > 0xFFFF)
        before = np.concatenate([[0], np.cumsum(width)])
        # pieces of one character share its offsets: its bytes are the last one's, as are spaces trimmed
        ends = np.array(list(accumulate((end for _, end in encoding.offsets), max)), np.int64)
        if len(ends):
            last = np.append(ends[1:] != ends[:-1], True)
            ends = np.maximum.accumulate(np.where(last, ends, 0))
            ends[-1] = len(text)
        return encoding.ids, np.diff(before[ends], prepend=0).tolist()

    def _bos(self, path: Path) -> int | None:
        settings = read_json(path, MAX_SETTINGS) if path.is_file() else {}
        name = settings.get("bos_token") if isinstance(settings, dict) else None
        if isinstance(name, dict):
            name = name.get("content")
        return self._pieces.token_to_id(name) if isinstance(name, str) else None


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise MissingPackage(
            "the tokenizer of a folder needs the package tokenizers", "transformers"
        ) from error
    return tokenizers
