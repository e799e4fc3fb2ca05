"""Every preset and option of the trainer can be scored, slid over, adapted and fed token by token."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from squeeze.score.adapt.by_chunk import score_chunks
from squeeze.score.adapt.by_document import LoraPredictor, score_lora
from squeeze.score.adapt.options import MODULES, ChunkOptions, LoraOptions, SgdOptions
from squeeze.score.plan import document_spans, sliding, spans
from squeeze.score.predictor import CachedPredictor
from squeeze.score.tokenizer import ByteTable, Text
from squeeze.score.window import score_plan
from squeeze.train.model.config import ModelConfig
from tests.scoring import BOS, nats_when_fed, repetitive_documents
from tests.tiny_models import EVERYTHING, NARROW, VOCAB, lively

TABLE = ByteTable(np.ones(VOCAB, np.int32), np.zeros(VOCAB, np.bool_), np.arange(VOCAB) == BOS)
TOKENS = repetitive_documents((19, 5, 33))
DOCUMENTS = document_spans(TOKENS, BOS)
OPTIONS = LoraOptions(chunk=8, length=16, rank=2, lr=0.02, targets=("head", *MODULES))


@pytest.mark.parametrize("config", EVERYTHING.values(), ids=EVERYTHING)
def test_context_read_cheaply_scores_as_whole_windows_do(config: ModelConfig) -> None:
    model, plan = lively(config), sliding(len(TOKENS) - 1, 16, 5)
    ids, nats = torch.from_numpy(TOKENS.astype(np.int64)), 0.0
    for start, first, stop in zip(plan.start, plan.first, plan.stop, strict=True):
        logits = model(ids[None, start:stop])[0, first - start :].double()
        chances = torch.log_softmax(logits, -1)
        nats -= float(chances.gather(1, ids[first + 1 : stop + 1, None]).sum())
    assert score_plan(model, Text(TOKENS, TABLE), plan).nats == pytest.approx(nats, rel=1e-5)


@pytest.mark.parametrize("config", EVERYTHING.values(), ids=EVERYTHING)
def test_fed_documents_score_as_read_ones(config: ModelConfig) -> None:
    model, plan = lively(config), spans(*DOCUMENTS, 16, 5)
    nats = nats_when_fed(CachedPredictor(model, 16, 5), TOKENS, DOCUMENTS)
    assert score_plan(model, Text(TOKENS, TABLE), plan).nats == pytest.approx(nats.sum(), rel=1e-5)


@pytest.mark.parametrize("config", NARROW.values(), ids=NARROW)
def test_every_preset_adapts_and_does_so_alike_when_fed(config: ModelConfig) -> None:
    model = lively(config)
    adapted, _ = score_lora(model, Text(TOKENS, TABLE), DOCUMENTS, OPTIONS)
    still, _ = score_lora(model, Text(TOKENS, TABLE), DOCUMENTS, replace(OPTIONS, lr=0.0))
    nats = nats_when_fed(LoraPredictor(model, OPTIONS), TOKENS, DOCUMENTS)
    assert adapted.nats + adapted.end_nats == pytest.approx(nats.sum(), rel=1e-4)
    assert adapted.nats != pytest.approx(still.nats, rel=1e-4)


@pytest.mark.parametrize("config", NARROW.values(), ids=NARROW)
def test_every_preset_trains_between_chunks(config: ModelConfig) -> None:
    model = lively(config)
    options = ChunkOptions(16, 16, SgdOptions(chunk=16, lr=0.02))
    plain = score_plan(model, Text(TOKENS, TABLE), sliding(len(TOKENS) - 1, 16, 16))
    score, ledger = score_chunks(model, Text(TOKENS, TABLE), options)
    assert ledger.check()["updates"] == 3
    assert score.nats != pytest.approx(plain.nats, rel=1e-6)
