"""Chunks of logits that are computed twice give the loss and the gradients of whole ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from squeeze.train.model import loss as loss_module
from squeeze.train.model.loss import capped_loss


@pytest.mark.parametrize("cap", [0.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk", [1, 50, 1000])
def test_chunks_give_the_loss_and_the_gradients_of_whole_logits(
    cap: float, dtype: torch.dtype, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, 8, generator=generator) for n in (23, 11))
    hidden = hidden.to(dtype)
    targets = torch.randint(11, (23,), generator=generator)

    def outcome() -> list[torch.Tensor]:
        leaves = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        loss = capped_loss(*leaves, targets, cap)
        (3 * loss).backward()
        return [loss.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]

    whole = outcome()
    monkeypatch.setattr(loss_module, "WHOLE", 0)
    monkeypatch.setattr(loss_module, "CHUNK", chunk)
    tolerance = 1e-6 if dtype == torch.float32 else 2e-2
    for ours, plain in zip(outcome(), whole, strict=True):
        assert ours.dtype == plain.dtype
        torch.testing.assert_close(ours, plain, atol=tolerance, rtol=tolerance)


def test_chunks_are_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "WHOLE", 0)
    monkeypatch.setattr(loss_module, "CHUNK", 50)
    hidden, weight = torch.randn(12, 8).requires_grad_(), torch.randn(11, 8).requires_grad_()
    targets = torch.randint(11, (12,))
    torch._dynamo.reset()
    compiled = torch.compile(capped_loss, backend="aot_eager", fullgraph=True)
    loss = compiled(hidden, weight, targets, 30.0)
    loss.backward()
    wanted = F.cross_entropy(30 * torch.tanh(hidden @ weight.T / 30), targets)
    torch.testing.assert_close(loss, wanted)
