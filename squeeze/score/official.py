"""The official validation sets, recognised by their totals. No torch here."""

from __future__ import annotations

import numpy as np

from squeeze.errors import BadData
from squeeze.score.tokenizer import ByteTable, Tokens

# vocabulary size -> (name, targets, bytes of those targets), as the challenge's records report them
OFFICIAL = {
    1024: ("sp1024", 62_021_632, 151_079_963),
    8192: ("sp8192", 40_540_160, 151_078_222),
}
WINDOW = 2048  # the records score whole windows of this length and leave the tail of the set out


def official_set(tokens: Tokens, table: ByteTable) -> tuple[str, int] | None:
    """Return name and number of targets of the official set that tokens uint16 [n] are, or None.

    A set is recognised by its number of targets; its bytes are then asserted. Raises BadData when they
    differ: other documents, or a tokenizer of the same size that is not the set's own.
    """
    name, targets, num_bytes = OFFICIAL.get(len(table.base), ("", 0, 0))
    if not targets or (len(tokens) - 1) // WINDOW * WINDOW != targets:
        return None
    counted = table.count(tokens[: targets + 1], np.ones(targets, np.bool_))
    if counted != num_bytes:
        raise BadData(
            f"as many tokens as the official {name} validation set, but not its bytes",
            expected=f"{num_bytes:,} bytes",
            found=f"{counted:,}",
            fix="Use the set's own shards and tokenizer, or score fewer tokens.",
        )
    return name, targets
