"""Validation shards, checked before the run that they are to score. No torch here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from squeeze.errors import BadData
from squeeze.train.data.shards import map_shard

BEGINNING = 1 << 10  # tokens


def check_validation(paths: Sequence[Path], vocab_size: int) -> None:
    """Raise BadData unless these shards, end to end, can be scored by a model of this vocabulary."""
    shards = [map_shard(path) for path in paths]
    count = sum(map(len, shards))
    if count < 2:
        raise BadData("--val holds nothing to score", expected="2 tokens or more", found=count)
    for path, shard in zip(paths, shards, strict=True):
        largest = int(np.max(shard, initial=0))
        if largest >= vocab_size:
            raise BadData(
                f"{path}: holds a token outside the model's vocabulary",
                expected=f"tokens below {vocab_size}",
                found=f"token {largest}",
                fix="Use shards made with the model's tokenizer.",
            )


def seen_in_training(validation: Sequence[Path], training: Sequence[Path]) -> list[str]:
    """Return a sentence for each validation shard that is a training shard, too, be it as a copy."""
    sentences = []
    for path in validation:
        twin = next((other for other in training if _is_same(path, other)), None)
        if twin is not None:
            name = "" if twin == path else f" as {twin}"
            sentences.append(
                f"the score is of text that the model was trained on: {path} is among --data{name}"
            )
    return sentences


def _is_same(first: Path, second: Path) -> bool:
    """Return whether two shards are one file or hold the same tokens."""
    if os.path.samefile(first, second):
        return True
    if os.path.getsize(first) != os.path.getsize(second):
        return False
    ours, theirs = map_shard(first), map_shard(second)
    # shards of one size are common: their beginnings tell most of them apart
    if not np.array_equal(ours[:BEGINNING], theirs[:BEGINNING]):
        return False
    return np.array_equal(ours, theirs)
