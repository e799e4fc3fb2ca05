"""Hidden units in another order: the same function, fewer bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from squeeze.artifact.file import decode
from squeeze.checkpoint.read import load_model
from squeeze.packing.calibrate import Calibrated, Calibration, calibrate
from squeeze.packing.curvature import Curvature
from squeeze.packing.kept import KeptCodes
from squeeze.packing.pack import pack_model
from squeeze.packing.packed import Packed
from squeeze.packing.quantizer import Quantizer
from squeeze.packing.recipe import contents_of
from squeeze.packing.request import PackRequest
from squeeze.packing.session import in_unit_order
from squeeze.subject.subject import Subject
from squeeze.subject.units import UnitOrder, ordered
from squeeze.subject.workpiece import Workpiece
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT

CONFIG = ModelConfig(vocab_size=64, num_layers=2, model_dim=32, num_heads=4, num_kv_heads=2,
                     mlp_hidden=64, seq_len=32)  # fmt: skip
RANDOM = Calibration("random", 512, 32)


def scrambled(module: nn.Module) -> nn.Module:
    """Return a module whose parameters are random, biases and zeros of the start included."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
    return module


def own() -> Workpiece:
    module = scrambled(GPT(CONFIG))
    assert isinstance(module, GPT)
    return Workpiece.of_subject(Subject.of_gpt(module))


def llama() -> Workpiece:
    config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                         mlp_bias=True)  # fmt: skip
    return Workpiece.of_module(scrambled(LlamaForCausalLM(config)))


def gpt2() -> Workpiece:
    config = GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64,
                        bos_token_id=0, eos_token_id=0)  # fmt: skip
    return Workpiece.of_module(scrambled(GPT2LMHeadModel(config)))


class Mlp(nn.Module):
    """A model of one mlp, between whose products a function of all hidden units may stand."""

    def __init__(self, between: Callable[[Tensor], Tensor] = torch.relu) -> None:
        super().__init__()
        self.between = between
        self.table = nn.Embedding(64, 32)
        self.up, self.down = nn.Linear(32, 48), nn.Linear(48, 32)
        self.head = nn.Linear(32, 64)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        logits: Tensor = self.head(x + self.down(self.between(self.up(x))))
        return logits


def moved(piece: Workpiece) -> tuple[Workpiece, UnitOrder] | None:
    ids = torch.arange(24)[None] * 5 % 64
    return ordered(piece, piece.subject.tapped(ids).layout, ids)


@pytest.mark.parametrize(("make", "mlps", "makers"), [(own, 2, 1), (llama, 2, 2), (gpt2, 2, 1)])
def test_units_go_from_small_to_large_and_the_function_stays(
    make: Callable[[], Workpiece], mlps: int, makers: int
) -> None:
    piece = make()
    found = moved(piece)
    assert found is not None
    other, order = found
    assert (len(order.columns), len(order.rows)) == (mlps, mlps * makers)
    layout = piece.subject.tapped(piece.subject.some_ids()).layout
    for reader, names in layout.hidden.items():
        parts = [layout.matrices[name].slice for name in names]
        matrices = [part.matrix_of(other.tensors[part.tensor]) for part in parts]
        sizes = sum(np.square(matrix.astype(np.float64)).sum(1) for matrix in matrices)
        assert (np.diff(sizes) >= 0).all()
        part = layout.matrices[reader].slice
        before, after = (part.matrix_of(p.tensors[part.tensor]) for p in (piece, other))
        assert not np.array_equal(before, after)
        assert np.array_equal(np.sort(before), np.sort(after))
    ids = torch.arange(24)[None] * 7 % 64
    right = piece.subject.logits(ids)
    weights = {name: tensor.dequantize() for name, tensor in other.stored.items()}
    for model in (other.subject, piece.subject.with_weights(weights)):
        assert (model.logits(ids) - right).abs().max() < 1e-4 * right.abs().max()


@pytest.mark.parametrize(
    "between",
    [
        lambda x: torch.relu(x) * torch.linspace(0.5, 1.5, 48),
        lambda x: torch.relu(x).cumsum(-1),
        lambda x: torch.relu(x) + torch.relu(x).roll(1, -1),
    ],
)
def test_where_the_order_matters_nothing_moves(between: Callable[[Tensor], Tensor]) -> None:
    piece = Workpiece.of_module(scrambled(Mlp(between)))
    assert piece.subject.tapped(piece.subject.some_ids()).layout.hidden
    assert moved(piece) is None
    assert moved(Workpiece.of_module(scrambled(Mlp()))) is not None


def test_units_that_something_else_reads_keep_their_places() -> None:
    class Twice(Mlp):
        def __init__(self) -> None:
            super().__init__()
            self.side = nn.Linear(48, 64)

        def forward(self, ids: Tensor) -> Tensor:
            hidden = torch.relu(self.up(self.table(ids)))
            logits: Tensor = self.head(self.down(hidden)) + self.side(hidden)
            return logits

    assert moved(Workpiece.of_module(scrambled(Twice()))) is None


def test_what_was_calibrated_moves_along(tmp_path: Path) -> None:
    """Statistics of the model in the new order are those of the old one, moved."""
    piece = llama()
    found = moved(piece)
    assert found is not None
    other, order = found
    before = calibrate(piece, RANDOM, tmp_path / "a")
    after = calibrate(other, RANDOM, tmp_path / "b")
    hessians, gradients = order.of_hessians(before.hessians), order.of_gradients(before.gradients)
    for name, expected in after.hessians.matrices.items():
        np.testing.assert_allclose(hessians.matrices[name], expected, rtol=1e-3, atol=1e-4)
    for name in after.gradients.rows:
        right = after.gradients.best(name)
        largest = float(np.abs(right).max())
        np.testing.assert_allclose(gradients.best(name), right, rtol=1e-2, atol=1e-3 * largest)


def test_a_pack_below_four_bits_says_so_and_computes_the_same(tmp_path: Path) -> None:
    piece = own()

    def pack(limit: int) -> Packed:
        return pack_model(piece, PackRequest(limit, "fast", calibration=RANDOM, cache=tmp_path))

    def said(packed: Packed) -> bool:
        return any("2 mlps are stored in another order" in note for note in packed.notes)

    packed, finer = pack(piece.weights * 39 // 80), pack(piece.weights * 41 // 80)
    assert said(packed)
    assert not said(finer)
    again = pack(piece.weights * 39 // 80)
    assert again.data == packed.data
    assert said(again)
    assert not any("made again" in note for note in again.notes)
    ids = torch.arange(24)[None] * 7 % 64
    right, errors = piece.subject.logits(ids), []
    for file in (packed, finer):
        weights = {name: tensor.dequantize() for name, tensor in decode(file.data).tensors.items()}
        wrong = piece.subject.with_weights(weights).logits(ids)
        errors.append(float((wrong - right).square().mean() / right.square().mean()))
    # units in another order would give some 1 of the square of the logits, or more
    assert max(errors) < 0.6


def _bytes_at(piece: Workpiece, calibrated: Calibrated, scale: float) -> tuple[int, float]:
    contents = contents_of(piece, calibrated.layout, "fp16")
    curvature = Curvature.of(contents.matrices, calibrated.hessians, calibrated.gradients)
    quantizer = Quantizer(contents, curvature, 8, KeptCodes(None))
    matrices = quantizer.quantize(dict.fromkeys(quantizer.weight_counts, scale))
    losses = (curvature.loss(name, matrix.tensor) for name, matrix in matrices.items())
    return quantizer.measure(matrices), sum(losses)


def test_real_weights_cost_less_in_order(materials: Path, tmp_path: Path) -> None:
    """nolanvild at one scale near 1.3 bits a weight: fewer bytes at no more expected loss."""
    path = materials / "checkpoints" / "nolanvild_0.48M_fp32.pt"
    architecture: dict[str, Any] = {"seq_len": 256, "mlp_power": 3}
    piece = Workpiece.of(load_model(path, like="baseline", **architecture))
    shard = materials / "fineweb" / "fineweb_train_000000_sp1024_1M.bin"
    calibrated = calibrate(piece, Calibration("shards", 8192, data=(str(shard),)), tmp_path)
    other, after = in_unit_order(piece, calibrated, piece.weights // 6)
    assert other is not piece
    size, loss = _bytes_at(piece, calibrated, 1e-3)
    smaller, less = _bytes_at(other, after, 1e-3)
    assert smaller < 0.997 * size
    assert less < 1.01 * loss
