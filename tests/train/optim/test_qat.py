"""Quantization-aware training: the packer's own grid, straight through, and weights that code small."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from squeeze.calib.quantizers.round_to_nearest import quantize_rtn
from squeeze.codecs import get
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.qat import Grid, QuantizationAware, code_bits
from squeeze.train.optim.recipe import Recipe
from squeeze.train.run.trainer import Trainer

CONFIG = ModelConfig(48, 2, 48, 2, 1, 96, seq_len=16)


def tokens() -> np.ndarray:
    random = np.random.default_rng(0)
    cycle = (np.arange(6000) * 7 % 47).astype(np.uint16)
    return np.where(random.random(6000) < 0.2, random.integers(0, 47, 6000), cycle).astype("u2")


def trained(steps: int, **recipe: object) -> Trainer:
    settings = {"batch_tokens": 256, "steps": steps, "warmdown": 0.5, **recipe}
    trainer = Trainer(CONFIG, [tokens()], Recipe.from_fields(settings))
    for step in range(steps):
        trainer.step(step / steps)
    return trainer


@pytest.mark.parametrize(("bits", "k"), [(6, 12.85), (8, 20.0), (4, 2.5), (6, 0.0), (2, 0.0)])
def test_the_grid_is_that_of_pack_quant(bits: int, k: float) -> None:
    generator = torch.Generator().manual_seed(bits)
    weights = torch.randn(40, 64, generator=generator) * torch.logspace(-3, 1, 40)[:, None]
    packed = quantize_rtn(weights.numpy(), bits, k or None).dequantize()
    assert np.array_equal(Grid(bits, k).rounded(weights).numpy(), packed)


def test_a_row_of_zeros_stays_zero() -> None:
    assert not Grid(6, 12.85).rounded(torch.zeros(2, 3, 4)).any()


def test_the_forward_sees_the_grid_and_the_weights_come_back() -> None:
    trainer = trained(0, qat_start=0.0, qat_bits=3, qat_k=2.0)
    exact = {name: w.detach().clone() for name, w in trainer.model.named_parameters()}
    ids, targets = trainer.loader.peek()
    plain = trainer.model.loss(ids, targets)
    trainer.qat.on = True
    with trainer.qat.rounded():
        rounded = trainer.model.loss(ids, targets)
        fc = trainer.model.blocks[0].mlp.fc.weight
        assert torch.equal(fc, Grid(3, 2.0).rounded(exact["blocks.0.mlp.fc.weight"]))
        assert torch.equal(trainer.model.skip_weights, exact["skip_weights"])  # not a matrix
    assert rounded != plain
    for name, weight in trainer.model.named_parameters():
        assert torch.equal(weight, exact[name])


def test_the_gradient_goes_straight_through() -> None:
    trainer = trained(3, qat_start=0.0, qat_bits=4, qat_k=3.0)
    ids, targets = trainer.loader.peek()
    trainer.qat.on = True
    trainer._gradients(ids, targets)
    found = {name: w.grad for name, w in trainer.model.named_parameters()}
    with trainer.qat.rounded():
        expected = torch.autograd.grad(
            trainer.model.loss(ids, targets), list(trainer.model.parameters())
        )
    for (name, _), gradient in zip(trainer.model.named_parameters(), expected, strict=True):
        assert torch.equal(found[name], gradient), name


def test_an_error_inside_leaves_the_exact_weights() -> None:
    weight = torch.nn.Parameter(torch.randn(4, 4))
    before = weight.detach().clone()
    qat = QuantizationAware({"w": weight}, {}, Recipe())
    qat.on = True
    with pytest.raises(KeyError), qat.rounded():
        raise KeyError
    assert torch.equal(weight.detach(), before)


def test_the_rate_gradient_is_that_of_the_mean_code_length() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {n: torch.nn.Parameter(torch.randn(5, 7, generator=generator)) for n in "ab"}
    qat = QuantizationAware({"a": weights["a"]}, {"b": weights["b"]}, Recipe(qat_rate=0.7))
    qat.on = True
    grids = {"a": Grid(6, 12.85), "b": Grid(8, 20.0)}
    bits = torch.stack([
        code_bits(weights[n], grids[n].steps(weights[n].detach())).sum() for n in "ab"
    ]).sum() / 70  # fmt: skip
    expected = torch.autograd.grad(0.7 * bits, list(weights.values()))
    for weight in weights.values():
        weight.grad = torch.zeros_like(weight)
    qat.add_rate_gradient_()
    for weight, gradient in zip(weights.values(), expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient)


def coded_bytes(trainer: Trainer, steps: dict[str, torch.Tensor]) -> int:
    """Bytes of all block matrices' codes at the given steps, through the project's lossless coder."""
    weights = {n: w.detach() for n, w in trainer.model.named_parameters() if n in steps}
    codes = [(weight / steps[name]).round().clamp(-127, 127) for name, weight in weights.items()]
    return sum(len(get("context").encode(code.numpy().astype(np.int8))) for code in codes)


def rounded_loss(trainer: Trainer) -> float:
    """Mean loss of the quantized model on the first batches."""
    trainer.loader.position = 0
    with torch.no_grad(), trainer.qat.rounded():
        return float(np.mean([trainer.model.loss(*trainer.loader.next()) for _ in range(20)]))


def test_the_rate_term_makes_weights_code_smaller_at_equal_steps() -> None:
    plain = trained(200, qat_start=0.5, qat_k=6.0)
    cheap = trained(200, qat_start=0.5, qat_k=6.0, qat_rate=0.2)
    steps = {
        name: Grid(6, 6.0).steps(weight.detach())
        for name, weight in plain.model.named_parameters()
        if name.startswith("blocks.") and name.endswith(".weight")
    }
    assert coded_bytes(cheap, steps) < 0.93 * coded_bytes(plain, steps)
    assert rounded_loss(cheap) < rounded_loss(plain) + 0.02
