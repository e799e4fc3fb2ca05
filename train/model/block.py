"""One layer of the decoder: attention, MLP, and the three ways in which a layer joins them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from squeeze.train.model.attention import Attend
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.depth import levels, value_homes
from squeeze.train.model.layers import Linear, RMSNorm, Rotary, rotate, vector


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
        self.idle = all(level.mute for level in levels(config) if level.block == layer)
        self.c_q = Linear(config.model_dim, config.model_dim)
        self.c_k = Linear(config.model_dim, config.kv_dim)
        self.c_v = Linear(config.model_dim, config.kv_dim)
        self.proj = Linear(config.model_dim, config.model_dim)
        self.q_gain = vector(config.num_heads)
        self.gate = AttentionGate(config) if config.attention_gate != "none" else None
        self.value_scale = vector(1) if (layer, 0) in value_homes(config) else None

    def project(self, x: Tensor, around: Surroundings) -> tuple[Tensor, ...]:
        """Return queries [B, H, T, d], keys and values [B, KV, T, d], ready for the dot products."""
        q, k, v = self.c_q(x), self.c_k(x), self.c_v(x)
        if around.values is not None:
            v = v + (around.scalars.value_scale * around.values).to(v.dtype)
        q, k, v = (y.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for y in (q, k, v))
        if self.qk_norm:
            q, k = (F.rms_norm(y, (self.head_dim,)) for y in (q, k))
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
        inner = self.fc(x)
        inner = F.leaky_relu(inner, self.slope) if self.slope else torch.relu(inner)
        out: Tensor = self.proj(inner**self.power)
        return out


class Repeat(nn.Module):
    """Parameters of a later pass of a repeated block: scalars (#686), an MLP (#1204), or both."""

    def __init__(self, config: ModelConfig, layer: int, number: int) -> None:
        super().__init__()
        if config.untied_scalars:
            self.q_gain = vector(config.num_heads)
            add_scalars_(self, config)
        self.value_scale = vector(1) if (layer, number) in value_homes(config) else None
        self.mlp = MLP(config) if layer in config.untied_mlps else None


def add_scalars_(module: nn.Module, config: ModelConfig) -> None:
    """Add the scales and the mix of a layer to a module."""
    module.attn_scale = vector(config.model_dim)
    module.mlp_scale = vector(config.model_dim)
    mix = vector(2, config.model_dim) if config.residual_mix else None
    module.register_parameter("resid_mix", mix)


class Block(nn.Module):
    """Attention, then MLP: both add to one residual stream.

    The input is first mixed with the stream that entered the first block, channel by channel
    (`resid_mix`, the challenge's baseline). A block that runs again may have scalars or an MLP of its
    own for each later pass (`repeats`).
    """

    lanes = False  # whether it reads and writes two

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attn_norm, self.mlp_norm = RMSNorm(), RMSNorm()
        self.attn = Attention(config, layer)
        self.mlp = MLP(config)
        add_scalars_(self, config)
        again = range(1, config.passes(layer))
        self.repeats = nn.ModuleList(Repeat(config, layer, number) for number in again)
        self.own_mlp = layer in config.untied_mlps

    def scalars(self, number: int) -> Scalars:
        """Return the small parameters that pass `number` of this block owns."""
        own: Any = self.repeats[number - 1] if number else self
        of_attention: Any = own if number else self.attn
        # the scale of values is a pass's own only where it is the depth that has one
        scale = of_attention.value_scale
        if scale is None:
            scale = self.attn.value_scale
        return Scalars(of_attention.q_gain, own.attn_scale, own.mlp_scale, own.resid_mix, scale)

    def forward(self, x: Tensor, around: Surroundings) -> Tensor:
        """Return the stream [B, T, D] after this layer."""
        x = self.mix(x, around)
        x = x + self.attended(x, around)
        return x + self.processed(x, around)

    def mix(self, x: Tensor, around: Surroundings) -> Tensor:
        """Return the stream with the first one mixed in."""
        mix = around.scalars.resid_mix
        if mix is None:
            return x
        keep, add = mix.to(x.dtype)
        return keep * x + add * around.first

    def attended(self, x: Tensor, around: Surroundings) -> Tensor:
        """Return what attention adds to the stream."""
        if around.mute:
            return torch.zeros_like(x)
        normal = self.attn_norm(x, around.factor)
        out: Tensor = around.scalars.attn_scale.to(x.dtype) * self.attn(normal, around)
        return out

    def processed(self, x: Tensor, around: Surroundings) -> Tensor:
        """Return what the MLP adds to the stream."""
        again = around.number > 0 and self.own_mlp
        mlp: Any = self.repeats[around.number - 1].mlp if again else self.mlp
        scale = around.scalars.mlp_scale.to(x.dtype)
        out: Tensor = scale * mlp(self.mlp_norm(x, around.factor))
        return out


class SumBlock(Block):
    """Attention and MLP read the same input and both add to it (#1493).

    After GPT-J: B. Wang and A. Komatsuzaki, 2021; A. Chowdhery et al., arXiv 2204.02311, section 2.
    """

    def forward(self, x: Tensor, around: Surroundings) -> Tensor:
        x = self.mix(x, around)
        return x + self.attended(x, around) + self.processed(x, around)


class LaneBlock(Block):
    """Two lanes: attention reads one, the MLP the other, and both write to both (#1529, #1787, #1855).

    lane_keep: share of each lane that stays [2]
    lane_write: share of attention (row 0) and MLP (row 1) that each lane receives [2, 2]

    The MLP's lane is not mixed with the first stream.
    """

    lanes = True
    keep_init = 1.1  # of #1855

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.lane_keep, self.lane_write = vector(2), vector(2, 2)

    def forward(self, lanes: tuple[Tensor, Tensor], around: Surroundings) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return the two lanes [B, T, D] after this layer."""
        attended = self.attended(self.mix(lanes[0], around), around)
        processed = self.processed(lanes[1], around)
        keep, write = self.lane_keep.to(attended.dtype), self.lane_write.to(attended.dtype)
        first, second = (
            keep[i] * lanes[i] + write[0, i] * attended + write[1, i] * processed for i in (0, 1)
        )
        return first, second


class TurnBlock(LaneBlock):
    """Two lanes as in #1204: attention writes to both before the MLP reads the second one.

    lane_keep: share of both lanes that stays when attention (0) and when the MLP (1) writes [2]

    Both lanes are mixed with the first stream before they are read.
    """

    keep_init = math.sqrt(1.1)

    def forward(self, lanes: tuple[Tensor, Tensor], around: Surroundings) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return the two lanes [B, T, D] after this layer."""
        for turn, branch in enumerate((self.attended, self.processed)):
            added = branch(self.mix(lanes[turn], around), around)
            keep, write = (w[turn].to(added.dtype) for w in (self.lane_keep, self.lane_write))
            lanes = (keep * lanes[0] + write[0] * added, keep * lanes[1] + write[1] * added)
        return lanes


def build_block(config: ModelConfig, layer: int) -> Block:
    """Return the block of a layer, of the kind that the configuration asks for there."""
    if layer >= config.parallel_from:
        if config.parallel == "sum":
            return SumBlock(config, layer)
        if config.parallel == "lanes":
            return LaneBlock(config, layer)
        if config.parallel == "lanes-in-turn":
            return TurnBlock(config, layer)
    return Block(config, layer)
