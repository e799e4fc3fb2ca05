"""The tokenizer's identity: that of a score is the one that model and data were made with.

Two tokenizers may have as many pieces, and then nothing else tells that a score counts the bytes of the
wrong one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from squeeze.errors import BadData
from squeeze.train.data.identity import tokenizer_of_shard

OTHER = "--other-tokenizer"
ANOTHER = "scored with another tokenizer than that of "


def named_tokenizers(
    model: str | None, shards: Sequence[str | os.PathLike[str]] = ()
) -> dict[str, str | None]:
    """Return the SHA-256 of the tokenizer that a model and its shards name, by the source.

    model: of the model's own file, None where it names none
    """
    digests = {Path(shard).name: tokenizer_of_shard(shard) for shard in shards}
    if len(set(digests.values())) == 1:
        digests = {"the data": next(iter(digests.values()))}
    return {"the model": model} | digests


def tokenizer_notes(digest: str, named: Mapping[str, str | None], other: bool = False) -> list[str]:
    """Return sentences on a tokenizer's identity, for the notes of a score; none where all is pinned.

    digest: SHA-256 of the tokenizer in use
    named: SHA-256 of the tokenizer that each source names, by the source; None where it names none
    other: take another tokenizer than they name, and say so

    Raises BadData for another tokenizer unless `other`.
    """
    notes = []
    for source, own in named.items():
        if own is None or own == digest:
            continue
        if not other:
            raise BadData(
                f"the tokenizer is not that of {source}",
                expected=f"SHA-256 {own[:16]}…",
                found=f"{digest[:16]}…",
                fix=f"Give the tokenizer it was made with, or take this one with {OTHER}.",
            )
        notes.append(f"{ANOTHER}{source}: {digest}, not {own}")
    silent = [source for source, own in named.items() if own is None]
    if len(silent) == len(named):
        notes.append("the tokenizer's identity is not pinned: no file names its tokenizer")
    elif silent:
        notes.append(f"the tokenizer's identity is not pinned by {', '.join(silent)}")
    return notes


def other_tokenizers(notes: Sequence[str]) -> list[str]:
    """Return the notes of a score that name another tokenizer."""
    return [note for note in notes if note.startswith(ANOTHER)]
