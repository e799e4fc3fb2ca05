"""Scores and statistics in TF32 and bfloat16, and forwards that are compiled, next to plain float32."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from squeeze.checkpoint.live import open_model
from squeeze.errors import BadConfig
from squeeze.packing.calibrate import Calibration, calibrate
from squeeze.reporter import SILENT
from squeeze.score import compiled
from squeeze.score.evaluate import EvalOptions
from squeeze.score.modes import MODES, Mode
from squeeze.score.plan import document_spans, sliding
from squeeze.score.tokenizer import Text
from squeeze.score.window import Score, score_plan
from squeeze.subject.precision import computing_in
from squeeze.subject.workpiece import Workpiece
from squeeze.train.model.gpt import GPT
from squeeze.train.run.trainer import compilations
from tests.scoring import BOS, CONFIG, TABLE, random_model, repetitive_documents
from tests.tiny_models import NARROW

CPU = torch.device("cpu")
SETTINGS = {"ttt-lora": {"chunk": "4"}, "ttt-chunk": {"chunk": "32"}, "ttt-phased": {"chunk": "4"}}
TEXT = Text(repetitive_documents((23, 4, 1, 40, 9, 30, 5, 12, 17)), TABLE)


def score_in(precision: str, name: str) -> Score:
    mode = Mode(name, settings=SETTINGS.get(name, {}))
    documents = document_spans(TEXT.tokens, BOS)
    with computing_in(precision, CPU):
        return mode.scoring(random_model()).score(TEXT, documents, None, SILENT)[0]


@pytest.mark.parametrize("mode", MODES)
def test_bfloat16_is_near_and_tf32_is_float32_on_a_cpu(mode: str) -> None:
    plain, half = score_in("fp32", mode).nats, score_in("bf16", mode).nats
    assert half != plain and half == pytest.approx(plain, rel=0.02)
    if mode == "window":
        assert score_in("tf32", mode).nats == plain


def test_arithmetic_is_as_it_was_after_an_error() -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(ZeroDivisionError), computing_in("tf32", CPU):
        assert torch.get_float32_matmul_precision() == "high"
        1 // 0  # noqa: B018
    assert torch.get_float32_matmul_precision() == before
    for refused in (EvalOptions, Calibration):
        with pytest.raises(BadConfig, match="fp32, tf32, bf16"):
            refused(precision="fp8")


def test_statistics_in_bfloat16_are_near_and_kept_apart(tmp_path: Path) -> None:
    torch.manual_seed(0)
    piece = Workpiece.of(open_model(GPT(CONFIG), None, None, False))
    text = np.random.default_rng(0).integers(0, 50, 256).astype(np.uint16)
    settings = Calibration("tokens", ids=text)
    plain = calibrate(piece, settings, tmp_path)
    half = calibrate(piece, replace(settings, precision="bf16"), tmp_path)
    for name, matrix in plain.hessians.matrices.items():
        other = half.hessians.matrices[name]
        assert other.dtype == np.float32
        away = np.linalg.norm(other - matrix) / np.linalg.norm(matrix)
        assert away < 0.02, name
    assert any(
        not np.array_equal(matrix, half.hessians.matrices[name])
        for name, matrix in plain.hessians.matrices.items()
    )
    written = calibrate(piece, Calibration(tokens=64, precision="bf16"), tmp_path)
    assert written.text.tokens >= 64


@pytest.mark.parametrize("name", ["baseline", pytest.param("record-1855", marks=pytest.mark.slow)])
def test_a_compiled_forward_is_one_graph_a_width_and_gives_the_score(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.compiler.set_stance("default")
    model = random_model(replace(NARROW[name], vocab_size=50), 0.1)
    plan = sliding(len(TEXT.tokens) - 1, 16, 8)
    plain = score_plan(model, TEXT, plan, 4)
    monkeypatch.setattr(compiled, "DEVICES", ("cpu",))
    monkeypatch.setattr(compiled, "OFTEN", 2)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))
    torch._dynamo.reset()
    before = compilations()
    assert score_plan(model, TEXT, plan, 4).nats == pytest.approx(plain.nats, rel=1e-6)
    assert compilations() - before == 1
