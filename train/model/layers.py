"""Parts that every module of the model is made of: bias-free matrices, weightless norms, rotations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rotary = tuple[Tensor, Tensor]


class Linear(nn.Linear):
    """A bias-free matrix [out, in] that the model fills itself (no initialisation of its own)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def reset_parameters(self) -> None:
        pass


class Table(nn.Embedding):
    """Rows [rows, width] looked up by number; the model fills them itself."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__(rows, width, _weight=torch.empty(rows, width))


class RMSNorm(nn.Module):
    """x / rms(x) over the last axis; no weights, epsilon is that of the dtype (torch's default).

    factor: what the result is multiplied by; 1/sqrt(n + 1) in block n is #315's scale by depth (its
    LN_SCALE, after W. Sun et al., "The Curse of Depth", arXiv 2502.05795).
    """

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        normal = F.rms_norm(x, (x.size(-1),)).to(x.dtype)  # autocast would give float32
        return normal if self.factor == 1.0 else normal * self.factor


def vector(*shape: int) -> nn.Parameter:
    """A small parameter that the model fills itself."""
    return nn.Parameter(torch.empty(*shape))


def rotary_table(positions: Tensor, dims: int, base: float) -> Rotary:
    """Cosines and sines [T, dims/2] float32 of the rotary angles at integer positions [T]."""
    steps = torch.arange(0, dims, 2, dtype=torch.float32, device=positions.device)
    angles = torch.outer(positions.float(), 1.0 / base ** (steps / dims))
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotate pairs (i, i + r/2) of the first r dimensions of x [B, H, T, d]; rotate-half layout.

    The table [T, r/2] says how many: with r below d the rest carries no position (partial RoPE, #315;
    S. Black et al., arXiv 2204.06745).
    """
    cos, sin = (table.to(x.dtype) for table in rotary)
    dims = 2 * cos.size(-1)
    first, second = x[..., :dims].chunk(2, dim=-1)
    turned = (first * cos + second * sin, second * cos - first * sin)
    still = () if dims == x.size(-1) else (x[..., dims:],)
    return torch.cat((*turned, *still), dim=-1)
