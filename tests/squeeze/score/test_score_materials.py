"""Real checkpoints on real text: what sliding and adapting are said to gain, they gain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from squeeze.score.evaluate import EvalOptions, evaluate
from squeeze.score.modes import Mode
from squeeze.score.report import EvalReport

TRAINED = [
    ("nolanvild_0.48M_fp32.pt", 256, 3),
    ("nolanvild_0.48M.int8.ptz", 256, 3),
    ("samtruss_7.6M_65176d11.int8.ptz", 512, 2),
    ("reference_8.7M_fp32.safetensors", 512, 2),
]


def score(materials: Path, name: str, length: int, power: int, options: EvalOptions) -> EvalReport:
    architecture = {"like": "baseline", "seq_len": length, "mlp_power": power}
    return evaluate(
        materials / "checkpoints" / name,
        materials / "tokenizers" / "sp1024_official.model",
        [materials / "fineweb" / "fineweb_val_000003_sp1024_tail.bin"],
        replace(options, architecture=architecture),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "length", "power"), TRAINED)
def test_sliding_improves_every_trained_checkpoint(
    materials: Path, name: str, length: int, power: int
) -> None:
    plain, slid, whole = (
        score(materials, name, length, power, EvalOptions(mode, tokens=4096))
        for mode in (Mode(), Mode("sliding"), Mode("sliding", stride=length))
    )
    assert slid.bpb < plain.bpb
    assert (slid.tokens, slid.bytes) == (plain.tokens, plain.bytes)
    assert (whole.nats, whole.tokens) == (plain.nats, plain.tokens)


@pytest.mark.slow
def test_lora_improves_a_checkpoint_on_real_documents_in_legal_order(materials: Path) -> None:
    name, length, power = TRAINED[0]
    lora = Mode("ttt-lora", settings={"chunk": "64"})
    plain, adapted = (
        score(materials, name, length, power, EvalOptions(mode, documents=12, seed=1))
        for mode in (Mode("documents"), lora)
    )
    # although the plain score slides, and this does not
    assert adapted.bpb < plain.bpb - 0.03
    assert (adapted.tokens, adapted.bytes) == (plain.tokens, plain.bytes)
    order = adapted.order
    assert order is not None
    assert order["updates"] > 20 and 0 < order["used"] < order["scored"] + order["given"]
