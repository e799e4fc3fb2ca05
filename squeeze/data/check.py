"""Check a set of shards before a run is spent on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from squeeze.errors import BadData
from squeeze.reporter import SILENT, Reporter
from squeeze.score.overlap import find_overlap
from squeeze.train.data.shards import map_shard, read_shards

BLOCK = 1 << 22  # tokens read together
MANY = 0.5  # share of empty documents above which shards hold no text


@dataclass(frozen=True)
class Shard:
    """Figures of one shard.

    lengths: tokens of a document without its BOS: shortest, median and longest.
    """

    path: str
    tokens: int
    documents: int
    starts_with_bos: bool
    largest_token: int
    empty_documents: int
    lengths: tuple[int, int, int]


def describe_shard(path: Path, bos: int) -> Shard:
    """Return the figures of one shard, read in blocks. Raises BadData if it is malformed or empty."""
    tokens = map_shard(path)
    if not len(tokens):
        raise BadData(f"{path}: an empty shard")
    largest, positions = 0, []
    for start in range(0, len(tokens), BLOCK):
        block = np.asarray(tokens[start : start + BLOCK])
        largest = max(largest, int(block.max()))
        positions.append(np.flatnonzero(block == bos) + start)
    starts = np.concatenate(positions)
    lengths = np.diff(np.append(starts, len(tokens))) - 1
    spread = (
        (int(lengths.min()), int(np.median(lengths)), int(lengths.max()))
        if len(lengths)
        else (0, 0, 0)
    )
    return Shard(
        str(path),
        len(tokens),
        len(starts),
        bool(tokens[0] == bos),
        largest,
        int((lengths == 0).sum()),
        spread,
    )


def check_shards(
    train: Sequence[Path],
    validation: Sequence[Path],
    vocab_size: int | None = None,
    bos: int = 1,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Return figures of every shard, the overlap of both sides, and `problems` as sentences.

    train, validation: paths of shards; overlap is searched when both are given, in 4 bytes of memory
    a validation token. vocab_size: bound of the token ids. bos: token that begins a document. Raises
    BadData for malformed shards.
    """
    shards = {"train": train, "validation": validation}
    described = {
        side: [describe_shard(path, bos) for path in paths] for side, paths in shards.items()
    }
    problems = [
        f"{shard.path}: {problem}"
        for group in described.values()
        for shard in group
        for problem in _problems(shard, vocab_size, bos)
    ]
    overlap = None
    if train and validation:
        with reporter.stage("comparing shards", len(train), "shards") as stage:
            shared = find_overlap(read_shards(list(validation)), map(map_shard, train), bos, stage)
        overlap = {
            "documents": shared.documents,
            "exact": len(shared.exact),
            "near": len(shared.near),
            "largest_share": float(shared.share.max(initial=0.0)),
        }
        if len(shared.exact) or len(shared.near):
            problems.append(
                f"{len(shared.exact)} validation documents stand in the training shards, "
                f"and {len(shared.near)} more nearly; the first is number "
                f"{int(min([*shared.exact, *shared.near]))}"
            )
    return {
        **{side: [asdict(shard) for shard in group] for side, group in described.items()},
        "tokens": {side: sum(s.tokens for s in group) for side, group in described.items()},
        "documents": {side: sum(s.documents for s in group) for side, group in described.items()},
        "overlap": overlap,
        "problems": problems,
    }


def _problems(shard: Shard, vocab_size: int | None, bos: int) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong with a shard."""
    if not shard.documents:
        yield f"no document begins in it (no BOS, token {bos})"
    if shard.empty_documents > MANY * max(shard.documents, 1):
        yield f"{shard.empty_documents} of {shard.documents} documents are empty"
    if vocab_size is not None and shard.largest_token >= vocab_size:
        yield f"token {shard.largest_token} is beyond the vocabulary of {vocab_size}"
