"""One layer of the decoder: the ways in which it joins attention and MLP to the residual stream."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from squeeze.train.model.config import ModelConfig
from squeeze.train.model.depth import value_homes
from squeeze.train.model.layers import RMSNorm, vector
from squeeze.train.model.sublayers import MLP, Attention, Scalars, Surroundings


class Repeat(nn.Module):
    """Parameters of a later pass of a repeated block: scalars (#686), an MLP (#1204), or both."""

    def __init__(self, config: ModelConfig, layer: int, number: int) -> None:
        super().__init__()
        if config.untied_scalars:
            self.q_gain = vector(config.num_heads)
            add_scalars_(self, config)
        scaled = config.value_layers and (layer, number) in value_homes(config)
        self.value_scale = vector(1) if scaled else None
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
        self.valued, self.untied = config.value_layers != (), config.untied_scalars
        self.mutes = config.no_attention != ()
        self.repeats = nn.ModuleList()
        if self.valued or self.untied or config.untied_mlps:
            again = range(1, config.depth.count(layer))
            self.repeats.extend(Repeat(config, layer, number) for number in again)
        self.own_mlp = layer in config.untied_mlps

    def scalars(self, number: int) -> Scalars:
        """Return the small parameters that pass `number` of this block owns."""
        again = self.untied and number
        own: Any = self.repeats[number - 1] if again else self
        of_attention: Any = own if again else self.attn
        # the scale of values is a pass's own only where it is the depth that has one
        scale = of_attention.value_scale if self.valued else None
        if self.valued and scale is None:
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
        if self.mutes and around.mute:
            return torch.zeros_like(x)
        normal = self.attn_norm(x, around.factor)
        out: Tensor = around.scalars.attn_scale.to(x.dtype) * self.attn(normal, around)
        return out

    def processed(self, x: Tensor, around: Surroundings) -> Tensor:
        """Return what the MLP adds to the stream."""
        again = self.own_mlp and around.number > 0
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
