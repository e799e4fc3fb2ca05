"""Where calibration tokens come from: the model itself, a corpus (shards, text), or chance.

One interface for all, so that the choice can be measured: `source.draw(tokens, length)` gives whole
sequences of at least that many tokens. Validation calibration 1.1145, self-generated 1.1148, random
tokens 1.1165 BPB in #1019.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from squeeze.calib.text.generate import (
    BATCH,
    TEMPERATURE,
    NewCache,
    Progress,
    Tokens,
    generate,
    uniforms,
)
from squeeze.errors import BadConfig, BadData

TOKENS = 131_072  # 64 × 2,048, as record entries calibrate
MAX_LENGTH = 2048


@dataclass(frozen=True)
class Sequences:
    """Sequences that see nothing of one another: ids uint16 [N, T], real tokens in each int32 [N].

    What lies behind a sequence's length is padding. source: where they came from, for reports.
    Raises BadData when the shapes disagree or a length is not in 1..T.
    """

    ids: Tokens
    lengths: npt.NDArray[np.int32]
    source: str

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.lengths.shape != self.ids.shape[:1] or not self.ids.size:
            raise BadData(
                "calibration sequences",
                expected="ids [N, T] and lengths [N], neither empty",
                found=f"{self.ids.shape} and {self.lengths.shape}",
            )
        if self.lengths.min() < 1 or self.lengths.max() > self.ids.shape[1]:
            raise BadData(
                "calibration sequence lengths",
                expected=f"1..{self.ids.shape[1]}",
                found=f"{self.lengths.min()}..{self.lengths.max()}",
            )

    @classmethod
    def whole(cls, ids: Tokens, source: str) -> Sequences:
        """Rows without padding."""
        return cls(ids, np.full(len(ids), ids.shape[1], np.int32), source)

    @property
    def tokens(self) -> int:
        """Real tokens in all sequences."""
        return int(self.lengths.sum(dtype=np.int64))

    def digest(self) -> str:
        """SHA-256 (hex) of ids and lengths: equal digests calibrate equally."""
        state = hashlib.sha256(repr(self.ids.shape).encode())
        state.update(np.ascontiguousarray(self.ids, "<u2").tobytes())
        state.update(np.ascontiguousarray(self.lengths, "<i4").tobytes())
        return state.hexdigest()

    def cut_at(self, bos: int) -> Sequences:
        """The same tokens with every document, which opens with `bos`, in a sequence of its own."""
        pieces = [
            piece
            for row, length in zip(self.ids, self.lengths, strict=True)
            for piece in np.split(row[:length], np.flatnonzero(row[:length] == bos))
            if len(piece)
        ]
        lengths = np.array([len(piece) for piece in pieces], np.int32)
        ids = np.zeros((len(pieces), int(lengths.max())), np.uint16)
        for row, piece in zip(ids, pieces, strict=True):
            row[: len(piece)] = piece
        return Sequences(ids, lengths, self.source)


class Source(Protocol):
    """Anything that calibration sequences can be drawn from."""

    def draw(self, tokens: int, length: int) -> Sequences:
        """⌈tokens/length⌉ sequences of `length` tokens."""


@dataclass(frozen=True)
class SelfGenerated:
    """Text the model samples (see `generate`); every rank of a process group gets all of it."""

    new_cache: NewCache
    vocab_size: int
    seed: int = 0
    temperature: float = TEMPERATURE
    batch: int = BATCH
    on_progress: Progress | None = None

    def draw(self, tokens: int, length: int) -> Sequences:
        """See Source.draw."""
        ids = generate(
            self.new_cache,
            self.vocab_size,
            _count(tokens, length),
            length,
            seed=self.seed,
            temperature=self.temperature,
            batch=self.batch,
            on_progress=self.on_progress,
        )
        return Sequences.whole(ids, "self-generated")


@dataclass(frozen=True)
class Corpus:
    """Windows of real text: tokens uint16 [n], of shards or of an encoded text.

    The windows lie on a grid of the length asked for, and the seed picks which; they do not overlap.
    """

    tokens: Tokens = field(repr=False)
    source: str
    vocab_size: int
    seed: int = 0

    def draw(self, tokens: int, length: int) -> Sequences:
        """See Source.draw. Raises BadData for too little text or a token outside the vocabulary."""
        count = _count(tokens, length)
        have = len(self.tokens) // length
        if have < count:
            raise BadData(
                f"too little {self.source} text to calibrate on",
                expected=f"≥ {count * length} tokens",
                found=len(self.tokens),
                fix="Give more text, or fewer calibration tokens.",
            )
        picked = np.random.default_rng(self.seed).choice(have, count, replace=False)
        ids = self.tokens[: have * length].reshape(have, length)[np.sort(picked)]
        if int(ids.max()) >= self.vocab_size:
            raise BadData(
                f"{self.source} text holds a token outside the model's vocabulary",
                expected=f"tokens below {self.vocab_size}",
                found=int(ids.max()),
                fix="Use shards made with the model's tokenizer.",
            )
        return Sequences.whole(ids.astype(np.uint16), self.source)


@dataclass(frozen=True)
class RandomTokens:
    """Independent uniform tokens: the floor that real text has to beat."""

    vocab_size: int
    seed: int = 0

    def draw(self, tokens: int, length: int) -> Sequences:
        """See Source.draw."""
        numbers = uniforms(self.seed, range(_count(tokens, length)), length)
        return Sequences.whole((numbers * self.vocab_size).astype(np.uint16), "random tokens")


def window_length(seq_len: int) -> int:
    """Length of calibration sequences: the training window (beyond it a model degrades), ≤ 2,048."""
    return min(MAX_LENGTH, seq_len)


def _count(tokens: int, length: int) -> int:
    if tokens < 1 or length < 1:
        raise BadConfig(
            "calibration text",
            expected="at least 1 token",
            found=f"{tokens} in windows of {length}",
        )
    return -(-tokens // length)
