"""Overlap of the validation documents with the training shards, exact or near.

The index holds the validation set alone: hashes of its documents and a sample of its shingles (runs of
SHINGLE tokens), 8 bytes each, so that training data of any length streams past it. At the default
sample of one in four, the official validation set of 62 million tokens takes 124 MB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from squeeze.reporter import SILENT, Reporter
from squeeze.score.plan import document_starts

Tokens = npt.NDArray[np.uint16]
Int64 = npt.NDArray[np.int64]
Uint64 = npt.NDArray[np.uint64]

SHINGLE = 16  # tokens; about 40 bytes of text: shorter runs are phrases that many documents share
SAMPLE = 4  # one shingle in so many is kept, chosen by its hash, so the same ones on both sides
NEAR = 0.5  # a document is a near duplicate when half of its sampled shingles occur elsewhere
MIN_TOKENS = 64  # shorter documents are often boilerplate and are not judged
BLOCK = 1 << 22  # training tokens hashed at once

_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


def shingle_hashes(tokens: Tokens) -> Uint64:
    """Return a hash of tokens[i : i + SHINGLE] for every i, uint64 [n - SHINGLE + 1].

    A polynomial in the tokens modulo 2⁶⁴, then a multiply and shift so that low bits depend on all.
    """
    count = max(0, len(tokens) - SHINGLE + 1)
    hashes = np.zeros(count, np.uint64)
    values = tokens.astype(np.uint64) + np.uint64(1)
    for i in range(SHINGLE):  # uint64 arithmetic wraps
        hashes *= _BASE
        hashes += values[i : i + count]
    hashes ^= hashes >> np.uint64(31)
    hashes *= _MIX
    hashes ^= hashes >> np.uint64(29)
    return hashes


@dataclass(frozen=True)
class Overlap:
    """Validation documents that stand in training data.

    documents, tokens: of the validation set, those that are judged
    train_tokens: tokens that were searched
    exact, near: numbers int64 of the documents that stand there whole, and of near duplicates
    share: part of each document's shingles that stand there, float64 [documents of the set]
    shared_tokens: of the exact and near ones
    """

    documents: int
    tokens: int
    train_tokens: int
    exact: Int64
    near: Int64
    share: npt.NDArray[np.float64]
    shared_tokens: int = 0

    @property
    def token_share(self) -> float:
        """Share of the judged tokens that stand in duplicates, 0 … 1."""
        return self.shared_tokens / max(1, self.tokens)


class Fingerprints:
    """The index of a validation set: tokens uint16 [n], documents split at `bos`."""

    def __init__(self, tokens: Tokens, bos: int) -> None:
        self.bos = bos
        starts = document_starts(tokens, bos)
        lengths = np.diff(np.append(starts, len(tokens)))
        self.judged = np.flatnonzero(lengths >= MIN_TOKENS)
        self.tokens = int(lengths[self.judged].sum())
        self._lengths = lengths
        self._digests = {
            _digest(tokens[starts[i] : starts[i] + lengths[i]], bos): int(i) for i in self.judged
        }
        hashes = shingle_hashes(tokens)
        sampled = np.flatnonzero(hashes % SAMPLE == 0)
        # a shingle across two documents says nothing of either
        owner = np.searchsorted(starts, sampled, side="right") - 1
        inside = sampled + SHINGLE <= starts[owner] + lengths[owner]
        inside &= lengths[owner] >= MIN_TOKENS
        hashes, owner = hashes[sampled[inside]], owner[inside]
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._owner = hashes[order], owner[order].astype(np.int32)
        self._shared = np.zeros(len(order), np.bool_)
        self._exact: set[int] = set()
        self._count = len(starts)
        self._train_tokens = 0

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, in bytes."""
        return self._hashes.nbytes + self._owner.nbytes + self._shared.nbytes

    def add_training(self, tokens: Tokens) -> None:
        """Look for the validation documents in training tokens uint16 [n]; call once a shard."""
        self._train_tokens += len(tokens)
        for start in range(0, len(tokens), BLOCK):
            hashes = shingle_hashes(tokens[start : start + BLOCK + SHINGLE - 1])
            hashes = np.unique(hashes[hashes % SAMPLE == 0])
            first = np.searchsorted(self._hashes, hashes, side="left")
            last = np.searchsorted(self._hashes, hashes, side="right")
            hit = last > first
            ends = np.zeros(len(self._hashes) + 1, np.int32)
            ends[first[hit]] += 1
            ends[last[hit]] -= 1
            self._shared |= np.cumsum(ends[:-1]) > 0
        starts = document_starts(tokens, self.bos)
        stops = np.append(starts[1:], len(tokens))
        for begin, stop in zip(
            starts[stops - starts >= MIN_TOKENS], stops[stops - starts >= MIN_TOKENS], strict=True
        ):
            number = self._digests.get(_digest(tokens[begin:stop], self.bos))
            if number is not None:
                self._exact.add(number)

    def result(self) -> Overlap:
        """Return the overlap with all training tokens so far."""
        total = np.bincount(self._owner, minlength=self._count)
        shared = np.bincount(self._owner[self._shared], minlength=self._count)
        share = shared / np.maximum(total, 1)
        exact = np.array(sorted(self._exact), np.int64)
        near = np.setdiff1d(np.flatnonzero((share >= NEAR) & (total > 0)), exact)
        both = int(self._lengths[exact].sum() + self._lengths[near].sum())
        return Overlap(len(self.judged), self.tokens, self._train_tokens, exact, near, share, both)


def find_overlap(
    validation: Tokens,
    training: Iterable[Tokens],
    bos: int = 1,
    reporter: Reporter = SILENT,
) -> Overlap:
    """Return the overlap of a validation set with training shards, read one at a time.

    validation, training: tokens uint16 [n], documents split at `bos`
    reporter: counts shards, in a stage that the caller opened
    """
    index = Fingerprints(validation, bos)
    for shard in training:
        index.add_training(shard)
        reporter.advance()
    return index.result()


def _digest(document: Tokens, bos: int) -> bytes:
    """Return the digest of a document's text, the same with its BOS and without."""
    text = document[1:] if len(document) and document[0] == bos else document
    return hashlib.blake2b(np.ascontiguousarray(text, "<u2").tobytes(), digest_size=16).digest()
