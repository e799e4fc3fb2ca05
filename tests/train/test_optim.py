"""Muon: its orthogonalisation against the singular value decomposition, and its update rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from squeeze.train.config import ModelConfig
from squeeze.train.model import GPT
from squeeze.train.optim import Muon, orthogonalize, split_parameters


@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 99))
def test_orthogonalized_singular_values_are_near_one(rows: int, cols: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    left = np.linalg.qr(random.normal(size=(rows, rows)))[0]
    right = np.linalg.qr(random.normal(size=(cols, cols)))[0]
    values = random.uniform(0.05, 1.0, min(rows, cols))
    rank = len(values)
    matrix = torch.tensor((left[:, :rank] * values) @ right[:rank], dtype=torch.float32)
    result = orthogonalize(matrix[None])[0]
    assert result.shape == matrix.shape
    found = torch.linalg.svdvals(result)
    assert found.min() > 0.3  # the smallest are still on their way up
    assert found.max() < 1.3
    # the singular vectors stay: the result is symmetric in the matrix's own bases
    inner = torch.tensor(left[:, :rank].T).float() @ result @ torch.tensor(right[:rank].T).float()
    torch.testing.assert_close(inner, torch.diag(inner.diag()), atol=2e-4, rtol=0)


def test_matrices_are_orthogonalized_apart() -> None:
    matrices = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    together = orthogonalize(matrices)
    for matrix, result in zip(matrices, together, strict=True):
        torch.testing.assert_close(orthogonalize(matrix[None])[0], result, atol=1e-5, rtol=1e-5)


def test_a_zero_gradient_moves_nothing() -> None:
    matrix = torch.nn.Parameter(torch.ones(4, 3))
    matrix.grad = torch.zeros_like(matrix)
    Muon([matrix], lr=0.1).step()
    assert torch.equal(matrix.detach(), torch.ones(4, 3))


@pytest.mark.parametrize(("rows", "cols", "scale"), [(4, 4, 1.0), (16, 4, 2.0), (4, 16, 1.0)])
def test_the_step_follows_nesterov_momentum_and_the_shape(
    rows: int, cols: int, scale: float
) -> None:
    generator = torch.Generator().manual_seed(1)
    gradients = torch.randn(3, rows, cols, generator=generator)
    matrix = torch.nn.Parameter(torch.zeros(rows, cols))
    muon = Muon([matrix], lr=0.1, momentum=0.9)
    expected, average = torch.zeros(rows, cols), torch.zeros(rows, cols)
    for gradient in gradients:
        matrix.grad = gradient.clone()
        muon.step()
        average = 0.9 * average + 0.1 * gradient
        ahead = 0.9 * average + 0.1 * gradient
        expected -= 0.1 * scale * orthogonalize(ahead[None])[0]
        torch.testing.assert_close(matrix.detach(), expected, atol=1e-5, rtol=1e-4)


def test_every_weight_has_exactly_one_optimizer() -> None:
    model = GPT(ModelConfig(64, 2, 16, 2, 1, 16, tie_embeddings=False))
    matrices, tables, small = split_parameters(model.named_parameters())
    assert len(matrices) == 12
    assert {tuple(m.shape) for m in tables} == {(64, 16)}
    assert len(tables) == 2
    assert len(matrices) + len(tables) + len(small) == len(list(model.parameters()))
    assert all(weight.ndim <= 2 for weight in small)
