"""Presets and single options at a width that a test can afford."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from squeeze.train.presets import PRESETS

VOCAB, BOS = 61, 1
PLAIN = ModelConfig(VOCAB, 4, 32, 4, 2, 48, seq_len=16)


def narrow(config: ModelConfig, **changes: Any) -> ModelConfig:
    """The same architecture, 32 channels wide."""
    small: dict[str, Any] = {
        "vocab_size": VOCAB,
        "model_dim": 32,
        "num_heads": 4,
        "num_kv_heads": 2,
        "mlp_hidden": 48,
        "seq_len": 16,
        "rope_dims": min(config.rope_dims, 4),
        "value_dim": 6,
        "bigram_dim": 10,
        "bigram_rows": min(config.bigram_rows, 37),
        "trigram_dim": 10,
        "trigram_rows": min(config.trigram_rows, 53),
    }
    return replace(config, **small | changes)


NARROW = {name: narrow(preset.model) for name, preset in PRESETS.items()}

_LOOPED = {"layer_schedule": (0, 1, 2, 1, 2, 3)}
OPTIONS: dict[str, ModelConfig] = {
    name: replace(PLAIN, **changes)
    for name, changes in {
        "documents": {"document_attention": True},
        "window": {"attention_window": 5},
        "documents and window": {"document_attention": True, "attention_window": 5},
        "partial rope": {"rope_dims": 4},
        "no qk norm": {"qk_norm": False},
        "no softcap": {"logit_softcap": 0.0},
        "exclusive attention, last layers": {"xsa_layers": 2},
        "exclusive attention, one kv head": {"xsa_layers": 4, "num_kv_heads": 1},
        "value embeddings": {"value_layers": (1, 3), "value_dim": 6},
        "exclusive attention of embedded values": {"xsa_layers": 4, "value_layers": (3,)},
        "output gate": {"attention_gate": "output"},
        "sparse gate": {"attention_gate": "sparse", "attention_gate_scale": 0.5},
        "leaky relu squared": {"mlp_slope": 0.5},
        "norm scale": {"norm_scale": True},
        "no residual mix": {"residual_mix": False},
        "no skips": {"skips": False},
        "skip gates": {"skip_gates": True},
        "parallel sum": {"parallel": "sum", "parallel_from": 1},
        "lanes": {"parallel": "lanes", "parallel_from": 2},
        "lanes in turn": {"parallel": "lanes-in-turn", "parallel_from": 3, "skip_gates": True},
        "lanes, the head on one": {
            "parallel": "lanes",
            "parallel_from": 2,
            "lane_output": "mlp",
        },
        "recurrence": _LOOPED,
        "untied mlps": {**_LOOPED, "untied_mlps": (2,)},
        "untied scalars": {**_LOOPED, "untied_scalars": True, "residual_mix": False},
        "smear by channel": {"smear_gate": "channels"},
        "smear by token": {"smear_gate": "token"},
        "bigram": {"bigram_rows": 37, "bigram_dim": 10},
        "bigram and smear": {"bigram_rows": 37, "bigram_dim": 10, "smear_gate": "token"},
        "trigram": {"trigram_rows": 53, "trigram_dim": 10},
        "bigram and trigram": {"bigram_rows": 37, "trigram_rows": 53, "trigram_dim": 10},
        "untied head": {"tie_embeddings": False},
    }.items()
}
EVERYTHING = NARROW | OPTIONS


def lively(config: ModelConfig, seed: int = 1) -> GPT:
    """A model whose every tensor is random: what begins at zero or one would hide mistakes."""
    model, generator = GPT(config), torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        scale = weight.size(-1) ** -0.5 if weight.dim() == 2 else 0.5
        noise = torch.randn(weight.shape, generator=generator) * scale
        weight.data = noise if weight.dim() == 2 else noise + 0.8
    return model.eval().requires_grad_(False)


def begun(config: ModelConfig, seed: int) -> dict[str, Tensor]:
    """Tensors of a model at the start of training, those that begin at zero made small noise."""
    tensors = {name: t.clone() for name, t in GPT(config, seed=seed).state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in tensors.items():
        if name.endswith("proj.weight"):
            tensor.normal_(std=0.02, generator=generator)
    return tensors


def ids_of(batch: int, length: int, *starts: int, seed: int = 2) -> Tensor:
    """Random tokens int64 [batch, length]; those at `starts`, and no others, begin a document."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(BOS + 1, VOCAB, (batch, length), generator=generator)
    ids[:, list(starts)] = BOS
    return ids
