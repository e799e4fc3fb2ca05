"""Does the trainer's optimizer earn its time on a CPU? Loss at equal steps against plain AdamW.

Two learners see the same batches from the same initial weights: the trainer (Muon for matrices, AdamW
for the rest) and AdamW for everything, at each of several learning rates, of which the best counts.
Reported: mean loss of the last steps, tokens a second of process time (other processes on the machine
do not count), and what part of a step the optimizer takes.

Text: the documentation that ships with Python, or shards given with --data.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from machine import write

from squeeze.train.data.shards import Tokens, read_shard
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from squeeze.train.optim.recipe import Recipe
from squeeze.train.run.trainer import Trainer

CONFIG = ModelConfig(1024, 4, 192, 6, 3, 384, seq_len=256)
ADAM_RATES = (0.004, 0.008, 0.016)
LAST = 20  # steps whose mean loss is reported


def python_docs(folder: Path) -> Tokens:
    """Tokens of Python's documentation under a tokenizer trained on it."""
    from squeeze.train.data.text import encode_documents, python_docs_text, train_tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    texts, tokenizer = python_docs_text(), folder / "tokenizer.model"
    if not tokenizer.exists():
        train_tokenizer(texts, CONFIG.vocab_size, tokenizer)
    return encode_documents(texts, tokenizer)


def row(name: str, losses: list[float], tokens: int, seconds: float, **more: float) -> dict:
    """One line of the results."""
    return {
        "learner": name,
        "loss": round(float(np.mean(losses[-LAST:])), 4),
        "loss_halfway": round(
            float(np.mean(losses[len(losses) // 2 - LAST : len(losses) // 2])), 4
        ),
        "tokens_per_cpu_second": round(tokens / seconds),
        **more,
    }


def trainer(tokens: Tokens, steps: int, recipe: Recipe, name: str) -> dict:
    """The product's own step."""
    learner = Trainer(CONFIG, [tokens], recipe)
    losses, spent = [], 0.0
    update = learner.optimizer.step

    def timed(rate: float, momentum: float) -> torch.Tensor:
        nonlocal spent
        begun = time.process_time()
        norm = update(rate, momentum)
        spent += time.process_time() - begun
        return norm

    learner.optimizer.step = timed  # type: ignore[method-assign]
    begun = time.process_time()
    for step in range(steps):
        losses.append(float(learner.step(step / steps)[0]))
    seconds = time.process_time() - begun
    seen = steps * learner.batch * CONFIG.seq_len
    return row(name, losses, seen, seconds, optimizer_share=round(spent / seconds, 3))


def adamw(tokens: Tokens, steps: int, recipe: Recipe, lr: float) -> dict:
    """Plain AdamW for every weight, the same schedule, clipping and batches."""
    loader = Trainer(CONFIG, [tokens], recipe).loader
    model = GPT(CONFIG)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True
    )
    losses = []
    begun = time.process_time()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * recipe.rate(step / steps)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
            loss = model.loss(*loader.next())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    seconds = time.process_time() - begun
    return row(f"AdamW {lr:g}", losses, steps * loader.batch * CONFIG.seq_len, seconds)


def main() -> None:
    """Measure and write benchmarks/results/DATE-train.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--data", type=Path, help="token shard; default: Python's documentation")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokens = read_shard(options.data) if options.data else python_docs(Path("out/bench-train"))
    base = {"steps": options.steps, "batch_tokens": options.batch_tokens}
    recipe = Recipe.from_fields(base)
    half = Recipe.from_fields({**base, "precision": "bf16"})
    rows = [
        trainer(tokens, options.steps, recipe, "trainer"),
        trainer(tokens, options.steps, half, "trainer, bf16"),
        *(adamw(tokens, options.steps, recipe, lr) for lr in ADAM_RATES),
    ]
    best = min(found["loss"] for found in rows if found["learner"].startswith("AdamW"))
    write("train", {
        "question": "loss at equal steps and tokens per CPU second against plain AdamW",
        "model": CONFIG.to_json(), "params": CONFIG.num_params, **base,
        "text": str(options.data or "Python documentation"),
        "nats_below_best_adamw": round(best - rows[0]["loss"], 4),
        "rows": rows,
    })  # fmt: skip


if __name__ == "__main__":
    main()
