"""Test-time training on the whole stream: score a chunk, train all weights on it, … (#549, #1493).

Every window whose outputs lie in the chunk is scored first, sliding over the stream. The last chunk is
never trained on. All that is learnt stays: later documents are scored with weights that were trained
on earlier ones, so a score of this mode carries state across documents by design.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import numpy as np
import torch

from squeeze.errors import BadConfig
from squeeze.ranks.group import Ranks
from squeeze.reporter import SILENT, Reporter
from squeeze.score.adapt.options import ChunkOptions
from squeeze.score.adapt.order import OrderLedger
from squeeze.score.adapt.sgd import Sgd
from squeeze.score.compiled import compiled_states, pays
from squeeze.score.plan import Documents, Int64, sliding, spans
from squeeze.score.predictor import CachedPredictor, Extent
from squeeze.score.tokenizer import Text, Tokens
from squeeze.score.window import (
    Score,
    batch_outputs,
    checked_score,
    count_targets,
    score_batch,
    split_sum,
)
from squeeze.train.model.gpt import GPT


@dataclass(frozen=True)
class ChunkScoring:
    """Scoring of one stream by a model that learns every chunk; the mode `ttt-chunk`."""

    model: GPT
    options: ChunkOptions

    @property
    def chunk(self) -> int:
        """Tokens between two updates."""
        return self.options.sgd.chunk

    def score(
        self, text: Text, documents: Documents, batch: int | None, reporter: Reporter
    ) -> tuple[Score, OrderLedger]:
        """Score all tokens but the first; see `squeeze.score.modes.Scoring`."""
        return score_chunks(self.model, text, self.options, reporter)

    def predictor(self, extent: Extent) -> ChunkPredictor:
        """Return the predictor that scores the same token by token."""
        return ChunkPredictor(self.model, extent.outputs, self.options)


def score_chunks(
    model: GPT,
    text: Text,
    options: ChunkOptions,
    reporter: Reporter = SILENT,
) -> tuple[Score, OrderLedger]:
    """Score all tokens but the first, training a copy of the model on every chunk but the last.

    Returns the score, and the ledger of scoring and learning. Under torch.distributed the scoring is
    dealt to the ranks, and each of them trains alike.

    reporter: counts the targets of all ranks

    Raises as `score_plan`, and RuleBroken when the order of scoring and learning is not legal.
    """
    tokens = text.tokens
    outputs = max(0, len(tokens) - 1)
    plan = sliding(outputs, options.length, options.stride).cut(options.sgd.chunk)
    num_bytes, _ = count_targets(model.config, text, plan)
    started = time.perf_counter()
    model = copy.deepcopy(model).eval()
    chunks = options.sgd.chunks(outputs)
    sgd = Sgd(model, options.sgd, pays(model, chunks * options.sgd.epochs))
    ledger = OrderLedger(len(tokens))
    ledger.give(np.zeros(1, np.int64))
    ranks = Ranks.current()
    sums = np.zeros(2)
    chunk_of = plan.first // options.sgd.chunk
    states = compiled_states(model, plan, list(plan.batches(batch_outputs(model))))
    with reporter.stage("scoring", outputs, "targets") as stage:
        for chunk in range(chunks):
            begin, end = chunk * options.sgd.chunk, min((chunk + 1) * options.sgd.chunk, outputs)
            part = plan.select(chunk_of == chunk)
            for rows in ranks.deal(list(part.batches(batch_outputs(model)))):
                sums += split_sum(*score_batch(model, tokens, part, rows, states), None)
            ledger.score(np.arange(begin + 1, end + 1))
            if chunk < chunks - 1:
                ledger.use(np.arange(begin, end + 1))
                train_chunk_(sgd, tokens, chunk, outputs, options)
            stage.advance(end - begin)
    ledger.check()
    ranks.summed_(torch.from_numpy(sums))
    return checked_score(sums, outputs, num_bytes, 0, time.perf_counter() - started), ledger


def train_chunk_(
    sgd: Sgd, tokens: Tokens | Int64, chunk: int, outputs: int, options: ChunkOptions
) -> None:
    """Train on chunk number `chunk` of a stream of `outputs`, in windows that do not overlap."""
    begin = chunk * options.sgd.chunk
    count = min(options.sgd.chunk, outputs - begin)
    plan = spans(np.array([begin]), np.array([count]), options.length, options.length)
    sgd.learn_(tokens, plan, options.sgd.rate(chunk, options.sgd.chunks(outputs)))


class ChunkPredictor(CachedPredictor):
    """Form of `score_chunks` that is fed token by token: one stream, and one `start`.

    outputs: tokens of the stream but the last; the step size depends on it
    """

    def __init__(self, model: GPT, outputs: int, options: ChunkOptions) -> None:
        self.outputs, self.options = outputs, options
        super().__init__(copy.deepcopy(model), options.length, options.stride)
        self._sgd = Sgd(self._model, options.sgd)
        self._started = False

    def start(self, batch: int) -> None:
        if batch != 1 or self._started:
            raise BadConfig("chunk training", expected="one stream, begun once", found=f"{batch}")
        self._started = True
        super().start(batch)

    def _adapt(self, at: int) -> bool:
        size = self.options.sgd.chunk
        if at == 0 or at % size:
            return False
        tokens = self._tokens(0, at + 1)[0]
        train_chunk_(self._sgd, tokens, at // size - 1, self.outputs, self.options)
        return True
