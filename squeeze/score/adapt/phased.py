"""Phased test-time training: a LoRA per document, and pauses to train all weights (#1610, #1855).

Batches of documents are scored as in `squeeze.score.adapt.by_document`, the longest first, with a
first LoRA factor that is kept from batch to batch (#1767). Each time another part of the first
`documents` documents has been scored, scoring pauses and all weights take steps of SGD on every
document scored so far. State crosses documents by design.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from squeeze.ranks.group import Ranks
from squeeze.reporter import SILENT, Reporter
from squeeze.score.adapt.by_document import DocumentRun, LoraPredictor, forwards
from squeeze.score.adapt.lora import LoraBank, Targets
from squeeze.score.adapt.options import PhasedOptions
from squeeze.score.adapt.order import OrderLedger
from squeeze.score.adapt.sgd import Sgd
from squeeze.score.compiled import pays
from squeeze.score.plan import Documents, Int64, document_batches, document_plan, spans
from squeeze.score.predictor import Extent, Float32
from squeeze.score.tokenizer import Text
from squeeze.score.window import Score, checked_score, count_targets
from squeeze.train.model.gpt import GPT

SHARES = 8  # parts of a batch, which up to so many ranks share evenly


@dataclass(frozen=True)
class PhasedScoring:
    """Scoring of documents that adapts to each, with pauses to train; the mode `ttt-phased`."""

    model: GPT
    options: PhasedOptions

    def score(
        self, text: Text, documents: Documents, batch: int | None, reporter: Reporter
    ) -> tuple[Score, OrderLedger]:
        """Score the documents; see `squeeze.score.modes.Scoring`."""
        return score_phased(self.model, text, documents, self.options, reporter)

    def predictor(self, extent: Extent) -> PhasedPredictor:
        """Return the predictor that scores the same token by token, in batches of the extent's size."""
        lora = replace(self.options.lora, batch=extent.batch)
        return PhasedPredictor(self.model, extent.documents, replace(self.options, lora=lora))


class Pauses:
    """The pauses of an evaluation of so many documents, and the training in them.

    compiled: whether training may be compiled
    """

    def __init__(
        self, model: GPT, options: PhasedOptions, documents: int, compiled: bool = False
    ) -> None:
        self.model, self.options, self.compiled = model, options, compiled
        prefix = min(options.documents, documents)
        edges = (prefix * (phase + 1) // options.phases for phase in range(options.phases))
        self.edges = [edge for edge in edges if edge]  # documents scored at each pause

    def due(self, scored: int) -> int:
        """Return the number of documents to train on after `scored` of them; 0: no pause."""
        passed = [edge for edge in self.edges if edge <= scored]
        self.edges = self.edges[len(passed) :]
        return passed[-1] if passed else 0

    def train_(self, documents: list[Int64]) -> None:
        """Take steps of SGD on documents int64 [n] laid end to end, on every chunk but the last."""
        sizes = np.array([len(document) for document in documents])
        plan = spans(
            np.cumsum(sizes) - sizes, sizes - 1, self.options.lora.length, self.options.lora.length
        )
        plan = plan.cut(self.options.sgd.chunk).without_context()
        text, chunk_of = np.concatenate(documents), plan.first // self.options.sgd.chunk
        chunks = self.options.sgd.chunks(len(text))
        compiled = self.compiled and pays(self.model, chunks * self.options.sgd.epochs)
        sgd = Sgd(self.model, self.options.sgd, compiled)
        for chunk in range(chunks - 1):
            part = plan.select(chunk_of == chunk)
            if len(part):
                sgd.learn_(text, part, self.options.sgd.rate(chunk, chunks))


def score_phased(
    model: GPT,
    text: Text,
    documents: Documents,
    options: PhasedOptions,
    reporter: Reporter = SILENT,
) -> tuple[Score, OrderLedger]:
    """Score documents with a copy of the model; return the score, and the ledger of learning.

    The documents of each batch are shared by the ranks of torch.distributed, each of which trains alike
    in the pauses; score and ledger are those of all. A SHARES-th of a batch passes at a time, on any
    number of ranks, so that products have the same shapes and sums the same order.

    reporter: counts the targets of this rank

    Raises as `score_lora`.
    """
    ranks = Ranks.current()
    tokens, length = text.tokens, options.lora.length
    plan = document_plan(documents, length, length, model.config.bos_id)
    num_bytes, ends = count_targets(model.config, text, plan)
    started = time.perf_counter()
    model = copy.deepcopy(model)
    together = -(-options.lora.batch // SHARES)
    most = -(-options.lora.batch // (ranks.world * together)) * together
    own = slice(ranks.rank * most, (ranks.rank + 1) * most)
    run = DocumentRun(model, tokens, documents, options.lora, own)
    pauses = Pauses(model, options, len(documents[0]), compiled=True)
    batches = document_batches(documents[1], options.lora.batch)
    compiled = pays(model, forwards(documents[1], batches, options.lora))
    targets = Targets(model, options.lora, compiled)
    bank, scored = LoraBank(targets, 0), np.zeros(0, np.int64)
    total = sum(int(documents[1][rows[own]].sum()) for rows in batches)
    with reporter.stage("scoring", total, "targets") as stage:
        for rows in batches:
            earlier = bank if options.lora.keep_a else None
            bank = LoraBank(targets, len(rows[own]), earlier)
            bank.together = together
            run.score(rows, bank, stage)
            scored = np.append(scored, rows)
            if count := pauses.due(len(scored)):
                read = [documents[0][row] + np.arange(documents[1][row]) for row in scored[:count]]
                run.ledger.use(np.concatenate(read))
                pauses.train_([tokens[at].astype(np.int64) for at in read])
    run.ledger.check()
    ranks.summed_(torch.from_numpy(run.sums))
    seconds = time.perf_counter() - started
    return checked_score(run.sums, plan.outputs, num_bytes, ends, seconds), run.ledger


class PhasedPredictor(LoraPredictor):
    """Form of `score_phased` that is fed token by token, batches in the same order.

    documents: their number in all; the pauses depend on it
    """

    def __init__(self, model: GPT, documents: int, options: PhasedOptions) -> None:
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
