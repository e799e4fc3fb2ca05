"""Test-time training on the whole stream: score a chunk, train all weights on it, go on (#549, #1493).

Every window whose outputs lie in the chunk is scored first, sliding over the stream. The last chunk is
never trained on. What is learnt stays: later documents are scored with weights that have seen earlier
ones, so a score of this mode carries state across documents by design.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field

import numpy as np
import torch

from squeeze.errors import BadConfig
from squeeze.ranks.group import Ranks
from squeeze.score.adapt.order import OrderLedger
from squeeze.score.adapt.sgd import Sgd, SgdOptions
from squeeze.score.plan import Int64, sliding, spans
from squeeze.score.predictor import CachedPredictor
from squeeze.score.tokenizer import ByteTable, Tokens
from squeeze.score.window import (
    Progress,
    Score,
    batch_outputs,
    checked_score,
    count_targets,
    score_batch,
    split_sum,
)
from squeeze.train.model.gpt import GPT


@dataclass(frozen=True)
class ChunkOptions:
    """Windows of `length` tokens moving by `stride`, between the steps of `sgd`."""

    length: int = 2048  # tokens
    stride: int = 64  # tokens
    sgd: SgdOptions = field(default_factory=SgdOptions)


def score_chunks(
    model: GPT,
    tokens: Tokens,
    table: ByteTable,
    options: ChunkOptions | None = None,
    on_progress: Progress | None = None,
) -> tuple[Score, OrderLedger]:
    """Score tokens uint16 [n], training a copy of the model on every chunk but the last.

    Under torch.distributed the scoring goes round the ranks and each of them trains alike. Raises as
    `score_plan`, and RuleBroken when the order of scoring and learning is not legal.
    """
    options = options or ChunkOptions()
    outputs = max(0, len(tokens) - 1)
    plan = sliding(outputs, options.length, options.stride).cut(options.sgd.chunk)
    num_bytes, _ = count_targets(model.config, tokens, table, plan, None)
    started = time.perf_counter()
    model = copy.deepcopy(model).eval()
    sgd, ledger = Sgd(model, options.sgd), OrderLedger(len(tokens))
    ledger.give(np.zeros(1, np.int64))
    ranks = Ranks.current()
    sums, chunk_of, chunks = (
        np.zeros(2),
        plan.first // options.sgd.chunk,
        options.sgd.chunks(outputs),
    )
    for chunk in range(chunks):
        begin, end = chunk * options.sgd.chunk, min((chunk + 1) * options.sgd.chunk, outputs)
        part = plan.select(chunk_of == chunk)
        for rows in ranks.deal(list(part.batches(batch_outputs(model)))):
            sums += split_sum(*score_batch(model, tokens, part, rows), None)
        ledger.score(np.arange(begin + 1, end + 1))
        if chunk < chunks - 1:
            ledger.use(np.arange(begin, end + 1))
            train_chunk_(sgd, tokens, begin, end, options, chunks)
        if on_progress is not None:
            on_progress(end, outputs)
    ledger.check()
    nats = float(ranks.summed_(torch.from_numpy(sums))[0])
    return checked_score(nats, outputs, num_bytes, time.perf_counter() - started), ledger


def train_chunk_(
    sgd: Sgd, tokens: Tokens | Int64, begin: int, end: int, options: ChunkOptions, chunks: int
) -> None:
    """Train on outputs begin … end - 1, one of `chunks`, in windows that do not overlap."""
    plan = spans(np.array([begin]), np.array([end - begin]), options.length, options.length)
    sgd.learn_(tokens, plan, options.sgd.rate(begin // options.sgd.chunk, chunks))


class ChunkPredictor(CachedPredictor):
    """`score_chunks` fed token by token: one stream of `outputs` + 1 tokens, and one `start`.

    The length must be known in advance, since the step size depends on it.
    """

    def __init__(self, model: GPT, outputs: int, options: ChunkOptions | None = None) -> None:
        self.options = options or ChunkOptions()
        super().__init__(copy.deepcopy(model), self.options.length, self.options.stride)
        self._sgd = Sgd(self._model, self.options.sgd)
        self._chunks = self.options.sgd.chunks(outputs)
        self._started = False

    def start(self, batch: int) -> None:
        if batch != 1 or self._started:
            raise BadConfig("chunk training", expected="one stream, begun once", found=f"{batch}")
        self._started = True
        super().start(batch)

    def _adapt(self, at: int) -> bool:
        if at == 0 or at % self.options.sgd.chunk:
            return False
        tokens = self._tokens(0, at + 1)[0]
        train_chunk_(self._sgd, tokens, at - self.options.sgd.chunk, at, self.options, self._chunks)
        return True
