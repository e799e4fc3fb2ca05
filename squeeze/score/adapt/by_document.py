"""Test-time training of one LoRA per document: score a chunk, take one step on it, go on (#77).

Documents begin at BOS, are scored apart, and leave nothing behind. A chunk is predicted from a window
of `length` tokens that ends with it, read anew with the weights of that moment. The last chunk of a
document is not trained on, since nothing would be scored with what it taught.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from squeeze.errors import BadConfig
from squeeze.ranks.group import Ranks
from squeeze.score.adapt.lora import LoraBank, LoraOptions
from squeeze.score.adapt.order import OrderLedger
from squeeze.score.plan import Int64, document_batches, spans
from squeeze.score.predictor import CachedPredictor, Float32
from squeeze.score.tokenizer import ByteTable, Tokens
from squeeze.score.window import Progress, Score, checked_score, count_targets, split_sum
from squeeze.train.model.gpt import GPT


def score_lora(
    model: GPT,
    tokens: Tokens,
    table: ByteTable,
    documents: tuple[Int64, Int64],
    options: LoraOptions | None = None,
    on_progress: Progress | None = None,
) -> tuple[Score, OrderLedger]:
    """Score documents (`plan.document_spans`) of tokens uint16 [n], adapting to each as it goes.

    Predictions of the BOS after a document count as ends. Batches go round the ranks of
    torch.distributed; score and ledger are those of all. Raises as `score_plan`, RuleBroken when the
    order of scoring and learning is not legal, and BadConfig for a factor that outlives documents.
    """
    options = options or LoraOptions()
    if options.keep_a:
        raise BadConfig("ttt-lora drops all it learnt with a document", fix="Use ttt-phased.")
    run = DocumentRun(model, tokens, documents, options)
    plan = spans(*documents, options.length, options.length)
    num_bytes, ends = count_targets(model.config, tokens, table, plan, run.bos)
    started = time.perf_counter()
    ranks = Ranks.current()
    groups = ranks.deal(document_batches(documents[1], options.batch))
    total = sum(int(documents[1][rows].sum()) for rows in groups)
    for rows in groups:
        run.score(rows, LoraBank(model, options, len(rows)), on_progress, total)
    for ticks in (run.ledger.scored_at, run.ledger.used_at):
        ranks.summed_(torch.from_numpy(ticks))  # a token's ticks are all of one rank
    run.ledger.updates = int(ranks.summed_(torch.tensor(run.ledger.updates)))
    run.ledger.check()
    nats, end_nats = ranks.summed_(torch.from_numpy(run.sums)).tolist()
    seconds = time.perf_counter() - started
    return checked_score(nats, plan.outputs, num_bytes, seconds, ends, end_nats), run.ledger


class DocumentRun:
    """Documents scored chunk by chunk, batch after batch; sums float64 [2] as of `split_sum`."""

    def __init__(
        self, model: GPT, tokens: Tokens, documents: tuple[Int64, Int64], options: LoraOptions
    ) -> None:
        self.model, self.tokens, self.options = model.eval(), tokens, options
        self.begin, self.outputs = documents
        self.bos = model.config.bos_id
        self.ledger = OrderLedger(len(tokens))
        self.ledger.give(self.begin)
        self.sums, self.done = np.zeros(2), 0

    def score(
        self, rows: Int64, bank: LoraBank, on_progress: Progress | None = None, total: int = 0
    ) -> None:
        """Score the documents `rows`, one batch, adapting their bank."""
        with bank.attached():
            for first in range(0, int(self.outputs[rows].max()), self.options.chunk):
                self._chunk(rows, bank, first)
                if on_progress is not None:
                    on_progress(self.done, total)

    def _chunk(self, rows: Int64, bank: LoraBank, first: int) -> None:
        """Score outputs first … of a batch's documents, then let those that go on learn from them."""
        begin, outputs = self.begin[rows, None], self.outputs[rows, None]
        stop = min(first + self.options.chunk, int(outputs.max()))
        start = self.options.window_start(first)
        columns = np.arange(start, stop)
        ids = np.where(columns < outputs, self.tokens[self._at(begin + columns)], 0)
        wanted = columns[first - start :] < outputs
        at = self._at(begin + columns[first - start :] + 1)  # positions of the targets
        targets = np.where(wanted, self.tokens[at], 0).astype(np.int64)
        going_on = outputs[:, 0] > stop
        device = self.model.tok_emb.weight.device
        losses = bank.losses(
            torch.from_numpy(ids.astype(np.int64)).to(device),
            torch.from_numpy(targets).to(device),
            torch.from_numpy(going_on).to(device),
        )
        self.sums += split_sum(losses.cpu().numpy()[wanted], targets[wanted], self.bos)
        self.done += int(wanted.sum())
        self.ledger.score(at[wanted])
        if going_on.any():
            read = begin[going_on] + np.arange(start, stop + 1)  # inputs, and the last target
            self.ledger.use(np.unique(read))
            bank.step_()

    def _at(self, positions: Int64) -> Int64:
        return np.minimum(positions, len(self.tokens) - 1)


class LoraPredictor(CachedPredictor):
    """`score_lora` fed token by token: the same steps, at the same places, on the same tokens."""

    def __init__(self, model: GPT, options: LoraOptions | None = None) -> None:
        self.options = options or LoraOptions()
        super().__init__(model, self.options.length)
        self._bank = LoraBank(self._model, self.options, 0)

    def start(self, batch: int) -> None:
        earlier = self._bank if self.options.keep_a else None
        self._bank = LoraBank(self._model, self.options, batch, earlier)
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
        return self._bank.head(hidden)
