"""Muon: its orthogonalisation against the singular value decomposition, and its update rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from squeeze.ranks.group import Ranks, Wait
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from squeeze.train.optim.optimizer import POLAR_EXPRESS, Optimizer, orthogonalize, split_parameters
from squeeze.train.optim.recipe import Recipe

CLIPPED = ModelConfig(16, 2, 8, 2, 1, 8)


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


def test_polar_express_converges_where_newton_schulz_only_comes_near() -> None:
    random = np.random.default_rng(0)
    left, right = (np.linalg.qr(random.normal(size=(24, 24)))[0] for _ in range(2))
    values = np.geomspace(3e-3, 1.0, 24)
    matrix = torch.tensor((left * values) @ right, dtype=torch.float32)[None]
    rough = torch.linalg.svdvals(orthogonalize(matrix))
    fine = torch.linalg.svdvals(orthogonalize(matrix, POLAR_EXPRESS, steps=7))
    assert (fine - 1).abs().max() < 0.02
    assert (rough - 1).abs().max() > 0.1


def test_bfloat16_orthogonalizes_nearly_as_well() -> None:
    matrices = torch.randn(2, 32, 64, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(matrices, dtype=torch.bfloat16))
    assert values.min() > 0.5
    assert values.max() < 1.4


def named(*shapes: tuple[int, ...]) -> dict[str, torch.nn.Parameter]:
    """Parameters of zeros, the first ones a block's matrices, and one small vector."""
    weights = {f"blocks.{i}.mlp.fc.weight": torch.zeros(shape) for i, shape in enumerate(shapes)}
    return {n: torch.nn.Parameter(w) for n, w in weights.items()} | {
        "gain": torch.nn.Parameter(torch.ones(3))
    }


PLAIN = Recipe(matrix_lr=0.1, momentum=0.9, grad_clip=0.0)


def test_a_zero_gradient_moves_nothing() -> None:
    weights = named((4, 3))
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    for weight in weights.values():
        weight.grad = torch.zeros_like(weight)
    norm = Optimizer(weights.items(), PLAIN).step(1.0, 0.9)
    assert norm == 0.0
    assert all(torch.equal(weights[name].detach(), before[name]) for name in weights)


@pytest.mark.parametrize(("rows", "cols", "scale"), [(4, 4, 1.0), (16, 4, 2.0), (4, 16, 1.0)])
def test_the_step_follows_nesterov_momentum_and_the_shape(
    rows: int, cols: int, scale: float
) -> None:
    generator = torch.Generator().manual_seed(1)
    gradients = torch.randn(3, rows, cols, generator=generator)
    weights = named((rows, cols))
    matrix = weights["blocks.0.mlp.fc.weight"]
    optimizer = Optimizer(weights.items(), PLAIN)
    expected, average = torch.zeros(rows, cols), torch.zeros(rows, cols)
    for gradient in gradients:
        matrix.grad = gradient.clone()
        optimizer.step(0.5, 0.9)
        average = 0.9 * average + 0.1 * gradient
        ahead = 0.9 * average + 0.1 * gradient
        expected -= 0.5 * 0.1 * scale * orthogonalize(ahead[None])[0]
        torch.testing.assert_close(matrix.detach(), expected, atol=1e-5, rtol=1e-4)


def test_weight_decay_shrinks_what_is_used_and_leaves_the_rest() -> None:
    weights = named((4, 4), (4, 4))
    used, unused = list(weights.values())[:2]
    with torch.no_grad():
        used.fill_(1.0), unused.fill_(1.0)
    used.grad = torch.zeros_like(used)
    recipe = Recipe(matrix_lr=0.1, matrix_decay=0.5, grad_clip=0.0)
    Optimizer(weights.items(), recipe).step(1.0, 0.9)
    assert torch.allclose(used.detach(), torch.full((4, 4), 0.95))
    assert torch.equal(unused.detach(), torch.ones(4, 4))


def test_row_normalised_updates_forget_the_length_of_a_row() -> None:
    gradient = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))
    lengths = torch.tensor([[1.0], [10.0], [0.1], [3.0]])
    moved = []
    for normalize in (True, False):
        for factor in (torch.ones(4, 1), lengths):
            weights = named((4, 8))
            weights["blocks.0.mlp.fc.weight"].grad = gradient * factor
            recipe = Recipe(row_normalize=normalize, grad_clip=0.0)
            Optimizer(weights.items(), recipe).step(1.0, 0.0)
            moved.append(weights["blocks.0.mlp.fc.weight"].detach())
    torch.testing.assert_close(moved[0], moved[1], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(moved[2], moved[3], atol=1e-3)


def test_clipping_scales_all_gradients_by_their_common_norm() -> None:
    weights = named((2, 2))
    weights["blocks.0.mlp.fc.weight"].grad = torch.full((2, 2), 3.0)
    weights["gain"].grad = torch.tensor([0.0, 8.0, 0.0])
    optimizer = Optimizer(weights.items(), Recipe(grad_clip=1.0))
    assert optimizer.step(1.0, 0.0) == pytest.approx(10.0)  # √(4·9 + 64)
    state = optimizer.snapshot()
    torch.testing.assert_close(state["muon.blocks.0.mlp.fc.weight"], torch.full((2, 2), 0.3))
    torch.testing.assert_close(state["adam.exp_avg.gain"], torch.tensor([0.0, 0.08, 0.0]))


def test_every_weight_has_exactly_one_optimizer() -> None:
    model = GPT(ModelConfig(64, 2, 16, 2, 1, 16, tie_embeddings=False))
    matrices, tables, head, small = split_parameters(model.named_parameters())
    assert len(matrices) == 12
    assert set(tables) == {"tok_emb.weight"}
    assert set(head) == {"lm_head.weight"}
    parts = [matrices, tables, head, small]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(list(model.parameters()))
    assert all(weight.ndim <= 2 for weight in small.values())


def test_polar_express_in_bfloat16_stays_bounded_for_matrices_of_few_directions():
    """Their largest singular value is near the norm: rounding can push it past a polynomial's range."""
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for trial in range(120):
        rank = 1 + trial % 5
        left, right = (
            torch.randn(4, *shape, generator=generator) for shape in ((96, rank), (rank, 96))
        )
        noise = 0.01 * torch.randn(4, 96, 96, generator=generator)
        out = orthogonalize(left @ right + noise, POLAR_EXPRESS, 5, torch.bfloat16)
        largest = max(largest, float(torch.linalg.matrix_norm(out.float(), 2).max()))
    assert largest < 1.25


class _Summing(Ranks):
    """One of two ranks whose peer has gradients of zero."""

    def sum_(self, tensor: torch.Tensor) -> Wait:
        return lambda: None

    def sum_shares(self, tensor: torch.Tensor, share: torch.Tensor) -> Wait:
        share.copy_(tensor[: len(share)])
        return lambda: None

    def gather(self, whole: torch.Tensor, share: torch.Tensor) -> Wait:
        whole[: len(share)] = share
        return lambda: None


@pytest.mark.parametrize("locally", [True, False])
def test_gradients_are_clipped_before_or_after_they_are_summed(locally: bool) -> None:
    model = GPT(CLIPPED)
    recipe = Recipe(grad_clip=1.0, clip_locally=locally)
    optimizer = Optimizer(model.named_parameters(), recipe, _Summing(0, 2))
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 10.0)
    own = 10.0 * CLIPPED.num_params**0.5
    norm = float(optimizer.step(1.0, 0.9))
    clipped = [bank.share for bank in optimizer.banks]
    size = torch.cat([share[: len(share)].flatten() for share in clipped]).norm()
    if locally:  # the mean over the ranks of what was clipped to 1
        assert norm == pytest.approx(own, rel=1e-4) and float(size) < 0.5
    else:  # the clipped mean
        assert norm < own and 0.5 < float(size) <= 1.0


def test_matrices_can_travel_in_16_bits() -> None:
    model = GPT(CLIPPED)
    optimizer = Optimizer(model.named_parameters(), Recipe(exchange="bf16"), _Summing(0, 2))
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    before = model.blocks[0].mlp.fc.weight.clone()
    optimizer.step(1.0, 0.9)
    for bank in optimizer.banks:
        assert bank.share.dtype == bank.gradients.dtype == torch.bfloat16
        assert bank.averages.dtype == torch.float32
    assert not torch.equal(model.blocks[0].mlp.fc.weight, before)
