"""Attention and MLP of a layer, and what reaches them besides the residual stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from squeeze.train.model.attention import Attend
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.depth import levels, value_homes
from squeeze.train.model.layers import Linear, Rotary, normalized, rotate, vector
from squeeze.train.model.operations import powered


class Scalars(NamedTuple):
    """Small parameters of an effective layer.

    q_gain: of queries [H]
    attn_scale, mlp_scale: of what attention and the MLP add [D]
    resid_mix: shares of the stream and of the first one [2, D]
    value_scale: of the value embedding [1]
    """

    q_gain: Tensor
    attn_scale: Tensor
    mlp_scale: Tensor
    resid_mix: Tensor | None
    value_scale: Tensor | None


@dataclass(frozen=True)
class Surroundings:
    """Inputs of a layer besides the residual stream.

    first: stream that entered the first block [B, T, D]
    rotary: angles of the positions
    attend: attention of this layer
    scalars: its small parameters
    values: value embedding [B, T, KV·d], for the layers that use one
    number: how often the block has run before
    factor: of the norms
    exclusive: True if attention leaves out each token's own value
    mute: True if attention adds nothing
    """

    first: Tensor
    rotary: Rotary
    attend: Attend
    scalars: Scalars
    values: Tensor | None = None
    number: int = 0
    factor: float = 1.0
    exclusive: bool = False
    mute: bool = False


class Attention(nn.Module):
    """Grouped-query attention whose queries and keys are normalised, rotated and scaled by head.

    Grouped queries: J. Ainslie et al., arXiv 2305.13245. Normalised queries and keys: A. Henry et al.,
    arXiv 2010.04245; the learned gain of each head begins at 1.5 in the baseline, 5.25 in #1493.

    idle: True where every pass of the block leaves attention out
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.head_dim, self.qk_norm = config.head_dim, config.qk_norm
        self.idle = config.no_attention != () and all(
            level.mute for level in levels(config) if level.block == layer
        )
        self.valued = config.value_layers != ()
        self.c_q = Linear(config.model_dim, config.model_dim)
        self.c_k = Linear(config.model_dim, config.kv_dim)
        self.c_v = Linear(config.model_dim, config.kv_dim)
        self.proj = Linear(config.model_dim, config.model_dim)
        self.q_gain = vector(config.num_heads)
        self.gate = AttentionGate(config) if config.attention_gate != "none" else None
        scaled = config.value_layers and (layer, 0) in value_homes(config)
        self.value_scale = vector(1) if scaled else None

    def project(self, x: Tensor, around: Surroundings) -> tuple[Tensor, ...]:
        """Return queries [B, H, T, d], keys and values [B, KV, T, d], ready for the dot products."""
        q, k, v = self.c_q(x), self.c_k(x), self.c_v(x)
        scale = around.scalars.value_scale
        if self.valued and around.values is not None and scale is not None:
            v = v + (scale * around.values).to(v.dtype)
        q, k, v = (y.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for y in (q, k, v))
        if self.qk_norm:
            q, k = normalized(q), normalized(k)
        q, k = rotate(q, around.rotary), rotate(k, around.rotary)
        return q * around.scalars.q_gain.to(q.dtype)[:, None, None], k, v

    def forward(self, x: Tensor, around: Surroundings) -> Tensor:
        q, k, v = self.project(x, around)
        mixed = around.attend(q, k, v)
        if around.exclusive:
            mixed = without_own_value(mixed, v)
        if self.gate is not None:
            mixed = mixed * self.gate(x).to(mixed.dtype)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class AttentionGate(nn.Module):
    """A factor for each head and token, from the first `gate_window` channels of the layer's input.

    "output": 2·sigmoid(W x), which begins at 1 (#1667). "sparse": sigmoid(scale·W x), which begins at
    a half (#1787, #1855; after gated attention, Z. Qiu et al., arXiv 2505.06708). W [H, window] begins
    at zero.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.window, self.scale = config.gate_window, config.attention_gate_scale
        self.most = 2.0 if config.attention_gate == "output" else 1.0
        self.linear = Linear(config.gate_window, config.num_heads)

    def forward(self, x: Tensor) -> Tensor:
        """Return factors [B, H, T, 1] for inputs [B, T, D]."""
        logits = self.scale * self.linear(x[..., : self.window])
        return self.most * torch.sigmoid(logits).transpose(1, 2)[..., None]


def without_own_value(mixed: Tensor, v: Tensor) -> Tensor:
    """Return each head's output without its part along the token's own value (#265).

    mixed: outputs [B, H, T, d]
    v: values [B, KV, T, d] of the same tokens

    Query heads that share a value form a group of one view, so values are not repeated.
    """
    groups = mixed.unflatten(1, (v.size(1), -1))
    own = F.normalize(v, dim=-1)[:, :, None]
    return (groups - (groups * own).sum(-1, keepdim=True) * own).flatten(1, 2)


class MLP(nn.Module):
    """proj(act(fc(x)) ** power), act a relu with slope `mlp_slope` below zero.

    Power 2: D. So et al., "Primer", arXiv 2109.08668. Slope 0.5, squared: #493, #549.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.power, self.slope = config.mlp_power, config.mlp_slope
        self.fc = Linear(config.model_dim, config.mlp_hidden)
        self.proj = Linear(config.mlp_hidden, config.model_dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(powered(self.fc(x), self.slope, self.power))
        return out
