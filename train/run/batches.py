"""Sizes of batches that a recipe asks for, checked before a run and stated after it."""

from __future__ import annotations

from squeeze.errors import BadConfig
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe


def row_length(config: ModelConfig, recipe: Recipe) -> int:
    """Return the tokens of a row of a batch: a window, or several documents end to end."""
    if not recipe.packed_rows:
        return config.seq_len
    return max(config.seq_len, recipe.batch_tokens // recipe.packed_rows)


def check_batches(config: ModelConfig, recipe: Recipe) -> None:
    """Raise BadConfig for batches, or parts of them, that are smaller than a row."""
    if recipe.batch_tokens < config.seq_len:
        raise BadConfig(
            "batch_tokens",
            expected=f"a window (seq_len) or more: ≥ {config.seq_len}",
            found=recipe.batch_tokens,
        )
    if recipe.packed_rows * config.seq_len > recipe.batch_tokens:
        raise BadConfig(
            "packed_rows: each takes a window (seq_len) or more of batch_tokens",
            expected=f"≤ {recipe.batch_tokens // config.seq_len}",
            found=recipe.packed_rows,
        )
    row = row_length(config, recipe)
    if 0 < recipe.micro_tokens < row:
        raise BadConfig(
            "micro_tokens",
            expected=f"a row or more: ≥ {row}; or 0 for a whole batch at once",
            found=recipe.micro_tokens,
        )
