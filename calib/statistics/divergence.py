"""Divergence of two outputs of a model, and the gradients that its second derivative is made of.

For a language model it is the Kullback-Leibler divergence of next-token distributions. Any other output,
such as an encoder's hidden states, counts as the mean of a Gaussian whose covariance is that of the
outputs over the text: half the squared error in units of that covariance. Both are nats per token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

COVARIANCE_DAMPING = 1e-3  # of the mean variance, for outputs that vary in few directions


class Divergence(Protocol):
    """Divergence of outputs, and draws from what an output stands for.

    name: how reports call it
    features: dimensions of hidden states; 0 for logits
    """

    @property
    def name(self) -> str: ...

    @property
    def features(self) -> int: ...

    def backward(self, output: Tensor, generator: torch.Generator) -> None:
        """Run backward from log p(y) of a draw y at every row of an output [n, V]."""

    def between(self, right: Tensor, wrong: Tensor) -> Tensor:
        """Return the divergence of each row of outputs [n, V], float64 [n]."""


@dataclass(frozen=True)
class Categorical:
    """Divergence of next-token distributions, given by their logits."""

    name: str = "KL of next-token distributions"
    features: int = 0

    def backward(self, output: Tensor, generator: torch.Generator) -> None:
        """Run backward from the logarithm of the share of a token that is drawn."""
        shares = torch.softmax(output.detach(), -1)
        targets = torch.multinomial(shares, 1, generator=generator)[:, 0]
        F.cross_entropy(output, targets, reduction="sum").backward()

    def between(self, right: Tensor, wrong: Tensor) -> Tensor:
        """Return KL(right ‖ wrong)."""
        first, second = (torch.log_softmax(logits.double(), -1) for logits in (right, wrong))
        return (first.exp() * (first - second)).sum(-1)


@dataclass(frozen=True)
class Gaussian:
    """Half the squared error of outputs in units of their covariance.

    root: W [V, V] with Wᵀ W the inverse of the covariance, float64
    """

    root: Tensor
    name: str = "half the squared error in units of the outputs' covariance"

    @classmethod
    def of(cls, outputs: Tensor) -> Gaussian:
        """Return the divergence in units of the covariance of outputs [n, V]."""
        covariance = torch.cov(outputs.double().T).reshape(outputs.size(-1), -1)
        damping = COVARIANCE_DAMPING * covariance.diagonal().mean().clamp_min(1e-30)
        identity = torch.eye(len(covariance), dtype=torch.float64, device=covariance.device)
        lower = torch.linalg.cholesky(covariance + damping * identity)
        return cls(torch.linalg.solve_triangular(lower, identity, upper=False))

    @property
    def features(self) -> int:
        """Dimensions of the outputs."""
        return len(self.root)

    def backward(self, output: Tensor, generator: torch.Generator) -> None:
        """Run backward from the logarithm of the density of a point that is drawn."""
        noise = torch.randn(output.shape, generator=generator, device=output.device)
        output.backward((noise.double() @ self.root).to(output.dtype))

    def between(self, right: Tensor, wrong: Tensor) -> Tensor:
        """Return half the squared error of each row."""
        errors = (wrong.double() - right.double()) @ self.root.T
        return 0.5 * errors.square().sum(-1)
