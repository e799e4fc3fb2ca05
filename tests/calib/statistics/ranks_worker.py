"""One rank of test_hessian_ranks: torchrun's environment in, what the rank got out to a file."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # before a group exists: see squeeze.ranks.group

from squeeze.calib.statistics import inputs as inputs_module
from squeeze.calib.statistics.collect import collect
from squeeze.calib.text.generate import generate
from squeeze.calib.text.sources import Sequences
from squeeze.reporter import Reporter
from squeeze.subject.subject import Subject
from squeeze.train.model.cache import Cache
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT


class Counting(Reporter):
    """A reporter that counts units."""

    count = 0.0

    def advance(self, n: float = 1) -> None:
        self.count += n


def main(folder: Path, rank: int, world: int) -> None:
    torch.set_num_threads(1)
    inputs_module.BLOCK = 32
    if world > 1:
        dist.init_process_group(
            "cuda:gloo",  # no backend for the CPU, as NCCL has none
            init_method=f"file://{folder}/rendezvous",
            rank=rank,
            world_size=world,
        )
    model, generator = GPT(ModelConfig(50, 2, 16, 2, 1, 24)), torch.Generator().manual_seed(5)
    for weight in model.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) * 0.3
    model.requires_grad_(False)
    work = Counting()
    text = generate(partial(Cache, model), 50, 9, 16, seed=4, reporter=work)
    sequences = Sequences(text, "self-generated")
    tapped = Subject.of_gpt(model).tapped(torch.zeros(1, 4, dtype=torch.int64))
    found = collect(tapped, sequences, path=folder / f"hessians-{world}")
    kept = collect(tapped, sequences, path=folder / f"hessians-{world}")
    arrays = {name.replace(".", "_"): matrix for name, matrix in found.matrices.items()}
    same = all(np.array_equal(found.matrices[n], kept.matrices[n]) for n in found.matrices)
    np.savez(folder / f"{rank}-of-{world}.npz", text=text, work=work.count, same=same, **arrays)
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
