"""LoRA per document: legal order, isolated documents, and the same score token by token."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from squeeze.errors import BadConfig, RuleBroken
from squeeze.score.adapt.by_document import DocumentRun, LoraPredictor, score_lora
from squeeze.score.adapt.lora import LoraBank, Targets
from squeeze.score.adapt.options import LoraOptions
from squeeze.score.adapt.order import OrderLedger
from squeeze.score.plan import document_plan, document_spans
from squeeze.score.tokenizer import Text
from squeeze.score.window import Score, score_plan
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from tests.recorder import Recorder
from tests.scoring import BOS, CONFIG, TABLE, nats_when_fed, random_model, repetitive_documents

LOOPED = replace(CONFIG, layer_schedule=(0, 1, 2, 1, 2), smear_gate="channels", xsa_layers=2)
OPTIONS = LoraOptions(chunk=4, length=16, rank=2, lr=0.05, batch=3)
EVERYWHERE = replace(OPTIONS, targets=("head", "c_q", "c_k", "c_v", "attn", "mlp"), alpha=3.0)


def documents(lengths: tuple[int, ...] = (23, 4, 1, 40, 9, 30, 5)) -> np.ndarray:
    return repetitive_documents(lengths)


def lora(tokens: np.ndarray, options: LoraOptions = OPTIONS, gpt: GPT | None = None) -> Score:
    return score_lora(
        gpt or random_model(), Text(tokens, TABLE), document_spans(tokens, BOS), options
    )[0]


def fed(tokens: np.ndarray, options: LoraOptions = OPTIONS, gpt: GPT | None = None) -> np.ndarray:
    """Nats of every target, documents fed side by side through a predictor."""
    predictor = LoraPredictor(gpt or random_model(), options)
    return nats_when_fed(predictor, tokens, document_spans(tokens, BOS))


@pytest.mark.parametrize("config", [CONFIG, LOOPED])
@pytest.mark.parametrize("options", [OPTIONS, EVERYWHERE, replace(OPTIONS, length=4)])
def test_fed_token_by_token_it_gives_the_same_score(
    config: ModelConfig, options: LoraOptions
) -> None:
    tokens = documents()
    score = lora(tokens, options, random_model(config))
    nats = fed(tokens, options, random_model(config))
    ends = tokens == BOS
    assert score.nats == pytest.approx(nats[~ends].sum(), rel=1e-5)
    assert score.end_nats == pytest.approx(nats[ends].sum(), rel=1e-5)


def test_learning_from_repetition_lowers_the_loss() -> None:
    tokens = documents()
    plan = document_plan(document_spans(tokens, BOS), 16, 4, BOS)
    plain = score_plan(random_model(), Text(tokens, TABLE), plan)
    assert lora(tokens).nats < plain.nats - 1.0


def test_without_a_step_size_it_is_the_unadapted_model() -> None:
    tokens = documents(lengths=(16, 9, 3))
    plan = document_plan(document_spans(tokens, BOS), 16, 16, BOS)
    plain = score_plan(random_model(), Text(tokens, TABLE), plan)
    still = lora(tokens, replace(OPTIONS, lr=0.0))
    assert still.nats == pytest.approx(plain.nats, rel=1e-6)
    assert (still.tokens, still.bytes, still.ends) == (plain.tokens, plain.bytes, plain.ends)


def test_a_document_is_scored_alike_in_any_company() -> None:
    tokens = documents()
    begin, outputs = document_spans(tokens, BOS)
    alone = [
        score_lora(random_model(), Text(tokens, TABLE), (begin[[d]], outputs[[d]]), OPTIONS)[0]
        for d in range(len(begin))
        if outputs[d] > 1
    ]
    assert sum(s.nats for s in alone) == pytest.approx(lora(tokens).nats, rel=1e-5)


def test_no_token_after_a_prediction_reaches_it() -> None:
    tokens = documents(lengths=(30, 30))
    changed = tokens.copy()
    changed[20:30] = 3 + changed[20:30] % 40  # inside the first document
    before, after = (fed(t) for t in (tokens, changed))
    assert np.array_equal(before[:20], after[:20])
    assert np.array_equal(before[32:], after[32:])
    assert not np.array_equal(before[21:31], after[21:31])
    scores = [lora(t[:21]).nats for t in (tokens, changed)]  # targets up to position 20
    assert scores[0] != scores[1] and before[:20].sum() == after[:20].sum()


def test_the_ledger_of_a_run_is_legal_and_complete() -> None:
    tokens = documents()
    _, ledger = score_lora(
        random_model(), Text(tokens, TABLE), document_spans(tokens, BOS), OPTIONS
    )
    facts = ledger.check()
    assert facts["scored"] == len(tokens) - 1 and facts["given"] == 7
    assert facts["updates"] > 10
    last_chunk = (40 // 4) * 4  # of the document of 40 tokens and a BOS
    begin = document_spans(tokens, BOS)[0][3]
    assert ledger.used_at[begin : begin + last_chunk + 1].all()
    assert not ledger.used_at[begin + last_chunk + 1 : begin + 41].any()


def test_training_on_a_chunk_before_scoring_it_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[np.ndarray] = []

    def late(ledger: OrderLedger, positions: np.ndarray) -> None:
        notes.append(positions)
        if len(notes) > 1:
            score(ledger, notes.pop(0))

    score = OrderLedger.score
    monkeypatch.setattr(OrderLedger, "score", late)  # a chunk's scores are kept back by one chunk
    tokens = documents(lengths=(20,))
    with pytest.raises(RuleBroken, match=r"used a token before scoring it.*token 1 used at tick 1"):
        lora(tokens)


def test_a_window_that_reaches_into_the_next_chunk_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use = OrderLedger.use
    monkeypatch.setattr(OrderLedger, "use", lambda self, at: use(self, np.append(at, at[-1] + 1)))
    with pytest.raises(RuleBroken, match="token 5 used at tick 2, scored at tick 3"):
        lora(documents(lengths=(20,)))


def test_documents_do_not_feel_each_others_steps() -> None:
    gpt, ids = random_model(), torch.randint(2, 50, (2, 8))
    targets = torch.randint(2, 50, (2, 4))
    banks = [LoraBank(Targets(gpt, OPTIONS), 2) for _ in range(2)]
    for bank, learning in zip(banks, ([True, False], [True, True]), strict=True):
        with bank.attached():
            bank.losses(ids, targets, torch.tensor(learning))
        bank.step_()
    for name in banks[0].factors:
        for one, both in zip(banks[0].factors[name], banks[1].factors[name], strict=True):
            assert torch.equal(one[0], both[0])
    assert banks[0].factors["head"][1][0].abs().max() > 0
    assert banks[0].factors["head"][1][1].abs().max() == 0


def test_a_step_does_not_depend_on_how_many_documents_pass_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = lora(documents()).nats
    monkeypatch.setattr("squeeze.score.adapt.lora.CPU_ROOM", 16)
    assert lora(documents()).nats == pytest.approx(whole, rel=1e-6)


def test_the_model_is_left_as_it_was() -> None:
    gpt, tokens = random_model(), documents()
    before = {name: weight.clone() for name, weight in gpt.state_dict().items()}
    lora(tokens, gpt=gpt)
    assert all(torch.equal(weight, before[name]) for name, weight in gpt.state_dict().items())
    assert all(weight.grad is None for weight in gpt.parameters())
    hooks = [module for module in gpt.modules() if module._forward_hooks]
    assert not hooks


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"chunk": 0}, "chunk; expected 1 to"),
        ({"rank": 10**9}, "rank"),
        ({"lr": math.nan}, "lr; expected 0 to 1000, found nan"),
        ({"beta2": 1.0}, "beta2"),
        ({"chunk": 32}, "chunk; expected ≤ the length, 16"),
        ({"targets": ("c_q", "tail")}, "found.*tail"),
        ({"targets": ()}, "targets"),
    ],
)
def test_options_out_of_range_are_refused(fields: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(BadConfig, match=message):
        replace(OPTIONS, **fields)


def test_a_factor_that_outlives_its_document_is_refused() -> None:
    with pytest.raises(BadConfig, match="Use ttt-phased"):
        lora(documents(), replace(OPTIONS, keep_a=True))


def test_the_run_counts_each_document_end_apart() -> None:
    tokens = documents()
    run = DocumentRun(random_model(), tokens, document_spans(tokens, BOS), OPTIONS)
    recorder = Recorder()
    with recorder.stage("scoring") as stage:
        run.score(np.arange(7), LoraBank(Targets(random_model(), OPTIONS), 7), stage)
    assert sum(recorder.stages[0].counts) == len(tokens) - 1
    assert math.isfinite(run.sums[1]) and run.sums[1] > 0
