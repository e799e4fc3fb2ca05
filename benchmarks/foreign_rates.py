"""Do `best` and `tuned` gain below two bits on a model that squeeze has no class for?

python benchmarks/foreign_rates.py

A small Llama of the package transformers learns on the training shard and is packed at each rate,
calibrated on text of the same shard that came after. KL(fp32 ‖ packed) and the gap of the loss are nats
a token on the validation tail.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inputs import materials
from pack_quality import TRAINING, VALIDATION
from report import write_report
from result_files import table
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

import squeeze
from squeeze.train.data.shards import read_shard
from squeeze.train.optim.optimizer import Optimizer
from squeeze.train.optim.recipe import Recipe

LENGTH, BATCH = 256, 4
# of this project's trainer: AdamW alone learns hardly more than how often each token comes
RECIPE = Recipe(
    matrix_lr=0.02, table_lr=0.01, small_lr=0.01, orthogonalizer="polar-express", precision="fp32"
)
WARM_UP = 20  # steps
CONFIG = LlamaConfig(
    vocab_size=1024, hidden_size=192, intermediate_size=512, num_hidden_layers=4,
    num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=LENGTH,
    tie_word_embeddings=True,
)  # fmt: skip


def learn_(model: LlamaForCausalLM, tokens: torch.Tensor, steps: int) -> float:
    """Train in place with a linear decay; return the loss of the last step, nats a token."""

    def known(name: str, weight: torch.Tensor) -> str:
        if name == "model.embed_tokens.weight":
            return "tok_emb.weight"
        return name if weight.ndim == 2 else name.removesuffix(".weight")

    optimizer = Optimizer([(known(name, w), w) for name, w in model.named_parameters()], RECIPE)
    loss = torch.zeros(())
    for step, ids in zip(range(steps), tokens.view(-1, BATCH, LENGTH), strict=False):
        logits = model(input_ids=ids).logits
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimizer.step(min(1.0, (step + 1) / WARM_UP) * (1 - step / steps), RECIPE.momentum)
    return float(loss.detach())


def compare(right: Any, wrong: Any, ids: torch.Tensor) -> dict[str, float]:
    """Return KL and gap of the loss, nats a token, over all but the last token of each sequence."""
    divergence = gap = 0.0
    with torch.inference_mode():
        for rows in ids.split(16):
            p, q = (torch.log_softmax(m(input_ids=rows).logits[:, :-1], -1) for m in (right, wrong))
            divergence += float((p.exp() * (p - q)).sum(dtype=torch.float64))
            gap += float((p - q).gather(-1, rows[:, 1:, None]).sum(dtype=torch.float64))
    targets = ids.shape[0] * (ids.shape[1] - 1)
    return {"kl": divergence / targets, "gap": gap / targets}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bits", nargs="*", type=float, default=[1.78, 1.27])
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--tune", type=int, help="updates of `tuned`")
    parser.add_argument("--targets", type=int, default=65_536)
    parser.add_argument("--calibration-tokens", type=int, default=65_536)
    options = parser.parse_args()
    shard = torch.from_numpy(np.asarray(read_shard(materials() / "fineweb" / TRAINING), np.int64))
    seen = options.steps * BATCH * LENGTH
    tail = np.asarray(read_shard(materials() / "fineweb" / VALIDATION), np.int64)
    held = torch.from_numpy(tail[: options.targets // LENGTH * LENGTH]).view(-1, LENGTH)
    torch.manual_seed(0)
    model = LlamaForCausalLM(CONFIG)
    loss = learn_(model, shard[:seen], options.steps)
    model.eval()
    weights = sum(parameter.numel() for parameter in model.parameters())
    text = shard[seen : seen + options.calibration_tokens].numpy()
    rows: list[dict[str, Any]] = []
    for bits in options.bits:
        for preset in ("best", "tuned"):
            limit, cpu = int(bits * weights / 8), time.process_time()
            packed = squeeze.pack(
                model,
                limit,
                tokens=text,
                preset=preset,
                config={"seq_len": LENGTH},
                tune=options.tune if preset == "tuned" else None,
            )
            cpu = time.process_time() - cpu
            with tempfile.TemporaryDirectory() as folder:
                packed.save(Path(folder) / "m.sqz")
                again = copy.deepcopy(model)
                squeeze.load_into(again, Path(folder) / "m.sqz")
            row = {
                "bits": bits,
                "preset": preset,
                "unused": limit - packed.ledger.total,
                "cpu_s": cpu,
            }
            rows.append({**row, **compare(model, again, held)})
            print(rows[-1], flush=True)
    lines = [
        [
            r["bits"],
            r["preset"],
            f"{r['kl']:.5f}",
            f"{r['gap']:+.4f}",
            f"{r['cpu_s']:.0f}",
            r["unused"],
        ]
        for r in rows
    ]
    model_text = f"Llama of {weights:,} weights, {options.steps} steps to {loss:.3f} nats"
    head = f"`{model_text}, {held.numel():,} tokens of text`"
    titles = ["bits", "preset", "KL, nats a token", "gap", "CPU s", "unused bytes"]
    write_report("foreign-rates", rows, f"{head}\n\n{table(titles, lines)}")


if __name__ == "__main__":
    main()
