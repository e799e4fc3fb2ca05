"""Parts of the model's modules: bias-free matrices, weightless norms, rotations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rotary = tuple[Tensor, Tensor]


class Linear(nn.Linear):
    """Bias-free matrix [out, in], which the model fills itself."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def reset_parameters(self) -> None:
        pass


class Table(nn.Embedding):
    """Table [rows, width] looked up by number, which the model fills itself."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__(rows, width, _weight=torch.empty(rows, width))


class RMSNorm(nn.Module):
    """Norm x / rms(x) over the last axis, without weights; epsilon is torch's default for the dtype.

    The result is multiplied by `factor`: 1/sqrt(n + 1) in layer n is #315's scale by depth (its
    LN_SCALE, after W. Sun et al., "The Curse of Depth", arXiv 2502.05795).
    """

    def forward(self, x: Tensor, factor: float = 1.0) -> Tensor:
        normal = normalized(x)
        return normal if factor == 1.0 else normal * factor


def normalized(x: Tensor) -> Tensor:
    """Return x / rms(x) over the last axis, in the dtype of x: autocast gives float32 on a GPU."""
    return F.rms_norm(x, (x.size(-1),)).to(x.dtype)


def vector(*shape: int) -> nn.Parameter:
    """Return a small parameter, which the model fills itself."""
    return nn.Parameter(torch.empty(*shape))


def rotary_base(base: float, dims: int, length: int, least: int) -> float:
    """Return the base of the rotary angles of a forward of `length` tokens.

    least: length beyond which the base grows, so that all angles of a longer forward are those of one
        that long; 0: never

    NTK-aware scaling, as the records up to #1204 have it: base·(length/least)^(dims/(dims − 2)).
    """
    if not least or dims <= 2:
        return base
    # without a branch, which would be another graph for each side of it
    return base * float((max(length, least) / least) ** (dims / (dims - 2)))


def rotary_table(positions: Tensor, dims: int, base: float) -> Rotary:
    """Return cosines and sines [T, dims/2] float32 of the rotary angles at integer positions [T]."""
    steps = torch.arange(0, dims, 2, dtype=torch.float32, device=positions.device)
    angles = torch.outer(positions.float(), 1.0 / base ** (steps / dims))
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Return x [B, H, T, d] with pairs (i, i + r/2) of its first r dimensions rotated.

    r is twice the width of the tables [T, r/2]: below d, the rest carries no position (partial RoPE,
    #315; S. Black et al., arXiv 2204.06745).
    """
    cos, sin = (table.to(x.dtype) for table in rotary)
    dims = 2 * cos.size(-1)
    first, second = x[..., :dims].chunk(2, dim=-1)
    turned = (first * cos + second * sin, second * cos - first * sin)
    still = () if dims == x.size(-1) else (x[..., dims:],)
    return torch.cat((*turned, *still), dim=-1)
