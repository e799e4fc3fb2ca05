"""Initial weights: those of the challenge's baseline, and options that change little at first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from squeeze.train.model.gpt import GPT

FILLS = {
    "attn_scale": 1.0,
    "mlp_scale": 1.0,
    "skip_weights": 1.0,
    "skip_gates": 0.0,  # half the skip, half the stream
    "value_scale": 1.0,
    "gate": 0.0,  # channel smear: an even mix of two tokens, #65
    "bigram.scale": 0.05,
    "trigram.scale": 0.05,
    "smear.scale": 0.0,
}
ZERO_TABLES = ("lm_head.weight", "bigram.table.weight", "trigram.table.weight")
ZERO = ("attn.proj.weight", "mlp.proj.weight", "gate.weight", "gate.linear.weight")


@torch.no_grad()
def init_weights_(model: GPT, seed: int, matrices: str = "orthogonal") -> None:
    """Set residual outputs and the untied head to zero, tables small, other matrices orthogonal.

    matrices: "uniform" draws these from ±1/√inputs instead, the start of nn.Linear
    """
    generator = torch.Generator().manual_seed(seed)
    blocks: Any = model.blocks
    idle: Any = model.config.no_attention and tuple(
        f"blocks.{n}.attn." for n, block in enumerate(blocks) if block.attn.idle
    )
    for name, weight in model.named_parameters():
        leaf = name.rsplit(".", 1)[-1]
        fill = FILLS.get(name, FILLS.get(leaf))
        if leaf == "q_gain":
            weight.fill_(model.config.q_gain_init)
        elif fill is not None:
            weight.fill_(fill)
        elif leaf == "resid_mix":
            weight[0].fill_(1.0)
            weight[1].fill_(0.0)
        elif model.config.has_lanes and leaf == "lane_keep":
            block: Any = model.get_submodule(name.rsplit(".", 1)[0])
            weight.fill_(block.keep_init)
        elif model.config.has_lanes and leaf == "lane_write":
            weight.fill_(1.0)
        elif model.config.value_layers and name == "value_embed.scale":
            weight.fill_(0.1)
        elif (idle and name.startswith(idle)) or name.endswith(ZERO) or name in ZERO_TABLES:
            weight.zero_()
        elif name == "tok_emb.weight":
            _normal_(weight, 0.005 if model.config.tie_embeddings else 1.0, generator)
        elif model.config.value_layers and name == "value_embed.table.weight":
            _normal_(weight, 0.01, generator)
        elif matrices == "uniform":
            bound = weight.size(-1) ** -0.5
            nn.init.uniform_(weight, -bound, bound, generator=generator)
        else:
            nn.init.orthogonal_(weight, generator=generator)


def _normal_(weight: Tensor, std: float, generator: torch.Generator) -> None:
    nn.init.normal_(weight, std=std, generator=generator)
