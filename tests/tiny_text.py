"""Text that a test can afford, with a tokenizer of 300 pieces."""

from __future__ import annotations

from pathlib import Path

from squeeze.train.data.shards import write_shard
from squeeze.train.data.text import encode_documents, train_tokenizer

TEXT = "Bread rises while it is warm, and falls when it has risen for too long. "


def write_text_files(folder: Path, documents: list[str]) -> None:
    """Write `t.model`, a tokenizer trained on TEXT, and `d.bin`, a shard of these documents."""
    train_tokenizer([TEXT * 30], 300, folder / "t.model")
    write_shard(folder / "d.bin", encode_documents(documents, folder / "t.model"))
