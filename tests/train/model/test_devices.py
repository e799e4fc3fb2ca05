"""Every tensor of a step stays on the model's device.

The device is `meta`, which holds no numbers and refuses to mix with the CPU as a GPU does: the pinned
torch has no fake GPU (its CPU wheel is not linked with support for one).
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch._dynamo  # keeps is_autocast_enabled as it is when loaded: not as a test replaces it

from squeeze.train.model.gpt import GPT
from squeeze.train.optim.averaging import Average
from squeeze.train.optim.optimizer import Optimizer
from squeeze.train.optim.recipe import Recipe
from tests.tiny_models import NARROW

META = torch.device("meta")


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("name", NARROW)
def test_forward_backward_and_optimizer_stay_on_their_device(
    name: str, recurrent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # neither knows this device
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)
    unfused = partial(torch.optim.AdamW, foreach=True)
    monkeypatch.setattr(torch.optim, "AdamW", lambda *args, fused, **more: unfused(*args, **more))
    with META:
        model = GPT(NARROW[name])
        ids = torch.empty(2, 16, dtype=torch.int64)
    model.recurrent = recurrent
    reach = model.reach(ids, cut=8)
    assert reach.mask is None or reach.mask.device == META
    loss = model.loss(ids, ids, reach)
    loss.backward()
    assert loss.device == META
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert {gradient.device for gradient in gradients} == {META}
    recipe = Recipe(average="ema", grad_clip=1.0)
    optimizer = Optimizer(model.named_parameters(), recipe)
    assert optimizer.step(1.0, 0.9).device == META
    average = Average(model.named_parameters(), recipe)
    average.update(0.5, 1)
    average.update(0.6, 2)
    assert {tensor.device for tensor in optimizer.snapshot().values() if tensor.dim()} == {META}
