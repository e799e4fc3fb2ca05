"""Small models whose products read weights that are computed from others, and one that has no logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

VOCAB, WIDTH = 256, 64
length = 32


def noise(*shape: int) -> nn.Parameter:
    """Return a matrix of random weights."""
    return nn.Parameter(torch.randn(*shape) * shape[-1] ** -0.5)


class Around(nn.Module):
    """Embedding and head around a layer [D → D]."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.emb, self.lm_head = nn.Embedding(VOCAB, WIDTH), nn.Linear(WIDTH, VOCAB, bias=False)

    def layer(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, ids: Tensor) -> Tensor:
        x = self.emb(ids)
        x = x + torch.relu(self.layer(x)).cumsum(1) / ids.size(1)
        return self.lm_head(F.layer_norm(x, (WIDTH,)))


class Straight(torch.autograd.Function):
    """Rounding whose gradient is that of the identity."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return gradients[0]


class FakeQuantized(Around):
    """Weights that are rounded to five bits before use, by two ways of writing it."""

    def __init__(self) -> None:
        super().__init__(11)
        self.first, self.second = noise(WIDTH, WIDTH), noise(WIDTH, WIDTH)

    def layer(self, x: Tensor) -> Tensor:
        step = self.first.detach().abs().amax(1, keepdim=True).clamp_min(1e-6) / 15
        first = self.first + ((self.first / step).round() * step - self.first).detach()
        second = Straight.apply(self.second * 20.0) * 0.05
        return F.linear(torch.tanh(F.linear(x, first)), second)


class WeightNormed(Around):
    """A layer under weight norm."""

    def __init__(self) -> None:
        super().__init__(12)
        self.inner = weight_norm(nn.Linear(WIDTH, WIDTH))

    def layer(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Merged(Around):
    """A layer with an adapter of low rank that is merged into it."""

    def __init__(self) -> None:
        super().__init__(13)
        self.inner, self.a, self.b = nn.Linear(WIDTH, WIDTH), noise(16, WIDTH), noise(WIDTH, 16)

    def layer(self, x: Tensor) -> Tensor:
        return F.linear(x, self.inner.weight + 2.0 * self.b @ self.a, self.inner.bias)


class Generated(Around):
    """A layer whose weights are a fixed random map of a code."""

    def __init__(self) -> None:
        super().__init__(14)
        self.code = noise(WIDTH, 32)
        self.register_buffer("basis", torch.randn(32, WIDTH) * 0.2, persistent=False)

    def layer(self, x: Tensor) -> Tensor:
        return x @ (self.code @ self.basis).T


class Scaled(Around):
    """Weights times a gain for each row, one for each column and a number."""

    def __init__(self) -> None:
        super().__init__(15)
        self.inner = noise(WIDTH, WIDTH)
        self.gain, self.share = nn.Parameter(torch.rand(WIDTH, 1)), nn.Parameter(torch.rand(WIDTH))

    def layer(self, x: Tensor) -> Tensor:
        return F.linear(x, (self.inner * self.gain * self.share * 1.5).to(x.dtype))


class Encoder(nn.Module):
    """An encoder of torch's own layers that returns hidden states, and layers that nothing uses."""

    outputs = "hidden"

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(16)
        self.emb, self.pooler = nn.Embedding(VOCAB, WIDTH), nn.Linear(WIDTH, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.layers(self.emb(ids))
