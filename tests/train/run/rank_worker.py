"""One rank of test_ranks: a short run, and what came out of it in a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from squeeze.ranks import group
from squeeze.ranks.connect import connected
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe
from squeeze.train.run.training import RunOptions, Training
from tests.group_threads import threads_left
from tests.tiny_text import noisy_cycle

# three blocks, so that no bank of matrices divides evenly between two ranks
CONFIG = ModelConfig(32, 3, 32, 2, 1, 48, seq_len=16, layer_schedule=(0, 1, 2, 1))
RECIPE = Recipe(
    batch_tokens=256,
    steps=50,
    matrix_decay=0.01,
    average="ema",
    recurrence_start=0.5,
    qat_start=0.9,
)


def main(folder: Path) -> None:
    """Train as one of the ranks in the environment; each writes its own weights."""
    torch.set_num_threads(1)
    with connected(torch.device("cpu")) as ranks:
        state = folder / f"state-{ranks.world}"
        options = RunOptions(0, ranks, state=state, save_every=1e-9)
        training = Training(CONFIG, [noisy_cycle(3000)], RECIPE, options)
        losses = [step.loss for step in training.steps()]
        result = training.result()
        shares = []
        for scatter in (True, False):  # a backend without reduce-scatter must give the same
            group._HAS_SCATTER["gloo"] = scatter
            whole, share = torch.arange(8.0).reshape(4, 2) * (ranks.rank + 1), torch.zeros(2, 2)
            ranks.sum_shares(whole, share)()
            shares.append(share.tolist())
    threads = threads_left()
    name = f"{ranks.rank}-of-{ranks.world}"
    save_file(result.state_dict, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(
        json.dumps({"losses": losses, "shares": shares, "threads": threads})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
