"""The challenge's naive baseline decoder: one forward for training, scoring and calibration.

Structure and tensor names follow openai/parameter-golf `train_gpt.py` (the naive baseline): a
pre-norm GPT with norms that carry no weights, rotary grouped-query attention with normalised
queries and keys, a power-of-relu MLP, skip connections from the first half of the layers to the
second, and soft-capped logits. Every weight matrix is an `nn.Linear` without bias, so forward hooks
see the inputs of each; `final_norm` is the input of the (tied) head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from squeeze.errors import BadCheckpoint
from squeeze.train.config import ModelConfig

Rotary = tuple[Tensor, Tensor]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


class Past(Protocol):
    """What an incremental forward remembers of earlier tokens (see `squeeze.train.cache`)."""

    def positions(self, count: int) -> Tensor:
        """Positions int64 [count] of the next tokens."""

    def attend(self, level: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of the new tokens over old and new; level counts effective layers."""


class Linear(nn.Linear):
    """A bias-free matrix [out, in] that the model fills itself (no initialisation of its own)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def reset_parameters(self) -> None:
        pass


class RMSNorm(nn.Module):
    """x / rms(x) over the last axis; no weights, epsilon is that of the dtype (torch's default)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.size(-1),))


def rotary_table(positions: Tensor, head_dim: int, base: float) -> Rotary:
    """Cosines and sines [T, head_dim/2] float32 of the rotary angles at integer positions [T]."""
    steps = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device)
    angles = torch.outer(positions.float(), 1.0 / base ** (steps / head_dim))
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotate pairs (i, i + d/2) of the last axis of x [B, H, T, d]; rotate-half layout."""
    cos, sin = (table.to(x.dtype) for table in rotary)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1)


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal softmax attention; q [B, H, T, d], k and v [B, KV, T, d] with KV dividing H."""
    shared = k.size(1) != q.size(1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shared)


class Attention(nn.Module):
    """Grouped-query attention with normalised, rotated and per-head scaled queries."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        kv_dim = config.num_kv_heads * config.head_dim
        self.head_dim = config.head_dim
        self.c_q = Linear(config.model_dim, config.model_dim)
        self.c_k = Linear(config.model_dim, kv_dim)
        self.c_v = Linear(config.model_dim, kv_dim)
        self.proj = Linear(config.model_dim, config.model_dim)
        self.q_gain = nn.Parameter(torch.empty(config.num_heads))

    def project(self, x: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, H, T, d], keys and values [B, KV, T, d] ready for the dot products."""
        q, k, v = (
            linear(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for linear in (self.c_q, self.c_k, self.c_v)
        )
        q = rotate(F.rms_norm(q, (self.head_dim,)), rotary)
        k = rotate(F.rms_norm(k, (self.head_dim,)), rotary)
        return q * self.q_gain.to(q.dtype)[:, None, None], k, v

    def forward(self, x: Tensor, rotary: Rotary, attend: Attend = causal_attention) -> Tensor:
        mixed = attend(*self.project(x, rotary))
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class MLP(nn.Module):
    """proj(relu(fc(x)) ** power)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.power = config.mlp_power
        self.fc = Linear(config.model_dim, config.mlp_hidden)
        self.proj = Linear(config.mlp_hidden, config.model_dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(torch.relu(self.fc(x)) ** self.power)
        return out


class Block(nn.Module):
    """One layer: a learned mix with the embedding stream, then attention and MLP residuals."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attn_norm = RMSNorm()
        self.mlp_norm = RMSNorm()
        self.attn = Attention(config)
        self.mlp = MLP(config)
        self.attn_scale = nn.Parameter(torch.empty(config.model_dim))
        self.mlp_scale = nn.Parameter(torch.empty(config.model_dim))
        self.resid_mix = nn.Parameter(torch.empty(2, config.model_dim))

    def forward(
        self, x: Tensor, x0: Tensor, rotary: Rotary, attend: Attend = causal_attention
    ) -> Tensor:
        x = self.resid_mix[0] * x + self.resid_mix[1] * x0
        x = x + self.attn_scale * self.attn(self.attn_norm(x), rotary, attend)
        return x + self.mlp_scale * self.mlp(self.mlp_norm(x))


class GPT(nn.Module):
    """The whole model. `GPT(config)` is initialised from `seed`; `from_tensors` loads weights."""

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.recurrent = True  # False: each block runs once, as early in training
        self.tok_emb = nn.Embedding(
            config.vocab_size,
            config.model_dim,
            _weight=torch.empty(config.vocab_size, config.model_dim),
        )
        self.input_norm = RMSNorm()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.final_norm = RMSNorm()
        if config.num_skips:
            self.skip_weights = nn.Parameter(torch.empty(config.num_skips, config.model_dim))
        if not config.tie_embeddings:
            self.lm_head = Linear(config.model_dim, config.vocab_size)
        if not self.tok_emb.weight.is_meta:
            self.init_weights_(seed)

    @classmethod
    def from_tensors(
        cls, config: ModelConfig, tensors: Mapping[str, npt.NDArray[np.float32]]
    ) -> GPT:
        """A model holding a copy of the given weights, in float32.

        Raises BadCheckpoint naming the tensor that is missing, unexpected or of another shape.
        """
        shapes = config.parameter_shapes()
        if shapes.keys() != tensors.keys():
            missing, extra = shapes.keys() - tensors.keys(), tensors.keys() - shapes.keys()
            raise BadCheckpoint(
                "tensors do not match the configuration",
                expected=f"{len(shapes)} tensors",
                found=f"missing {sorted(missing)[:5]}, unexpected {sorted(extra)[:5]}",
            )
        for name, shape in shapes.items():
            if tensors[name].shape != shape:
                raise BadCheckpoint(name, expected=shape, found=tensors[name].shape)
        with torch.device("meta"):
            model = cls(config)
        state = {name: torch.tensor(tensors[name], dtype=torch.float32) for name in shapes}
        model.load_state_dict(state, assign=True)
        return model

    @torch.no_grad()
    def init_weights_(self, seed: int) -> None:
        """Start as the baseline: residual outputs zero, tied embedding small, rest orthogonal."""
        generator = torch.Generator().manual_seed(seed)
        fills = {"q_gain": 1.5, "attn_scale": 1.0, "mlp_scale": 1.0, "skip_weights": 1.0}
        for name, weight in self.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if leaf in fills:
                weight.fill_(fills[leaf])
            elif leaf == "resid_mix":
                weight[0].fill_(1.0)
                weight[1].fill_(0.0)
            elif name == "tok_emb.weight":
                std = 0.005 if self.config.tie_embeddings else 1.0
                nn.init.normal_(weight, std=std, generator=generator)
            elif name.endswith("proj.weight") or name == "lm_head.weight":
                weight.zero_()
            else:
                nn.init.orthogonal_(weight, generator=generator)

    def hidden(self, ids: Tensor, past: Past | None = None) -> Tensor:
        """Normalised final states [B, T, D] of token ids [B, T]: what the head multiplies."""
        if past is None:
            positions = torch.arange(ids.size(1), device=ids.device)
        else:
            positions = past.positions(ids.size(1))
        rotary = rotary_table(positions, self.config.head_dim, self.config.rope_base)
        depth = self.config.depth if self.recurrent else tuple(range(self.config.num_layers))
        num_skips = len(depth) // 2
        x = x0 = self.input_norm(self.tok_emb(ids))
        skips: list[Tensor] = []
        for level, block in enumerate(depth):
            decoder_level = level - num_skips
            if 0 <= decoder_level < num_skips:
                x = x + self.skip_weights[decoder_level] * skips.pop()
            attend = causal_attention if past is None else partial(past.attend, level)
            x = self.blocks[block](x, x0, rotary, attend)
            if level < num_skips:
                skips.append(x)
        out: Tensor = self.final_norm(x)
        return out

    def head(self, hidden: Tensor) -> Tensor:
        """Logits float32 [B, T, V] of final states [B, T, D] (`hidden`)."""
        weight = self.tok_emb.weight if self.config.tie_embeddings else self.lm_head.weight
        logits = F.linear(hidden, weight).float()
        cap = self.config.logit_softcap
        return cap * torch.tanh(logits.div_(cap))

    def forward(self, ids: Tensor, past: Past | None = None) -> Tensor:
        """Logits float32 [B, T, V] for the token after each of ids int64 [B, T].

        With a past, ids go on from the tokens it holds, and it takes them in.
        """
        return self.head(self.hidden(ids, past))

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats per token; ids and targets int64 [B, T]."""
        return F.cross_entropy(self(ids).flatten(0, 1), targets.flatten())
