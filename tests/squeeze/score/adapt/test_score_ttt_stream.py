"""Training all weights between chunks and between batches of documents: order, limits, equality."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from squeeze.errors import BadConfig, RuleBroken
from squeeze.score.adapt.by_chunk import ChunkPredictor, score_chunks
from squeeze.score.adapt.options import ChunkOptions, LoraOptions, PhasedOptions, SgdOptions
from squeeze.score.adapt.order import OrderLedger
from squeeze.score.adapt.phased import PhasedPredictor, score_phased
from squeeze.score.adapt.sgd import Sgd
from squeeze.score.plan import document_spans, sliding
from squeeze.score.tokenizer import Text
from squeeze.score.window import score_plan
from tests.scoring import BOS, TABLE, nats_when_fed, random_model, repetitive_documents

CHUNKED = ChunkOptions(length=16, stride=5, sgd=SgdOptions(chunk=32, lr=0.02))
PHASED = PhasedOptions(
    LoraOptions(
        chunk=4,
        length=16,
        rank=2,
        alpha=3.0,
        lr=0.02,
        beta1=0.0,
        batch=3,
        keep_a=True,
        targets=("head", "c_q", "attn", "mlp"),
        weight_decay=0.1,
    ),
    SgdOptions(chunk=16, lr=0.02, epochs=2),
    documents=6,
    phases=2,
)
TOKENS = repetitive_documents((23, 4, 1, 40, 9, 30, 5, 12, 17))
DOCUMENTS = document_spans(TOKENS, BOS)


def stream(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(1, np.int64), np.array([len(tokens) - 1])


def test_chunk_training_fed_token_by_token_gives_the_same_score() -> None:
    score, _ = score_chunks(random_model(), Text(TOKENS, TABLE), CHUNKED)
    predictor = ChunkPredictor(random_model(), len(TOKENS) - 1, CHUNKED)
    nats = nats_when_fed(predictor, TOKENS, stream(TOKENS))
    assert score.tokens == len(TOKENS) - 1 and score.ends == 0
    assert score.nats == pytest.approx(nats.sum(), rel=1e-5)


def test_phased_training_fed_token_by_token_gives_the_same_score() -> None:
    score, _ = score_phased(random_model(), Text(TOKENS, TABLE), DOCUMENTS, PHASED)
    predictor = PhasedPredictor(random_model(), len(DOCUMENTS[0]), PHASED)
    nats = nats_when_fed(predictor, TOKENS, DOCUMENTS, PHASED.lora.batch)
    ends = TOKENS == BOS
    assert score.nats == pytest.approx(nats[~ends].sum(), rel=1e-5)
    assert score.end_nats == pytest.approx(nats[ends].sum(), rel=1e-5)


def test_training_on_the_stream_lowers_the_loss_and_leaves_the_model_alone() -> None:
    model = random_model()
    before = copy.deepcopy(model.state_dict())
    tokens = repetitive_documents((300,))
    plain = score_plan(model, Text(tokens, TABLE), sliding(len(tokens) - 1, 16, 5))
    score, _ = score_chunks(model, Text(tokens, TABLE), CHUNKED)
    assert score.nats < plain.nats - 10
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_without_epochs_chunk_scoring_is_sliding() -> None:
    still = replace(CHUNKED, sgd=replace(CHUNKED.sgd, epochs=0))
    plain = score_plan(random_model(), Text(TOKENS, TABLE), sliding(len(TOKENS) - 1, 16, 5))
    score, _ = score_chunks(random_model(), Text(TOKENS, TABLE), still)
    assert score.nats == pytest.approx(plain.nats, rel=1e-6)
    assert (score.tokens, score.bytes) == (plain.tokens, plain.bytes)


def test_every_chunk_but_the_last_is_used_after_it_was_scored() -> None:
    _, ledger = score_chunks(random_model(), Text(TOKENS, TABLE), CHUNKED)
    facts, chunks = ledger.check(), -(-(len(TOKENS) - 1) // 32)
    assert facts["updates"] == chunks - 1 and facts["scored"] == len(TOKENS) - 1
    trained = (chunks - 1) * 32
    assert ledger.used_at[: trained + 1].all() and not ledger.used_at[trained + 1 :].any()


def test_the_steps_fall_to_zero_on_a_cosine() -> None:
    options = SgdOptions(lr=0.4)
    assert [options.rate(c, 5) for c in (0, 2, 4)] == pytest.approx([0.4, 0.2, 0.0])
    assert options.rate(0, 1) == 0.4


def test_a_step_does_not_depend_on_how_it_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    models = []
    for room in (1 << 20, 16):
        monkeypatch.setattr("squeeze.score.adapt.sgd.batch_outputs", lambda model, room=room: room)
        model = random_model()
        Sgd(model, SgdOptions(epochs=2)).learn_(TOKENS, sliding(100, 16, 16), 0.1)
        models.append(model.state_dict())
    for name, weight in models[0].items():
        torch.testing.assert_close(weight, models[1][name], rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped() -> None:
    model, still = random_model(), random_model().state_dict()
    Sgd(model, SgdOptions(epochs=1, clip=1e-3)).learn_(TOKENS, sliding(64, 16, 16), 1.0)
    moved = sum(float((w - still[n]).square().sum()) for n, w in model.state_dict().items()) ** 0.5
    assert moved == pytest.approx(1e-3, rel=1e-2)


def test_pauses_come_after_each_part_of_the_documents_and_use_only_scored_ones() -> None:
    _, ledger = score_phased(random_model(), Text(TOKENS, TABLE), DOCUMENTS, PHASED)
    facts = ledger.check()
    assert facts["scored"] == len(TOKENS) - 1 and facts["given"] == 9
    never = replace(PHASED, documents=0)
    _, plain = score_phased(random_model(), Text(TOKENS, TABLE), DOCUMENTS, never)
    assert facts["updates"] - plain.check()["updates"] == 2


def test_a_kept_first_factor_and_pauses_change_later_documents_only() -> None:
    first = document_spans(repetitive_documents((40, 30, 23)), BOS)
    assert first[1].max() == 41
    runs = [
        PHASED,
        replace(PHASED, documents=0),
        replace(PHASED, documents=0, lora=replace(PHASED.lora, keep_a=False)),
    ]
    nats = [
        nats_when_fed(PhasedPredictor(random_model(), 9, run), TOKENS, DOCUMENTS, 3) for run in runs
    ]
    longest = np.argsort(-DOCUMENTS[1], kind="stable")
    batches = [
        np.concatenate(
            [DOCUMENTS[0][d] + 1 + np.arange(DOCUMENTS[1][d]) for d in longest[i : i + 3]]
        )
        for i in (0, 3)
    ]
    for other in nats[1:]:
        assert np.array_equal(nats[0][batches[0]], other[batches[0]])
        assert not np.array_equal(nats[0][batches[1]], other[batches[1]])
    assert not np.array_equal(nats[1][batches[1]], nats[2][batches[1]])


def test_training_on_documents_not_yet_scored_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    use = OrderLedger.use

    def greedy(ledger: OrderLedger, positions: np.ndarray) -> None:
        use(ledger, positions if len(positions) < 60 else np.arange(len(TOKENS) - 1))

    monkeypatch.setattr(OrderLedger, "use", greedy)
    with pytest.raises(RuleBroken, match="used a token before scoring it"):
        score_phased(random_model(), Text(TOKENS, TABLE), DOCUMENTS, PHASED)


def test_a_chunk_predictor_reads_one_stream_once() -> None:
    with pytest.raises(BadConfig, match="one stream, begun once"):
        ChunkPredictor(random_model(), 10, CHUNKED).start(2)
    predictor = ChunkPredictor(random_model(), 10, CHUNKED)
    predictor.start(1)
    with pytest.raises(BadConfig, match="one stream, begun once"):
        predictor.start(1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SgdOptions(chunk=0),
        lambda: SgdOptions(epochs=-1),
        lambda: PhasedOptions(phases=0),
        lambda: PhasedOptions(documents=-1),
    ],
)
def test_options_out_of_range_are_refused(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadConfig, match="test-time"):
        make()
