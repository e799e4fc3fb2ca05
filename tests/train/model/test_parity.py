"""Presets' architectures give the per-token losses of the records' own classes, at equal weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from squeeze.train.presets import PRESETS

NAMES = {
    "baseline": "baseline",
    "record-1204": "record_1204",
    "record-1493": "record_1493",
    "record-1855": "banks_smear_sparse_1855",
}
SMALL = {"model_dim": 64, "num_heads": 4, "num_kv_heads": 2, "vocab_size": 1024, "seq_len": 256}
# what the state dicts call by other names, apart from banks and what is numbered by depth
RENAMED = {
    "bigram.embed.weight": "bigram.table.weight",
    "ve_shared.embed.weight": "value_embed.table.weight",
    "ve_shared.proj.weight": "value_embed.proj.weight",
    "ve_shared.scale": "value_embed.scale",
    "smear_gate.weight": "smear.gate.weight",
    "smear_lambda": "smear.scale",
    "attn.attn_gate_w": "attn.gate.linear.weight",
}
BANKS = {
    "qo_bank": ("attn.c_q.weight", "attn.proj.weight"),
    "kv_bank": ("attn.c_k.weight", "attn.c_v.weight"),
    "mlp_up_bank": ("mlp.fc.weight",),
    "mlp_down_bank": ("mlp.proj.weight",),
    "parallel_resid_lambdas": ("lane_keep",),
    "parallel_post_lambdas": ("lane_write",),
}


def read(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state dict of a record's class, and what its JSON says."""
    facts = json.loads((folder / f"{name}.json").read_text())
    return load_file(folder / f"{name}.safetensors"), facts


def config_of(preset: str, facts: dict[str, Any]) -> ModelConfig:
    """Return a preset's configuration at the size of its record's state dict."""
    settings = facts["hyperparameters"]
    changes: dict[str, Any] = {
        "mlp_hidden": int(64 * settings["mlp_mult"]),
        "value_dim": settings.get("ve_dim", 128),
        "bigram_rows": settings.get("bigram_vocab_size", 0),
        "bigram_dim": settings.get("bigram_dim", 128),
        "attention_gate_scale": settings.get("sparse_attn_gate_scale", 1.0),
        "document_attention": False,  # the record asks for documents by an argument of its forward
    }
    return replace(PRESETS[preset].model, **SMALL, **changes)


def renamed(weights: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Return a record's weights under our names, of the tensors that a configuration has."""
    homes = [
        f"blocks.{block}." if not number else f"blocks.{block}.repeats.{number - 1}."
        for block, number in ((level.block, level.number) for level in GPT(config).levels[1])
    ]
    ours: dict[str, Tensor] = {}
    for name, weight in weights.items():
        head, _, rest = name.partition(".")
        if name in BANKS:
            for part, ending in zip(weight.chunk(len(BANKS[name])), BANKS[name], strict=True):
                ours |= {f"blocks.{n}.{ending}": matrix for n, matrix in enumerate(part)}
        elif head == "repeat_mlp":
            number, _, rest = rest.partition(".")
            ours[f"blocks.{config.untied_mlps[int(number)]}.repeats.0.mlp.{rest}"] = weight
        elif head == "ve_layer_scales":
            ours[f"{homes[config.value_layers[int(rest)]]}attn.value_scale"] = weight
        elif head == "blocks":
            number, _, rest = rest.partition(".")
            home = homes[int(number)] if config.by_depth else f"blocks.{number}."
            rest = RENAMED.get(rest, rest)
            ours[home + (rest.removeprefix("attn.") if "repeats" in home else rest)] = weight
        else:
            ours[RENAMED.get(name, name)] = weight
    shapes = config.parameter_shapes()
    return {name: ours[name].float().reshape(shape) for name, shape in shapes.items()}


def losses(model: GPT, tokens: list[int], length: int) -> Tensor:
    """Return nats of each of the tokens but the first, in windows of `length`."""
    ids = torch.tensor(tokens[:-1]).view(-1, length)
    return F.cross_entropy(model(ids).flatten(0, 1), torch.tensor(tokens[1:]), reduction="none")


@pytest.mark.parametrize("preset", NAMES)
def test_a_preset_gives_the_losses_of_its_records_class(preset: str, materials: Path) -> None:
    if not (materials / "parity").is_dir():
        pytest.skip("no parity files among the materials")
    weights, facts = read(materials / "parity", NAMES[preset])
    config = config_of(preset, facts)
    model = GPT(config)
    model.load_state_dict(renamed(weights, config))
    with torch.inference_mode():
        nats = losses(model, facts["tokens"], facts["length"])
    assert (nats - torch.tensor(facts["nll"])).abs().max() <= 1e-4
