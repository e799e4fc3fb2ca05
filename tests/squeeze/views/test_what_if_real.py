"""What-if against the files it speaks of: packed for real at the scales that it names."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from squeeze.artifact.file import decode
from squeeze.calib.text.sources import Sequences
from squeeze.checkpoint.read import LoadedModel, load_model
from squeeze.packing.calibrate import Calibration, calibrate
from squeeze.packing.costs import measured_divergence
from squeeze.packing.curvature import CheapCurvature
from squeeze.packing.fit import at_scales
from squeeze.packing.kept import KeptCodes
from squeeze.packing.plan import Plan
from squeeze.packing.presets import TARGETS
from squeeze.packing.quantizer import Quantizer
from squeeze.packing.recipe import contents_of
from squeeze.packing.session import in_unit_order
from squeeze.subject.subject import Subject
from squeeze.subject.workpiece import Workpiece
from squeeze.train.data.shards import read_shard
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from squeeze.views.frontier import frontier
from squeeze.views.what_if import foresee, parse
from tests.packs import pack_to
from tests.tiny_models import begun

BYTES, COST = 0.02, 0.3  # relative errors allowed of bytes, and of the change of cost
# Of a smaller change the relative error says little: an embedding of 7 bits changes the reference's cost
# by 0.0003 to 0.0004 bits a token, and the foreseen is 29 to 94 % above, depending on the text, which it
# writes itself: on each kind of processor another one.
SMALL = 0.0004  # bits a token that any change may be off
TOKENS = 32_768  # as benchmarks/what_if.py
TINY = ModelConfig(256, 2, 64, 2, 1, 192, seq_len=32)


@dataclass(frozen=True)
class Case:
    """A packed model, and all that is needed to pack it otherwise and to judge it."""

    plan: Plan
    quantizer: Quantizer
    loaded: LoadedModel
    reference: Subject
    text: Sequences
    allowed: float = COST

    def cost(self, data: bytes) -> float:
        """Mean KL in nats per token on the text."""
        weights = {name: tensor.dequantize() for name, tensor in decode(data).tensors.items()}
        packed = GPT.from_tensors(self.loaded.config, weights).eval()
        return measured_divergence(
            self.reference, Subject.of_gpt(packed), self.text, tokens=self.text.ids.size
        ).mean

    def errors(self, text: str) -> tuple[float, float, float]:
        """Relative errors of the foreseen bytes and change of cost; the latter in bits a token, too."""
        found = foresee(self.plan, parse(text))
        before = at_scales(self.quantizer, self.plan.scales).data
        after = at_scales(
            self.quantizer, self.plan.scales | {t.name: t.scale for t in found.tensors}
        ).data
        assert len(before) == self.plan.size
        change = self.plan.in_bits(self.cost(after) - self.cost(before))
        foreseen = found.cost[1] - found.cost[0]
        return found.size / len(after) - 1, foreseen / change - 1, foreseen - change


def case(
    path: Path,
    folder: Path,
    limit: int,
    settings: Calibration,
    fields: dict[str, Any],
    text: Sequences | None = None,
) -> Case:
    """Pack a checkpoint. text: judged on this; on the calibration text when None."""
    loaded = load_model(path, **fields)
    plan = pack_to(path, limit, settings, folder, **fields).plan
    assert plan is not None
    piece, found = in_unit_order(Workpiece.of(loaded), calibrate(loaded, settings, folder), limit)
    contents = contents_of(piece, found.layout, "fp16")
    curvature = CheapCurvature.of(contents.matrices, found.hessians, found.gradients)
    kept = KeptCodes(folder / "again", "")
    quantizer = Quantizer(contents, curvature, TARGETS["fast"].states, kept)
    return Case(plan, quantizer, loaded, found.subject, text or found.text)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("tiny")
    save_file(begun(TINY, 3), folder / "m.safetensors", {"squeeze.config": TINY.to_json()})
    return case(folder / "m.safetensors", folder / "cache", 42_000, Calibration(tokens=4096), {})


@pytest.mark.parametrize(
    "text",
    [
        "mlp.fc=2.5bit",
        "mlp.proj=2bit,attn=x1.2",
        "*=x0.8",
        pytest.param("tok_emb=x0.8", marks=pytest.mark.slow),
        pytest.param("blocks.1=3bit", marks=pytest.mark.slow),
    ],
)
def test_bytes_and_cost_of_a_small_model_are_foreseen(tiny: Case, text: str) -> None:
    size, cost, _ = tiny.errors(text)
    assert abs(size) < BYTES and abs(cost) < COST, (size, cost)


# What a model writes itself stands in for real text the better, the better the model is: that of the
# small one costs 1.3 to 2.9 times as much as validation text, so it is calibrated on training text, and
# even then one plan of five was 33 % off.
ALLOWED = {"nolanvild_0.48M_fp32.pt": 0.35}
CHECKPOINTS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "nolanvild_0.48M_fp32.pt": (
        220_000,
        "shards",
        {"like": "baseline", "mlp_power": 3, "seq_len": 256},
    ),
    "reference_8.7M_fp32.safetensors": (3_800_000, "self", {"like": "baseline", "seq_len": 512}),
}


@pytest.fixture(scope="module", params=CHECKPOINTS)
def real(
    request: pytest.FixtureRequest, materials: Path, tmp_path_factory: pytest.TempPathFactory
) -> Case:
    """A checkpoint of the materials, judged on as many tokens of validation text as calibrate it."""
    limit, kind, fields = CHECKPOINTS[request.param]
    shards = materials / "fineweb"
    data = (str(shards / "fineweb_train_000000_sp1024_1M.bin"),) if kind == "shards" else ()
    ids = np.asarray(read_shard(shards / "fineweb_val_000003_sp1024_tail.bin")[:TOKENS])
    ids = ids.reshape(-1, fields["seq_len"])
    text = Sequences(ids, np.full(len(ids), fields["seq_len"], np.int32), "validation")
    made = case(
        materials / "checkpoints" / request.param, tmp_path_factory.mktemp("real"), limit,
        Calibration(kind, TOKENS, data=data), fields, text,
    )  # fmt: skip
    return replace(made, allowed=ALLOWED.get(request.param, COST))


def test_the_cost_of_more_bits_is_foreseen_from_a_file_of_few(
    materials: Path, tmp_path: Path
) -> None:
    """Coarser steps alone foresaw 1.7 times the cost of 1.2 bits from 0.6, and 6 times that of 2.4."""
    name = "nolanvild_0.48M_fp32.pt"
    shard = materials / "fineweb" / "fineweb_train_000000_sp1024_1M.bin"
    settings = Calibration("shards", 8192, data=(str(shard),))
    few, more = (
        pack_to(
            materials / "checkpoints" / name, limit, settings, tmp_path, **CHECKPOINTS[name][2]
        ).plan
        for limit in (35_000, 70_000)
    )
    assert few is not None and more is not None
    points = frontier(few)
    foreseen = np.interp(more.size, [p.size for p in points], [math.log(p.cost) for p in points])
    assert 0.7 < math.exp(foreseen) / more.in_bits(more.measured) < 1.4


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["mlp.fc=2.5bit", "attn=3bit,mlp=3bit", "tok_emb=int7", "*=x0.8", "mlp.proj=2.25bit"]
)
def test_bytes_and_cost_of_a_real_model_are_foreseen(real: Case, text: str) -> None:
    size, cost, bits = real.errors(text)
    print(f"{text}: bytes {size:+.4f}, cost {cost:+.3f}, {bits:+.5f} bits a token")
    assert abs(size) < BYTES
    assert abs(cost) < real.allowed or abs(bits) < SMALL, (cost, bits)
