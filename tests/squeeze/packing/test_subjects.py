"""Small models of every style: each packs to a limit, and comes back as it was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import squeeze
from squeeze.artifact.file import decode
from squeeze.artifact.parts import whole_tensors
from squeeze.calib.text.sources import RandomTokens
from squeeze.errors import BadCheckpoint
from squeeze.packing.calibrate import Calibration
from squeeze.packing.costs import measured_divergence
from squeeze.packing.pack import pack_model
from squeeze.packing.packed import Packed
from squeeze.packing.presets import RECORDS
from squeeze.packing.recipe import Recipe, quantize_checkpoint
from squeeze.packing.request import PackRequest
from squeeze.subject.script import load_script
from squeeze.subject.subject import Subject
from squeeze.subject.workpiece import Workpiece
from squeeze.tensors.floats import to_bits
from squeeze.tensors.quantized import QuantizedTensor, RawTensor
from tests.subjects.expected import NAMES
from tests.subjects.training import manual, trained

SUBJECTS = Path(__file__).parents[2] / "subjects"
WITHIN = 200  # bytes below the limit


def subject(name: str) -> Subject:
    return load_script(str(SUBJECTS / name))


def packed(model: Subject, bits: float = 3.0) -> tuple[Packed, int]:
    weights = sum(weight.numel() for weight in model.module.parameters())
    limit = int(weights * bits / 8) + 600
    tokens = np.random.default_rng(0).integers(0, 256, 4096)
    return squeeze.pack(model, limit, tokens=tokens, preset="fast"), limit


@pytest.mark.parametrize("name", NAMES)
def test_it_lands_under_the_limit_and_loads_back_bit_by_bit(name: str, tmp_path: Path) -> None:
    model, path = subject(name), tmp_path / "model.sqz"
    result, limit = packed(model)
    result.save(path)
    assert limit - WITHIN <= len(result.data) <= limit
    state, module = squeeze.load(path), subject(name).module
    squeeze.load_into(module, path)
    own = module.state_dict()
    assert own.keys() == state.keys()
    for key, weight in state.items():
        assert weight.shape == own[key].shape and torch.equal(weight.float(), own[key].float())
    original = model.module.state_dict()
    assert all(state[key].dtype == original[key].dtype for key in original)


QUICK = ("decoders.py:Banks", "decoders.py:HalfPrecision", "derived.py:Generated")


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES],
)
def test_its_divergence_is_far_below_that_of_rounding_at_the_same_bytes(
    name: str, tmp_path: Path
) -> None:
    # trained for a moment: of weights that are white noise, as those of most are at first, nothing is
    # worth more than another, and a quantizer that knows what matters gains little
    model = trained(subject(name))
    request = PackRequest(1 << 30, "round", quant={"all": "4"}, small=1023)
    rounded = pack_model(Workpiece.of_subject(model), request)
    text = manual().numpy()
    result = squeeze.pack(model, len(rounded.data), tokens=text[:8192], preset="fast")
    ids = text[-512:].reshape(16, 32).astype(np.uint16)
    divergence, ids_ = model.divergence(ids), torch.from_numpy(ids.astype(np.int64))
    costs = []
    for data in (result.data, rounded.data):
        (tmp_path / "m.sqz").write_bytes(data)
        weights = {n: w.float().numpy() for n, w in squeeze.load(tmp_path / "m.sqz").items()}
        outputs = [m.logits(ids_).flatten(0, 1) for m in (model, model.with_weights(weights))]
        costs.append(float(divergence.between(*outputs).mean()))
    assert costs[0] <= 0.3 * costs[1]


def test_a_live_module_is_packed_and_left_alone(tmp_path: Path) -> None:
    module = subject("decoders.py:Banks").module.train().bfloat16()
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    tokens = np.random.default_rng(0).integers(0, 256, 2048)
    result = squeeze.pack(module, 33_000, tokens=tokens, preset="fast")
    assert module.training and len(result.data) <= 33_000
    after = module.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert all(weight.dtype == torch.bfloat16 for weight in after.values())
    result.save(tmp_path / "model.sqz")
    state = squeeze.load(tmp_path / "model.sqz")
    assert all(weight.dtype == torch.bfloat16 for weight in state.values())


def test_a_tied_head_is_stored_once_and_loaded_under_both_names(tmp_path: Path) -> None:
    result, _ = packed(subject("decoders.py:FusedQkv"))
    result.save(tmp_path / "m.sqz")
    state = squeeze.load(tmp_path / "m.sqz")
    assert torch.equal(state["lm_head.weight"], state["wte.weight"])
    rows = {row.tensor for row in result.ledger.rows}
    assert "lm_head.weight" not in rows and "wte.weight" in rows


def test_a_model_whose_packed_outputs_are_not_numbers_is_refused() -> None:
    text = RandomTokens(256).draw(64, 32)
    model = subject("decoders.py:Baseline")
    broken = model.with_weights({"tok_emb.weight": np.full((256, 64), np.nan, np.float32)})
    with pytest.raises(squeeze.SqueezeError, match="packed model's outputs are not numbers"):
        measured_divergence(model, broken, text)


@pytest.mark.parametrize("preset", sorted(RECORDS))
def test_a_record_keeps_its_bits_in_banks_of_other_names(preset: str) -> None:
    record, model = RECORDS[preset], subject("decoders.py:Banks")
    tokens = np.random.default_rng(0).integers(0, 256, 1024).astype(np.uint16)
    text = Calibration("tokens", ids=tokens)
    request = PackRequest(1 << 30, preset, small=1023, calibration=text)
    packed = pack_model(Workpiece.of_subject(model), request)
    stored = decode(packed.data).tensors
    assert {name.partition("[")[0] for name in stored} == set(model.module.state_dict())
    for name, tensor in stored.items():
        assert isinstance(tensor, QuantizedTensor), name
        kind = "embed" if name == "tok_emb.weight" else "mlp"
        bits = 8 if record.salient else record.bits[kind]
        largest = (1 << bits - 1) - 1
        assert largest // 8 < np.abs(tensor.codes).max() <= largest, name


def test_rounding_gives_every_row_of_a_bank_a_step_of_its_own() -> None:
    rng = np.random.default_rng(1)
    bank = rng.standard_normal((3, 40, 96)).astype(np.float32) * np.geomspace(1, 1e3, 40)[:, None]
    tensors = {"bank": RawTensor(to_bits(bank.astype(np.float32), "fp32"), "fp32")}
    recipe = Recipe(small=1024)
    packed = quantize_checkpoint(tensors, {"note": 1}, recipe)
    assert [t.steps.shape for t in packed.tensors.values()] == [(40,)] * 3  # type: ignore[union-attr]
    whole = whole_tensors(packed)["bank"].dequantize()
    error = np.abs(whole - bank).max(axis=(0, 2)) / np.abs(bank).max(axis=(0, 2))
    assert error.max() < 0.1
    taken = {**tensors, "bank[2]": RawTensor(np.zeros(3, np.uint32), "fp32")}
    with pytest.raises(BadCheckpoint, match="has the name of a part of bank"):
        quantize_checkpoint(taken, {}, recipe)
