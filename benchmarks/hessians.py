"""How long does collecting Hessians on 131,072 tokens take, and how much of it is the forward?

python benchmarks/hessians.py
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch
from inputs import materials
from machine import write

from squeeze.calib.statistics.collect import collect
from squeeze.calib.text.sources import TOKENS, Corpus, window_length
from squeeze.checkpoint.read import load_model
from squeeze.subject.subject import Subject
from squeeze.train.data.shards import read_shard
from squeeze.train.model.gpt import GPT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="reference_8.7M_fp32.safetensors")
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--seq-len", type=int, default=512, help="window the model was trained at")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    loaded = load_model(
        materials() / "checkpoints" / options.checkpoint, like="baseline", seq_len=options.seq_len
    )
    model = GPT.from_tensors(loaded.config, loaded.tensors).requires_grad_(False)
    shard = read_shard(materials() / "fineweb" / "fineweb_train_000000_sp1024_1M.bin")
    length = window_length(loaded.config.seq_len)
    text = Corpus(shard, "shards", loaded.config.vocab_size).draw(options.tokens, length)

    wall, cpu = time.perf_counter(), time.process_time()
    tapped = Subject.of_gpt(model).tapped(torch.zeros(1, 64, dtype=torch.int64))
    hessians = collect(tapped, text)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    start = time.process_time()
    with torch.inference_mode():
        for ids in torch.from_numpy(text.ids.astype(np.int64)).split(8192 // length):
            model.hidden(ids)
    write(
        "hessians",
        {
            "checkpoint": options.checkpoint,
            "tokens": text.tokens,
            "sequence_length": length,
            "wall_s": wall,
            "cpu_s": cpu,
            "tokens_per_cpu_s": text.tokens / cpu,
            "forward_only_cpu_s": time.process_time() - start,
            "matrices": len(hessians.matrices),
            "peak_memory_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        },
    )


if __name__ == "__main__":
    main()
