"""Phased test-time training: a LoRA per document, and pauses to train all weights (#1610, #1855).

Batches of documents are scored as `squeeze.score.adapt.by_document` does, the longest first, with a
first LoRA factor that is kept from batch to batch (#1767). Each time another part of the first
`documents` documents has been scored, scoring pauses and all weights take steps of SGD on every
document scored so far. State crosses documents by design.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field

import numpy as np

from squeeze.errors import BadConfig
from squeeze.ranks.group import Ranks
from squeeze.score.adapt.by_document import DocumentRun, LoraPredictor
from squeeze.score.adapt.lora import LoraBank, LoraOptions, check_range
from squeeze.score.adapt.order import OrderLedger
from squeeze.score.adapt.sgd import Sgd, SgdOptions
from squeeze.score.plan import Int64, document_batches, spans
from squeeze.score.predictor import Float32
from squeeze.score.tokenizer import ByteTable, Tokens
from squeeze.score.window import Progress, Score, checked_score, count_targets
from squeeze.train.model.gpt import GPT

LORA = LoraOptions(
    chunk=48,
    length=2048,
    rank=80,
    alpha=144.0,
    targets=("head", "c_q", "c_k", "c_v", "attn", "mlp"),
    lr=1e-4,
    beta1=0.0,
    beta2=0.99,
    eps=1e-10,
    weight_decay=0.5,
    keep_a=True,
)


@dataclass(frozen=True)
class PhasedOptions:
    """#1855's values. documents: how many are trained on at most; phases: in how many parts."""

    lora: LoraOptions = LORA
    sgd: SgdOptions = field(default_factory=lambda: SgdOptions(lr=0.001, epochs=1))
    documents: int = 2500
    phases: int = 3

    def __post_init__(self) -> None:
        check_range("documents", self.documents, 0, 1 << 30)
        check_range("phases", self.phases, 1, 1000)


class Pauses:
    """When to pause, and what to do then. `documents`: how many the whole evaluation has."""

    def __init__(self, model: GPT, options: PhasedOptions, documents: int) -> None:
        self.model, self.options = model, options
        prefix = min(options.documents, documents)
        edges = (prefix * (phase + 1) // options.phases for phase in range(options.phases))
        self.edges = [edge for edge in edges if edge]  # documents scored at each pause

    def due(self, scored: int) -> int:
        """Documents to train on now that `scored` have been scored; 0: no pause."""
        passed = [edge for edge in self.edges if edge <= scored]
        self.edges = self.edges[len(passed) :]
        return passed[-1] if passed else 0

    def train_(self, documents: list[Int64]) -> None:
        """Steps of SGD on documents int64 [n] each, one after another, every chunk but the last."""
        sizes = np.array([len(document) for document in documents])
        plan = spans(
            np.cumsum(sizes) - sizes, sizes - 1, self.options.lora.length, self.options.lora.length
        )
        plan = plan.cut(self.options.sgd.chunk).without_context()
        text, chunk_of = np.concatenate(documents), plan.first // self.options.sgd.chunk
        chunks, sgd = self.options.sgd.chunks(len(text)), Sgd(self.model, self.options.sgd)
        for chunk in range(chunks - 1):
            part = plan.select(chunk_of == chunk)
            if len(part):
                sgd.learn_(text, part, self.options.sgd.rate(chunk, chunks))


def score_phased(
    model: GPT,
    tokens: Tokens,
    table: ByteTable,
    documents: tuple[Int64, Int64],
    options: PhasedOptions | None = None,
    on_progress: Progress | None = None,
) -> tuple[Score, OrderLedger]:
    """Score documents (`plan.document_spans`) of tokens uint16 [n] with a copy of the model.

    Raises as `score_lora`, and BadConfig under several ranks: each batch needs the one before.
    """
    options = options or PhasedOptions()
    world = Ranks.current().world
    if world > 1:
        raise BadConfig("phased training is one process", found=f"{world} ranks")
    plan = spans(*documents, options.lora.length, options.lora.length)
    num_bytes, ends = count_targets(model.config, tokens, table, plan, model.config.bos_id)
    started = time.perf_counter()
    model = copy.deepcopy(model)
    run = DocumentRun(model, tokens, documents, options.lora)
    pauses = Pauses(model, options, len(documents[0]))
    bank, scored = LoraBank(model, options.lora, 0), np.zeros(0, np.int64)
    for rows in document_batches(documents[1], options.lora.batch):
        bank = LoraBank(model, options.lora, len(rows), bank if options.lora.keep_a else None)
        run.score(rows, bank, on_progress, plan.outputs)
        scored = np.append(scored, rows)
        if count := pauses.due(len(scored)):
            read = [documents[0][row] + np.arange(documents[1][row]) for row in scored[:count]]
            run.ledger.use(np.concatenate(read))
            pauses.train_([tokens[at].astype(np.int64) for at in read])
    run.ledger.check()
    nats, end_nats = run.sums.tolist()
    seconds = time.perf_counter() - started
    return checked_score(nats, plan.outputs, num_bytes, seconds, ends, end_nats), run.ledger


class PhasedPredictor(LoraPredictor):
    """`score_phased` fed token by token, batches in its order (`plan.document_batches`).

    documents: how many there are in all, since the pauses depend on it.
    """

    def __init__(self, model: GPT, documents: int, options: PhasedOptions | None = None) -> None:
        options = options or PhasedOptions()
        super().__init__(copy.deepcopy(model), options.lora)
        self._pauses = Pauses(self._model, options, documents)
        self._scored: list[Int64] = []
        self._sizes = np.zeros(0, np.int64)  # tokens fed of the running documents

    def start(self, batch: int) -> None:
        if self._fed:
            fed = self._tokens(0, len(self._fed))
            self._scored += [row[:size] for row, size in zip(fed, self._sizes, strict=True)]
            if count := self._pauses.due(len(self._scored)):
                self._pauses.train_(self._scored[:count])
        self._sizes = np.zeros(batch, np.int64)
        super().start(batch)

    def next(self, tokens: Int64) -> Float32:
        logits = super().next(tokens)
        self._sizes += ~self._ended
        return logits
