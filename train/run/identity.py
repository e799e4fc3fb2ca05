"""Identity of a run: model, recipe, seed and text, which must be the same when it is resumed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from squeeze.errors import BadConfig
from squeeze.train.data.shards import Tokens
from squeeze.train.fields import changes
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe

SAMPLE = 1 << 10  # tokens at both ends of a shard that stand for its text


class RunIdentity:
    """Facts of a run by which its saved state is told from those of other runs."""

    def __init__(
        self, config: ModelConfig, recipe: Recipe, seed: int, shards: Sequence[Tokens]
    ) -> None:
        self.config, self.recipe, self.seed = config, recipe, seed
        self.data = digest_of_shards(shards)

    def facts(self) -> dict[str, Any]:
        """Return plain values to save with the state."""
        return {
            "config": self.config.to_json(),
            "recipe": self.recipe.to_json(),
            "seed": self.seed,
            "data": self.data,
        }

    def check(self, path: str | os.PathLike[str], saved: Mapping[str, Any]) -> None:
        """Raise BadConfig, with what differs, unless saved facts are this run's; path: their file."""
        kinds: list[tuple[str, Any, Callable[[str], Any]]] = [
            ("config", self.config, ModelConfig.from_json),
            ("recipe", self.recipe, Recipe.from_json),
        ]
        for kind, own, read in kinds:
            differing = changes(read(saved[kind]), own)
            if differing:
                raise _of_another(
                    path,
                    kind,
                    ", ".join(f"{name}={old}" for name, (old, _) in differing.items()),
                    ", ".join(f"{name}={new}" for name, (_, new) in differing.items()),
                )
        if saved["seed"] != self.seed:
            raise _of_another(path, "seed", saved["seed"], self.seed)
        if saved["data"] != self.data:
            raise _of_another(path, "text", "the same shards in the same order", "other shards")


def digest_of_shards(shards: Sequence[Tokens]) -> str:
    """Return a SHA-256 of the lengths of shards uint16 [n] and of the tokens at their ends."""
    digest = hashlib.sha256()
    for shard in shards:
        digest.update(f"{len(shard)} ".encode())
        for part in (shard[:SAMPLE], shard[-SAMPLE:]):
            digest.update(np.asarray(part).astype("<u2").tobytes())
    return digest.hexdigest()


def _of_another(
    path: str | os.PathLike[str], kind: str, expected: object, found: object
) -> BadConfig:
    return BadConfig(
        f"{path}: the state is of a run with another {kind}",
        expected=expected,
        found=found,
        fix="Resume with the options the run began with.",
    )
