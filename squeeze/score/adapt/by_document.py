"""Test-time training of one LoRA per document: score a chunk, take one step on it, … (#77).

Documents begin at BOS, are scored apart, and leave nothing behind. A chunk is predicted from a window
of `length` tokens that ends with it, read anew with the weights of that moment. The last chunk of a
document is not trained on, since nothing would be scored after it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from squeeze.errors import BadConfig
from squeeze.ranks.group import Ranks
from squeeze.reporter import SILENT, Reporter
from squeeze.score.adapt.lora import LoraBank, Targets
from squeeze.score.adapt.options import LoraOptions
from squeeze.score.adapt.order import OrderLedger
from squeeze.score.compiled import pays
from squeeze.score.plan import Documents, Int64, document_batches, document_plan
from squeeze.score.predictor import CachedPredictor, Extent, Float32
from squeeze.score.tokenizer import Text, Tokens
from squeeze.score.window import Score, checked_score, count_targets, split_sum
from squeeze.train.model.gpt import GPT


@dataclass(frozen=True)
class LoraScoring:
    """Scoring of documents that adapts to each; the mode `ttt-lora`."""

    model: GPT
    options: LoraOptions

    @property
    def chunk(self) -> int:
        """Tokens between two updates."""
        return self.options.chunk

    def score(
        self, text: Text, documents: Documents, batch: int | None, reporter: Reporter
    ) -> tuple[Score, OrderLedger]:
        """Score the documents; see `squeeze.score.modes.Scoring`."""
        return score_lora(self.model, text, documents, self.options, reporter)

    def predictor(self, extent: Extent) -> LoraPredictor:
        """Return the predictor that scores the same token by token."""
        return LoraPredictor(self.model, self.options)


def score_lora(
    model: GPT,
    text: Text,
    documents: Documents,
    options: LoraOptions,
    reporter: Reporter = SILENT,
) -> tuple[Score, OrderLedger]:
    """Score documents, adapting to each meanwhile.

    Returns the score, and the ledger of scoring and learning.

    documents: as of `plan.document_spans`
    reporter: counts the targets of this rank

    Predictions of the BOS after a document count as ends. Batches are dealt to the ranks of
    torch.distributed; score and ledger are those of all.

    Raises as `score_plan`, RuleBroken when the order of scoring and learning is not legal, and
    BadConfig for a factor that outlives documents.
    """
    if options.keep_a:
        raise BadConfig("ttt-lora drops all it learnt with a document", fix="Use ttt-phased.")
    run = DocumentRun(model, text.tokens, documents, options)
    plan = document_plan(documents, options.length, options.length, run.bos)
    num_bytes, ends = count_targets(model.config, text, plan)
    started = time.perf_counter()
    ranks = Ranks.current()
    batches = document_batches(documents[1], options.batch)
    targets = Targets(model, options, pays(model, forwards(documents[1], batches, options)))
    groups = ranks.deal(batches)
    total = sum(int(documents[1][rows].sum()) for rows in groups)
    with reporter.stage("scoring", total, "targets") as stage:
        for rows in groups:
            run.score(rows, LoraBank(targets, len(rows)), stage)
    for ticks in (run.ledger.scored_at, run.ledger.used_at):
        ranks.summed_(torch.from_numpy(ticks))  # a token's ticks are all of one rank
    run.ledger.updates = int(ranks.summed_(torch.tensor(run.ledger.updates)))
    run.ledger.check()
    ranks.summed_(torch.from_numpy(run.sums))
    seconds = time.perf_counter() - started
    return checked_score(run.sums, plan.outputs, num_bytes, ends, seconds), run.ledger


def forwards(outputs: Int64, batches: Sequence[Int64], options: LoraOptions) -> int:
    """Return the number of chunks that batches of documents with so many outputs are scored in."""
    return sum(-(-int(outputs[rows].max()) // options.chunk) for rows in batches)


class DocumentRun:
    """Scoring of documents, batch after batch and chunk by chunk.

    own: this rank's documents of each batch; the ledger is that of all

    sums: nats of this rank so far, float64 [2] as of `split_sum`
    """

    def __init__(
        self,
        model: GPT,
        tokens: Tokens,
        documents: Documents,
        options: LoraOptions,
        own: slice = slice(None),
    ) -> None:
        self.model, self.tokens, self.options = model.eval(), tokens, options
        self.begin, self.outputs = documents
        self.bos = model.config.bos_id
        self.ledger = OrderLedger(len(tokens))
        self.ledger.give(self.begin)
        self.sums = np.zeros(2)
        self.own = own

    def score(self, rows: Int64, bank: LoraBank, stage: Reporter) -> None:
        """Score a batch, the documents `rows`, and let their bank learn; `stage` counts targets.

        bank: of this rank's documents, rows[own]
        """
        with bank.attached():
            for first in range(0, int(self.outputs[rows].max()), self.options.chunk):
                stage.advance(self._chunk(rows, bank, first))

    def _chunk(self, rows: Int64, bank: LoraBank, first: int) -> int:
        """Score a chunk of this rank's documents of a batch from output `first` on; return its targets.

        Documents that are longer learn from it.
        """
        begin, outputs = self.begin[rows, None], self.outputs[rows, None]
        stop = min(first + self.options.chunk, int(outputs.max()))
        start = self.options.window_start(first)
        columns = np.arange(start, stop)
        ids = np.where(columns < outputs, self.tokens[self._at(begin + columns)], 0)
        wanted = columns[first - start :] < outputs
        at = self._at(begin + columns[first - start :] + 1)  # positions of the targets
        targets = np.where(wanted, self.tokens[at], 0).astype(np.int64)
        going_on = outputs[:, 0] > stop
        own = self.own
        if len(ids[own]):
            device = self.model.tok_emb.weight.device
            losses = bank.losses(
                torch.from_numpy(ids[own].astype(np.int64)).to(device),
                torch.from_numpy(targets[own]).to(device),
                torch.from_numpy(going_on[own]).to(device),
            )
            nats = losses.cpu().numpy()[wanted[own]]
            self.sums += split_sum(nats, targets[own][wanted[own]], self.bos)
        self.ledger.score(at[wanted])
        if going_on.any():
            read = begin[going_on] + np.arange(start, stop + 1)  # inputs, and the last target
            self.ledger.use(np.unique(read))
            bank.step_()
        return int(wanted[own].sum())

    def _at(self, positions: Int64) -> Int64:
        return np.minimum(positions, len(self.tokens) - 1)


class LoraPredictor(CachedPredictor):
    """Form of `score_lora` that is fed token by token: the same steps, in the same places."""

    def __init__(self, model: GPT, options: LoraOptions) -> None:
        self.options = options
        super().__init__(model, options.length)
        # not compiled: a decoder must find the same bits
        self._targets = Targets(self._model, self.options)
        self._bank = LoraBank(self._targets, 0)

    def start(self, batch: int) -> None:
        earlier = self._bank if self.options.keep_a else None
        self._bank = LoraBank(self._targets, batch, earlier)
        super().start(batch)

    def next(self, tokens: Int64) -> Float32:
        with self._bank.attached():
            return super().next(tokens)

    def _window_start(self, at: int) -> int:
        return self.options.window_start(at)

    def _adapt(self, at: int) -> bool:
        if at == 0 or at % self.options.chunk:
            return False
        first = at - self.options.chunk  # the chunk that token `at` has just completed
        read = self._tokens(self.options.window_start(first), at + 1)
        self._bank.losses(
            self._on_device(read[:, :-1]),
            self._on_device(read[:, -self.options.chunk :]),
            self._on_device(~self._ended),
        )
        self._bank.step_()
        return True

    def _head(self, hidden: torch.Tensor) -> torch.Tensor:
        return self._targets.head(hidden)
