"""State dicts under the names of the field's scripts, made from a model of ours, for tests."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from squeeze.train.model.config import ModelConfig
from squeeze.train.model.depth import passes

State = dict[str, Tensor]
NAMES = {
    "bigram.table.weight": "bigram.embed.weight",
    "value_embed.table.weight": "ve_shared.embed.weight",
    "value_embed.proj.weight": "ve_shared.proj.weight",
    "value_embed.scale": "ve_shared.scale",
    "smear.gate.weight": "smear_gate.weight",
    "smear.scale": "smear_lambda",
}
BANKS = {
    "qo_bank": ("attn.c_q.weight", "attn.proj.weight"),
    "kv_bank": ("attn.c_k.weight", "attn.c_v.weight"),
    "mlp_up_bank": ("mlp.fc.weight",),
    "mlp_down_bank": ("mlp.proj.weight",),
}


def in_field_names(state: State, config: ModelConfig, *, banks: bool) -> State:
    """Return the tensors of a model as a script of the field would save them.

    banks: matrices of all layers in one tensor, scalars for each effective layer
    """
    left, out = dict(state), {}
    layers, depth = range(config.num_layers), config.depth
    if banks:
        for bank, parts in BANKS.items():
            names = [f"blocks.{layer}.{part}" for part in parts for layer in layers]
            out[bank] = torch.stack([left.pop(name) for name in names])
    if config.untied_scalars:
        for level, block in enumerate(depth):
            again = depth[:level].count(block)
            front = f"blocks.{block}." + (f"repeats.{again - 1}." if again else "")
            for name in [n for n in left if re.fullmatch(rf"{front}(attn\.)?[a-z_]+", n)]:
                rest = name.removeprefix(front)
                rest = f"attn.{rest}" if rest == "q_gain" else rest
                if "lane" not in rest and "value" not in rest:
                    out[f"blocks.{level}.{rest}"] = left.pop(name)
        for at, block in enumerate(config.untied_mlps):
            for part in ("fc", "proj"):
                name = f"blocks.{block}.repeats.0.mlp.{part}.weight"
                out[f"repeat_mlp.{at}.{part}.weight"] = left.pop(name)
    for ours, theirs in (
        ("lane_keep", "parallel_resid_lambdas"),
        ("lane_write", "parallel_post_lambdas"),
    ):
        if config.has_lanes:
            some = left[f"blocks.{config.parallel_from}.{ours}"]
            names = [f"blocks.{layer}.{ours}" for layer in layers]
            out[theirs] = torch.stack([left.pop(n, torch.ones_like(some)) for n in names])
    for at, layer in enumerate(config.value_layers):
        home, again = passes(depth)[layer] if config.by_depth else (layer, 0)
        owner = f"repeats.{again - 1}" if again else "attn"
        out[f"ve_layer_scales.{at}"] = left.pop(f"blocks.{home}.{owner}.value_scale")
    gate = "attn_gate_w" if config.attention_gate == "sparse" else "attn_gate_proj.weight"
    for name, tensor in left.items():
        name = name.replace("gate.linear.weight", gate)
        out[NAMES.get(name, name)] = tensor.squeeze() if name == "bigram.scale" else tensor
    return out
