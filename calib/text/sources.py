"""Sources of calibration tokens: the model itself, a corpus (shards, text), or chance.

    text = Corpus(read_shards(paths), "shards", vocab_size).draw(tokens=131_072, length=2048)

All have one interface, so that the choice can be measured: in #1019 calibration on validation text
gave 1.1145 BPB, on self-generated text 1.1148, on random tokens 1.1165.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from squeeze.calib.text.generate import (
    BATCH,
    TEMPERATURE,
    NewCache,
    Tokens,
    generate,
    uniforms,
)
from squeeze.errors import BadConfig, BadData, CorruptData
from squeeze.files.arrays import read_arrays, write_arrays
from squeeze.reporter import SILENT, Reporter

TOKENS = 131_072  # 64 × 2,048, as record entries calibrate
MAX_LENGTH = 2048
IDS = "ids"  # name of the tokens in a file


@dataclass(frozen=True)
class Sequences:
    """Sequences of tokens, of one length and independent of one another.

    ids: uint16 [N, T]
    source: origin of the text, for reports

    Raises BadData for ids of other dimensions, or none.
    """

    ids: Tokens
    source: str

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or not self.ids.size:
            raise BadData(
                "calibration sequences", expected="ids [N, T], not empty", found=self.ids.shape
            )

    @property
    def length(self) -> int:
        """Number of tokens in each sequence."""
        return self.ids.shape[1]

    @property
    def tokens(self) -> int:
        """Number of tokens in all sequences."""
        return self.ids.size

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the ids and their shape: equal digests calibrate equally."""
        state = hashlib.sha256(repr(self.ids.shape).encode())
        state.update(np.ascontiguousarray(self.ids, "<u2").tobytes())
        return state.hexdigest()

    def save(self, path: Path, key: str = "") -> None:
        """Write a safetensors file atomically."""
        write_arrays(path, {IDS: self.ids}, key, {"source": self.source})

    @classmethod
    def load(cls, path: Path, key: str = "") -> Sequences:
        """Read a file of `save`. Raises CorruptData when it is damaged or of another key."""
        arrays, facts = read_arrays(path, key)
        try:
            return cls(arrays[IDS].astype(np.uint16), str(facts["source"]))
        except (KeyError, BadData):
            raise CorruptData(f"{path}: not a file of calibration text") from None


class Source(Protocol):
    """A source that calibration sequences can be drawn from."""

    def draw(self, tokens: int, length: int) -> Sequences:
        """Return ⌈tokens/length⌉ sequences of `length` tokens."""


@dataclass(frozen=True)
class SelfGenerated:
    """Text that the model samples (see `generate`); every rank of a process group gets all of it."""

    new_cache: NewCache
    vocab_size: int
    seed: int = 0
    temperature: float = TEMPERATURE
    batch: int = BATCH
    reporter: Reporter = SILENT

    def draw(self, tokens: int, length: int) -> Sequences:
        """Return sampled sequences (see Source.draw)."""
        ids = generate(
            self.new_cache,
            self.vocab_size,
            _count(tokens, length),
            length,
            seed=self.seed,
            temperature=self.temperature,
            batch=self.batch,
            reporter=self.reporter,
        )
        return Sequences(ids, "self-generated")


@dataclass(frozen=True)
class Corpus:
    """Windows of real text.

    tokens: uint16 [n], of shards or of an encoded text
    source: origin of the text, for reports and errors
    seed: picks the windows, which lie on a grid of their length and do not overlap
    """

    tokens: Tokens = field(repr=False)
    source: str
    vocab_size: int
    seed: int = 0

    def draw(self, tokens: int, length: int) -> Sequences:
        """Return windows (see Source.draw).

        Raises BadData for too little text or a token outside the vocabulary.
        """
        count = _count(tokens, length)
        windows = len(self.tokens) // length
        if windows < count:
            raise BadData(
                f"too little {self.source} text to calibrate on",
                expected=f"≥ {count * length} tokens",
                found=len(self.tokens),
                fix="Give more text, or fewer calibration tokens.",
            )
        picked = np.random.default_rng(self.seed).choice(windows, count, replace=False)
        ids = self.tokens[: windows * length].reshape(windows, length)[np.sort(picked)]
        if int(ids.max()) >= self.vocab_size:
            raise BadData(
                f"{self.source} text holds a token outside the model's vocabulary",
                expected=f"tokens below {self.vocab_size}",
                found=int(ids.max()),
                fix="Use shards made with the model's tokenizer.",
            )
        return Sequences(ids.astype(np.uint16), self.source)


@dataclass(frozen=True)
class RandomTokens:
    """Independent uniform tokens: the floor that real text has to beat."""

    vocab_size: int
    seed: int = 0

    def draw(self, tokens: int, length: int) -> Sequences:
        """Return random sequences (see Source.draw)."""
        numbers = uniforms(self.seed, range(_count(tokens, length)), length)
        return Sequences((numbers * self.vocab_size).astype(np.uint16), "random tokens")


def window_length(seq_len: int) -> int:
    """Return the tokens of a calibration sequence: the training window, at most 2,048.

    Beyond its training window a model degrades.
    """
    return min(MAX_LENGTH, seq_len)


def _count(tokens: int, length: int) -> int:
    if tokens < 1 or length < 1:
        raise BadConfig(
            "calibration text",
            expected="at least 1 token",
            found=f"{tokens} in windows of {length}",
        )
    return -(-tokens // length)
