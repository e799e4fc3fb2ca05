"""Texts that hold every piece of the vocabulary, so that bytes are checked on those the span lacks."""

from __future__ import annotations

import numpy as np

from squeeze.score.audit.client import Tokens
from squeeze.score.audit.evidence import Data
from squeeze.train.data.shards import map_shard

MAX_TEXTS = 4  # as long as the span each; a larger vocabulary is checked in part


def texts_of_pieces(data: Data, seed: int) -> list[tuple[Tokens, int]]:
    """Return texts as long as the span and the number of pieces in each that the span lacks.

    Each is text from a random place of the data, with those pieces at random places; pieces without
    text (control, unknown, unused) are left out. The same seed gives the same texts.
    """
    random = np.random.default_rng(seed)
    lacking = np.setdiff1d(np.flatnonzero(~data.table.boundary), data.span)
    lacking = random.permutation(lacking).astype(np.uint16)
    texts = []
    for _ in range(MAX_TEXTS):
        text = _somewhere(data, random)
        places = np.flatnonzero(text != data.bos)[1:]
        added = lacking[: len(places)]
        lacking = lacking[len(places) :]
        text[random.permutation(places)[: len(added)]] = added
        texts.append((text, len(added)))
        if not len(lacking):
            break
    return texts


def _somewhere(data: Data, random: np.random.Generator) -> Tokens:
    """Return a copy of as many tokens as the span has, from a random place of a random shard."""
    shard = map_shard(data.shards[int(random.integers(len(data.shards)))])
    latest = len(shard) - len(data.span)
    if latest < 0:
        return data.span.copy()
    start = int(random.integers(latest + 1))
    return np.array(shard[start : start + len(data.span)], np.uint16)
