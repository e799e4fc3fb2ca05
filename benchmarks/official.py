"""Does `baseline` learn as the challenge's own script does? Both train on the same batches.

    python benchmarks/official.py TRAIN_GPT.PY --shard fineweb_train_000000_sp1024_1M.bin

Classes and settings of the script (openai/parameter-golf, `train_gpt.py`) run beside the preset
`baseline`, at a small shape on the CPU: the same first weights, batches and rates, bfloat16 as in the
script. Prints a line of JSON for each seed: mean losses of the last ten steps, and their difference.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from squeeze.train.data.shards import read_shard
from squeeze.train.model.config import ModelConfig
from squeeze.train.presets import PRESETS
from squeeze.train.run.trainer import Trainer

SMALL = {
    "num_layers": 4,
    "model_dim": 128,
    "num_heads": 4,
    "num_kv_heads": 2,
    "mlp_hidden": 256,
    "seq_len": 256,
}
BATCH = 4096  # tokens
LAST = 10  # steps whose mean is compared
LIMIT = 0.003  # nats, of the difference of these means


def script_of(path: Path) -> Any:
    """Return the script as a module; its main function is not run."""
    spec = importlib.util.spec_from_file_location("official", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Official:
    """The script's model and optimizers, set up as its `main` does."""

    def __init__(self, script: Any, config: ModelConfig) -> None:
        self.settings = settings = script.Hyperparameters
        self.model = script.GPT(
            vocab_size=config.vocab_size,
            num_layers=config.num_layers,
            model_dim=config.model_dim,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            mlp_mult=config.mlp_hidden // config.model_dim,
            tie_embeddings=True,
            tied_embed_init_std=settings.tied_embed_init_std,
            logit_softcap=settings.logit_softcap,
            rope_base=settings.rope_base,
            qk_gain_init=settings.qk_gain_init,
        ).bfloat16()
        for module in self.model.modules():
            if isinstance(module, script.CastedLinear):
                module.float()
        script.restore_low_dim_params_to_fp32(self.model)
        named = dict(self.model.named_parameters())
        matrices = [name for name in named if name.endswith(("c_q.weight", "c_k.weight"))]
        matrices += [name for name in named if name.endswith(("c_v.weight", "proj.weight"))]
        matrices += [name for name in named if name.endswith("fc.weight")]
        small = [name for name in named if name not in (*matrices, "tok_emb.weight")]
        adam: dict[str, Any] = {
            "betas": (settings.beta1, settings.beta2),
            "eps": settings.adam_eps,
            "fused": True,
        }
        self.muon = script.Muon(
            [named[name] for name in named if name in matrices],
            lr=settings.matrix_lr,
            momentum=settings.muon_momentum,
            backend_steps=settings.muon_backend_steps,
        )
        self.optimizers = [
            torch.optim.Adam([named["tok_emb.weight"]], lr=settings.tied_embed_lr, **adam),
            self.muon,
            torch.optim.Adam([named[name] for name in small], lr=settings.scalar_lr, **adam),
        ]

    def step(self, number: int, ids: Tensor, targets: Tensor) -> float:
        """Train on a batch and return its loss before the update."""
        settings = self.settings
        with torch.autocast("cpu", torch.bfloat16):
            loss = self.model(ids, targets)
        loss.backward()
        share = min(1.0, number / settings.muon_momentum_warmup_steps)
        start, end = settings.muon_momentum_warmup_start, settings.muon_momentum
        self.muon.param_groups[0]["momentum"] = (1 - share) * start + share * end
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())


def compare(script: Any, shard: Path, seed: int, steps: int) -> dict[str, Any]:
    """Train both on the same batches; return their losses."""
    preset = PRESETS["baseline"]
    config = replace(preset.model, **SMALL)
    recipe = replace(preset.recipe, batch_tokens=BATCH, precision="bf16", warmdown=0.0)
    torch.manual_seed(seed)
    official = Official(script, config)
    ours = Trainer(config, [read_shard(shard)], recipe, seed)
    weights = {name: weight.float() for name, weight in official.model.state_dict().items()}
    ours.model.load_state_dict(weights)
    losses: list[tuple[float, float]] = []
    for number in range(steps):
        theirs = official.step(number, *ours.loader.peek())
        losses.append((theirs, float(ours.step(0.0)[0])))
    curves = np.array(losses).T
    means = [round(float(curve[-LAST:].mean()), 4) for curve in curves]
    largest = np.abs(curves[1] - curves[0]).max()
    return {
        "seed": seed,
        "steps": steps,
        "official": means[0],
        "ours": means[1],
        "difference": round(float((curves[1] - curves[0])[-LAST:].mean()), 5),
        "largest_of_a_step": round(float(largest), 4),
    }


def main() -> None:
    """Read the command line and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("script", type=Path)
    parser.add_argument("--shard", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    script: Callable[..., Any] = script_of(options.script)
    for seed in options.seeds:
        line = compare(script, options.shard, seed, options.steps)
        print(json.dumps({**line, "limit": LIMIT, "ok": abs(line["difference"]) <= LIMIT}))


if __name__ == "__main__":
    main()
