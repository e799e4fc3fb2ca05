"""Documents that a proof is made on, and a check that decoded ones are those of the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from squeeze.errors import BadData, RuleBroken
from squeeze.score.plan import document_starts
from squeeze.score.tokenizer import Text, check_vocab
from squeeze.train.data.shards import Tokens


@dataclass(frozen=True)
class Selection:
    """Documents to prove on: all, or the first of them, or with a seed random ones.

    documents: at most so many
    text_bytes: as many as it takes to hold so much text
    """

    documents: int | None = None
    text_bytes: int | None = None
    seed: int | None = None


def select_documents(
    text: Text, bos: int, selection: Selection = Selection()
) -> tuple[list[Tokens], int]:
    """Return documents of a text, without BOS and in its order, and the tokens before the first BOS.

    Raises BadData when there is no BOS, or a token outside the table.
    """
    tokens, table = text.tokens, text.table
    check_vocab(tokens, len(table.base))
    starts = document_starts(tokens, bos)
    starts = starts[tokens[starts] == bos]
    if not len(starts):
        raise BadData("the data holds no whole document", expected=f"a BOS (token {bos})")
    ends = np.append(starts[1:], len(tokens))
    order = np.arange(len(starts))
    if selection.seed is not None:
        order = np.random.default_rng(selection.seed).permutation(order)
    if selection.text_bytes is not None:
        sizes = [int(table.of_targets(tokens[starts[i] : ends[i]]).sum()) for i in order]
        order = order[: 1 + int(np.searchsorted(np.cumsum(sizes), selection.text_bytes))]
    chosen = np.sort(order[: selection.documents])
    return [tokens[starts[i] + 1 : ends[i]] for i in chosen], int(starts[0])


def check_documents(documents: Sequence[Tokens], text: Text, bos: int) -> None:
    """Raise RuleBroken unless documents uint16 [n] each are ones of a text, each as often at most."""
    own = Counter(document.tobytes() for document in select_documents(text, bos)[0])
    for number, document in enumerate(documents):
        name = document.astype(text.tokens.dtype).tobytes()
        own[name] -= 1
        if own[name] < 0:
            raise RuleBroken(
                f"decoded document {number} is not one of the data",
                expected="documents of the data, none twice",
                found=f"{len(document)} tokens",
            )
