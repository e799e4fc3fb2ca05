"""Text and tokens that a test can afford: a tokenizer of 300 pieces, and a cycle worth learning."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from squeeze.train.data.shards import write_shard
from squeeze.train.data.text import encode_documents, train_tokenizer

TEXT = "Bread rises while it is warm, and falls when it has risen for too long. "


def write_text_files(folder: Path, documents: list[str]) -> None:
    """Write `t.model`, a tokenizer trained on TEXT, and `d.bin`, a shard of these documents."""
    train_tokenizer([TEXT * 30], 300, folder / "t.model")
    write_shard(folder / "d.bin", encode_documents(documents, folder / "t.model"))


def noisy_cycle(count: int) -> np.ndarray:
    """Return uint16 [count]: a cycle of length 29 with a tenth of it noise, mostly predictable."""
    random = np.random.default_rng(0)
    cycle = np.arange(count) * 7 % 29
    return np.where(random.random(count) < 0.1, random.integers(0, 29, count), cycle).astype("u2")
