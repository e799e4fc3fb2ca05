"""Models of more outputs than their tokenizer has pieces, as tables are padded for the processor's sake.

nanoGPT has 50,304 rows for the 50,257 pieces of GPT-2. Such outputs can never be right, and what
probability they get is lost: the score is that of the model as it is, and a note says so.
"""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from squeeze.errors import BadData
from squeeze.score.tokenizer import ByteTable, Tokenizer, Tokens

MULTIPLE, MOST = 8, 128  # padding is to a multiple of the one, by fewer than the other


def check_pieces(outputs: int, pieces: int) -> list[str]:
    """Return a note on outputs that a tokenizer of so many pieces has none for.

    Raises BadData unless there are as many, or the further outputs are padding.
    """
    further = outputs - pieces
    if not further:
        return []
    if 0 < further < MOST and outputs % MULTIPLE == 0:
        return [
            f"the model has {outputs:,} outputs for the {pieces:,} pieces of the tokenizer: the last "
            f"{further} are taken for padding, can never be right, and cost what probability they get"
        ]
    cut = (
        f", or cut the outputs that have no piece: a function logits(module, ids) beside the model "
        f"that returns [..., :{pieces}]"
    )
    raise BadData(
        "tokenizer and model have different vocabularies",
        expected=f"a tokenizer of the model's {outputs} pieces",
        found=f"{pieces} pieces",
        fix=f"Give the tokenizer the model was trained with{cut if further > 0 else ''}.",
    )


def padded_table(table: ByteTable, outputs: int) -> ByteTable:
    """Return a table with rows for outputs beyond its own, which stand for no text."""
    further = outputs - len(table.base)
    return ByteTable(
        np.pad(table.base, (0, further)),
        np.pad(table.space, (0, further)),
        np.pad(table.boundary, (0, further), constant_values=True),
    )


class TextBytes:
    """The bytes of tokens of a model, some of which may be padding: a model writes those, too.

    Raises BadData for a file that is no tokenizer.
    """

    def __init__(self, tokenizer: str | os.PathLike[str]) -> None:
        table = Tokenizer(tokenizer).table
        self.pieces = len(table.base)
        self._padded = padded_table(table, self.pieces + MOST - 1)

    def __call__(self, tokens: Tokens) -> npt.NDArray[np.int32]:
        """Return the bytes of each of tokens[1:] after the token before it, int32 [n - 1]."""
        return self._padded.of_targets(tokens)

    def check(self, outputs: int) -> None:
        """Raise BadData for a model of another vocabulary."""
        check_pieces(outputs, self.pieces)
