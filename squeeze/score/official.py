"""The official validation sets, recognised by their totals, and tokenizers, by hash. No torch here."""

from __future__ import annotations

import numpy as np

from squeeze.errors import BadData
from squeeze.score.tokenizer import ByteTable, Tokens

# vocabulary size -> (name, targets, bytes of those targets), as the challenge's records report them
OFFICIAL = {
    1024: ("sp1024", 62_021_632, 151_079_963),
    8192: ("sp8192", 40_540_160, 151_078_222),
}
# SHA-256 of tokenizers of the challenge, and their names; several others share the names
TOKENIZERS = {
    "4f5e8adb109c66b4886963bc75a7befd73bda36d27fd7102df8e9e66503b0e2a": "sp1024",
    "85bf00b61e6af7f157820c2b259603f7a3d9908916573177bb511929f725836a": "sp4096",
    "4e979c92754cc9d7bdebd9dfe5edf3fc0b41b38714b394e4297fa851e3afd516": "sp8192",
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


def tokenizer_name(digest: str) -> str | None:
    """Return the name of the challenge's tokenizer with a SHA-256; None: it is another one."""
    return TOKENIZERS.get(digest)
