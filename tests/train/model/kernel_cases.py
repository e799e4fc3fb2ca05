"""Kernels give what plain PyTorch gives; `test_kernels` starts these, interpreted without a GPU."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
import torch
from torch import Tensor

from squeeze.train.model import operations
from squeeze.train.model.loss import _Chunked

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="module")
def kernels() -> ModuleType:
    """Return the module of the kernels."""
    return importlib.import_module("squeeze.train.model.kernels")


def tensors(*shapes: tuple[int, ...], dtype: torch.dtype, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [(scale * torch.randn(shape, generator=generator)).to(DEVICE, dtype) for shape in shapes]


@pytest.mark.parametrize("cap", [0.0, 3.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [1, 61, 4099])  # 4099: a second block, hardly used
def test_rows_have_the_losses_and_slopes_of_plain_pytorch(
    kernels: ModuleType, width: int, dtype: torch.dtype, cap: float
) -> None:
    (logits,) = tensors((5, width), dtype=dtype, scale=8.0)
    targets = torch.tensor([0, width - 1, width // 2, 0, width - 1], device=DEVICE)
    scale = torch.tensor(0.25, device=DEVICE)
    before = logits.clone()
    plain = operations.row_losses(logits, targets, cap)
    for ours, theirs in zip(kernels.row_losses(logits, targets, cap), plain, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-6)
    ours, theirs = (
        module.row_slopes(logits, targets, plain[1], scale, cap) for module in (kernels, operations)
    )
    assert ours.dtype == dtype and torch.equal(logits, before)
    # bfloat16: two roundings of numbers that differ by little
    torch.testing.assert_close(
        ours, theirs, atol=1e-6, rtol=1e-5 if dtype == torch.float32 else 1e-2
    )


@pytest.mark.parametrize("slope", [0.0, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_squares_and_their_gradients_are_those_of_plain_pytorch(
    kernels: ModuleType, dtype: torch.dtype, slope: float
) -> None:
    x, out = tensors((7, 301), (7, 301), dtype=dtype)
    x[0, :3] = torch.tensor([0.0, -0.0, -1.0])
    results = []
    for function in (kernels.squared, lambda x, slope: operations.powered(x, slope, 2)):
        leaf = x.clone().requires_grad_()
        result = function(leaf, slope)
        result.backward(out)
        results.append((result.detach(), leaf.grad))
    tolerance = 1e-6 if dtype == torch.float32 else 2e-2
    for ours, plain in zip(*results, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, plain, atol=tolerance, rtol=tolerance)


def test_a_loss_of_chunks_goes_through_the_kernels_once_they_are_in_use(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, weight = tensors((23, 8), (11, 8), dtype=torch.float32)
    targets = torch.arange(23, device=DEVICE) % 11

    def outcome() -> list[Tensor]:
        leaves = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        loss = _Chunked.apply(*leaves, targets, 30.0)
        loss.backward()
        return [loss.detach(), *(leaf.grad for leaf in leaves)]

    plain = outcome()
    monkeypatch.setattr(operations, "kernels", None)
    kernels.use_kernels()
    assert operations.kernels is kernels
    monkeypatch.setattr(operations, "_fused", lambda x: True)
    for ours, theirs in zip(outcome(), plain, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
