"""Bytes of text that each scored token stands for: the denominator of bits per byte."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.errors import BadData
from squeeze.files import read_file, sha256
from squeeze.score.lossless import check_samples

# bytes; those of the challenge have 0.4 MB, and memory takes forty times as much
MAX_FILE = 4 << 20
MAX_PIECE = 256  # bytes; sentencepiece learns pieces of up to 16 characters unless told otherwise
CHUNK = 1024  # tokens decoded at once by the cross-check, cut where no character is split
BLOCK = 1 << 20  # tokens whose bytes are counted at once
SPACE = "▁"  # sentencepiece's visible space, U+2581

Tokens = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class ByteTable:
    """The challenge's byte accounting (`build_sentencepiece_luts` of the baseline `train_gpt.py`).

    base: int32 [V], UTF-8 bytes of the piece without its leading ▁; 1 for a byte piece; 0 for
        control, unknown and unused pieces
    space: bool [V], True where the piece starts with ▁
    boundary: bool [V], control, unknown or unused pieces: a ▁ right after one is not counted
    """

    base: npt.NDArray[np.int32]
    space: npt.NDArray[np.bool_]
    boundary: npt.NDArray[np.bool_]

    def check(self, vocab_size: int) -> None:
        """Raise BadData unless a model has as many tokens."""
        if len(self.base) != vocab_size:
            raise refuse_vocabulary(vocab_size, len(self.base))

    def of_targets(self, tokens: Tokens) -> npt.NDArray[np.int32]:
        """Return the bytes of each of tokens[1:] after the token before it, int32 [n - 1]."""
        before, target = tokens[:-1], tokens[1:]
        return self.base[target] + (self.space[target] & ~self.boundary[before])

    def count(self, tokens: Tokens, scored: npt.NDArray[np.bool_]) -> int:
        """Return the bytes of those of tokens[1:] that are scored, bool [n - 1], summed in int64."""
        total = 0
        for begin in range(0, len(scored), BLOCK):  # the whole validation set is 62M tokens
            part = scored[begin : begin + BLOCK]
            sizes = self.of_targets(tokens[begin : begin + len(part) + 1])
            total += int(sizes[part].sum(dtype=np.int64))
        return total


@dataclass(frozen=True)
class Text:
    """Tokens uint16 [n] to score, and the table that counts their bytes.

    Tokens of a transformers folder are int64 [n], with a `squeeze.score.texts.SpanTable`.
    """

    tokens: Tokens
    table: ByteTable


def refuse_vocabulary(vocab_size: int, pieces: int) -> BadData:
    """Return the error for a tokenizer of another number of pieces than the model has tokens."""
    return BadData(
        "tokenizer and model have different vocabularies",
        expected=f"a tokenizer of the model's {vocab_size} pieces",
        found=f"{pieces} pieces",
        fix="Give the tokenizer the model was trained with.",
    )


def byte_table(pieces: Any) -> ByteTable:
    """Return the table of a sentencepiece processor."""
    size = len(pieces)
    base = np.zeros(size, np.int32)
    space = np.zeros(size, np.bool_)
    boundary = np.zeros(size, np.bool_)
    for token in range(size):
        if pieces.is_control(token) or pieces.is_unknown(token) or pieces.is_unused(token):
            boundary[token] = True
        elif pieces.is_byte(token):
            base[token] = 1
        else:
            piece = pieces.id_to_piece(token)
            space[token] = piece.startswith(SPACE)
            # A ▁ further in is one space of text. The official script would count its three
            # UTF-8 bytes, but none of the challenge's tokenizers has such a piece.
            base[token] = len(piece.removeprefix(SPACE).replace(SPACE, " ").encode())
    return ByteTable(base, space, boundary)


def textless(table: ByteTable, token: int) -> ByteTable:
    """Return the table where a token stands for no text, since it is that before each document."""
    base, space = table.base.copy(), table.space.copy()
    base[token], space[token] = 0, False
    return ByteTable(base, space, table.boundary)


def read_table(path: str) -> ByteTable:
    """Return the table of a sentencepiece model file that has been checked before."""
    import sentencepiece

    return byte_table(sentencepiece.SentencePieceProcessor(model_file=path))


class Tokenizer:
    """A sentencepiece model with its byte table.

    size: bytes of its file
    bos_id: piece that begins a document, None where it has none
    notes: sentences on text that it does not give back, or may hold, for every score

    Raises BadData when the file is none, or its table counts bytes that its text does not have.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        import sentencepiece

        data = read_file(path, MAX_FILE)
        self.sha256, self.size = sha256(data), len(data)
        self._pieces: Any = sentencepiece.SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(data)
            self.vocab_size: int = self._pieces.vocab_size()
            self.table = byte_table(self._pieces)  # pieces that are not UTF-8 show here
        except (RuntimeError, ValueError):
            self.vocab_size = 0
        if not self.vocab_size:
            raise BadData(
                f"{path}: not a tokenizer",
                expected="a sentencepiece .model file",
                found=f"{len(data)} bytes that do not parse as one",
            )
        bos = int(self._pieces.bos_id())
        self.bos_id = bos if bos >= 0 else None
        starts = np.flatnonzero(self.table.boundary)
        self._start = int(starts[0]) if len(starts) else None
        self.notes = check_samples(self._pieces, self.count)
        if self.longest > MAX_PIECE:
            text = (
                f"a piece of the tokenizer stands for {self.longest:,} bytes: it may hold the text"
            )
            self.notes.append(text)
        self._byte = np.array([self._pieces.is_byte(token) for token in range(self.vocab_size)])

    @property
    def longest(self) -> int:
        """Bytes of its longest piece."""
        return int(self.table.base.max())

    def start_notes(self, token: int) -> list[str]:
        """Return a note on the token that begins documents, where it is a piece with text."""
        size = int(self.table.base[token] + self.table.space[token])
        if not size:
            return []
        return [
            f"token {token}, which begins documents, is the piece {self._pieces.id_to_piece(token)!r}: "
            f"its {size} bytes are counted nowhere; is it the right token?"
        ]

    def count(self, document: Tokens) -> int:
        """Return the bytes of a document's tokens [n], without its BOS, by the table."""
        if self._start is None:  # no piece that could start it
            return int((self.table.base[document] + self.table.space[document]).sum())
        text = np.concatenate([[self._start], document]).astype(np.uint16)
        return int(self.table.of_targets(text).sum(dtype=np.int64))

    def decode(self, ids: list[int]) -> str:
        """Return the text of token ids; control tokens vanish."""
        text: str = self._pieces.decode(ids)
        return text

    def check_bytes(self, tokens: Tokens) -> int:
        """Compare the table with the UTF-8 length of the decoded text of tokens [n].

        Skipped are unknown pieces, which have no text, and stretches that are not valid UTF-8 (a
        span that begins inside a character). Returns the bytes compared; raises BadData where the
        two differ: such a table would give a wrong denominator.
        """
        anchor = self._anchor()
        if anchor is None:
            return 0
        # decoding drops leading spaces, so every stretch is decoded behind a piece without one
        anchor_bytes = int(self.table.base[anchor])
        compared = 0
        for part in self._stretches(tokens):
            text = self.decode([anchor, *part.tolist()])
            if "\ufffd" in text:
                continue
            decoded = len(text.encode()) - anchor_bytes
            counted = int((self.table.base[part] + self.table.space[part]).sum())
            if counted != decoded:
                raise BadData(
                    "the tokenizer's byte table disagrees with the text it decodes",
                    expected=f"{decoded} bytes for {text[anchor_bytes:][:40]!r}",
                    found=f"{counted} in the table",
                    fix="A score would have a wrong denominator; use another tokenizer.",
                )
            compared += decoded
        return compared

    def _anchor(self) -> int | None:
        """Return a piece of plain ASCII text without a space; None: there is none."""
        for token in np.flatnonzero((self.table.base > 0) & ~self.table.space & ~self._byte):
            if self._pieces.id_to_piece(int(token)).isascii():
                return int(token)
        return None

    def _stretches(self, tokens: Tokens) -> Iterator[Tokens]:
        """Yield runs of text pieces between boundary pieces, in chunks that split no character."""
        start = 0
        for end in [*np.flatnonzero(self.table.boundary[tokens]).tolist(), len(tokens)]:
            while start < end:
                stop = min(start + CHUNK, end)
                while stop < end and self._byte[tokens[stop]]:
                    stop += 1
                yield tokens[start:stop]
                start = stop
            start = end + 1


def check_vocab(tokens: Tokens, vocab_size: int) -> None:
    """Raise BadData unless all tokens [n] lie below vocab_size."""
    if len(tokens) and int(tokens.max()) >= vocab_size:
        at = int(np.argmax(tokens >= vocab_size))
        raise BadData(
            "data holds a token outside the model's vocabulary",
            expected=f"tokens below {vocab_size}",
            found=f"token {int(tokens[at])} at position {at}",
            fix="Use shards made with the model's tokenizer.",
        )
