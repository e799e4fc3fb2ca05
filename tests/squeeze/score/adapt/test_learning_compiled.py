"""Test-time training is compiled where scoring is: one graph for chunks of any length, one score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from squeeze.reporter import SILENT
from squeeze.score import compiled
from squeeze.score.modes import Mode
from squeeze.score.plan import document_spans
from squeeze.score.tokenizer import Text
from squeeze.score.window import Score
from squeeze.train.model.config import ModelConfig
from squeeze.train.run.trainer import compilations
from tests.scoring import BOS, CONFIG, TABLE, random_model, repetitive_documents
from tests.tiny_models import NARROW

# a batch of one document, last chunks of 1 to 4 targets, windows that grow and then move
LENGTHS = (23, 4, 1, 40, 9, 30, 5, 12, 17, 2)
SETTINGS = {
    "ttt-lora": {"chunk": "4", "batch": "3", "targets": "head,c_q,c_k,c_v,attn,mlp"},
    "ttt-chunk": {"chunk": "30"},
    "ttt-phased": {"chunk": "4", "batch": "3", "documents": "9", "sgd_chunk": "20", "phases": "2"},
}
FAST = ("plain", "ttt-lora")
ONCE = {"ttt-lora": 1, "ttt-chunk": 1, "ttt-phased": 2}  # graphs: LoRA's, SGD's


def score_of(config: ModelConfig, name: str) -> Score:
    tokens = repetitive_documents(LENGTHS)
    mode = Mode(name, settings=SETTINGS[name])
    scoring = mode.scoring(random_model(config, 0.1))
    return scoring.score(Text(tokens, TABLE), document_spans(tokens, BOS), None, SILENT)[0]


@pytest.fixture
def compile_on_cpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def compile_with(backend: str) -> None:
        torch.compiler.set_stance("default")
        monkeypatch.setattr(compiled, "DEVICES", ("cpu",))
        monkeypatch.setattr(compiled, "OFTEN", 2)
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
        torch._dynamo.reset()

    return compile_with


def check_graphs(config: ModelConfig, name: str, compile_with: Callable[[], None]) -> None:
    plain = score_of(config, name)
    compile_with()
    before = compilations()
    assert score_of(config, name).nats == pytest.approx(plain.nats, rel=1e-6)
    assert compilations() - before == ONCE[name]
    score_of(config, name)
    assert compilations() - before == ONCE[name]


def small(name: str, **options: Any) -> ModelConfig:
    return replace(NARROW[name], vocab_size=50, bos_id=BOS, seq_len=16, **options)


CONFIGS = {
    "plain": replace(CONFIG, num_layers=1),
    "record-1204": small("record-1204", rope_length=8),
    "record-1493": small("record-1493"),
    "record-1855": small("record-1855"),
    "window": replace(CONFIG, num_layers=1, attention_window=5),
}


@pytest.mark.parametrize(
    ("config", "name"),
    [
        pytest.param(config, name, marks=() if (config, name) == FAST else pytest.mark.slow)
        for config in CONFIGS
        for name in SETTINGS
    ],
)
def test_learning_is_one_graph_over_chunks_of_any_length(
    config: str, name: str, compile_on_cpu: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squeeze.score.adapt.by_chunk.compiled_states", lambda *_: lambda ids: None)
    check_graphs(CONFIGS[config], name, partial(compile_on_cpu, "eager"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_kernels_that_learn_give_the_score(
    name: str, compile_on_cpu: Callable[[str], None]
) -> None:
    plain = score_of(CONFIGS["plain"], name)
    compile_on_cpu("inductor")
    assert score_of(CONFIGS["plain"], name).nats == pytest.approx(plain.nats, rel=1e-6)
