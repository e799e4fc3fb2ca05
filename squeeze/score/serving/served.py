"""Scorers that answer an auditor (docs/protocol.md): of a model as it is, or that adapts meanwhile.

Reports come from the engine of the score; distributions come from plain forward passes, or, when
test-time training is on, from the predictor that reads token by token. An audit compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from squeeze.score.plan import Plan, document_spans, spans
from squeeze.score.predictor import Predictor
from squeeze.score.serving import protocol
from squeeze.score.tokenizer import ByteTable, Tokens, read_table
from squeeze.score.window import Score, batch_outputs, score_batch
from squeeze.train.data.shards import map_shard
from squeeze.train.model.gpt import GPT

Float32 = npt.NDArray[np.float32]
Reported = tuple[float, int, int, Float32]
Scoring = Callable[[Tokens, ByteTable], Score]


class Served:
    """A model that `score` scores: all of the protocol's scorer but `reset` and `feed`.

    isolated: True when documents are scored apart
    shape: fields of hello that tell a stateful submission from a stateless one
    """

    losses: Callable[[Tokens], Float32]  # nats of tokens[1:], float32 [n - 1]

    def __init__(self, model: GPT, score: Scoring, isolated: bool, shape: dict[str, Any]) -> None:
        self.model, self.score, self.isolated, self.shape = model.eval(), score, isolated, shape
        self.bos, self.vocab = model.config.bos_id, model.config.vocab_size

    def hello(self, targets: int) -> dict[str, Any]:
        self._targets = targets
        return {
            "protocol": protocol.VERSION,
            "vocab_size": self.vocab,
            "isolated": self.isolated,
            "scores_bos": not self.isolated,
            **self.shape,
        }

    def report(self, data: str, tokenizer: str) -> Reported:
        """Return nats, bytes and targets of the score, and float32 losses [n] of its targets."""
        tokens, table = map_shard(data), read_table(tokenizer)
        score = self.score(tokens, table)
        counted = tokens[1:] != self.bos if self.isolated else slice(None)
        return score.nats, score.bytes, score.tokens, self.losses(tokens)[counted]


class Windows(Served):
    """A model that does not adapt, in windows over the stream or over each document."""

    def __init__(
        self, model: GPT, score: Scoring, length: int, stride: int, isolated: bool = False
    ) -> None:
        shape = {"stateful": False, "window": length, "stride": stride}
        super().__init__(model, score, isolated, shape)
        self.length, self.stride = length, stride
        self.reset()

    def reset(self) -> None:
        self._past = np.zeros(0, np.uint16)

    def feed(self, tokens: Tokens) -> Float32:
        """Return log-probabilities float32 [n, V]; isolated documents are read apart."""
        text = np.concatenate([self._past, tokens])
        starts = np.flatnonzero(text == self.bos) if self.isolated else np.zeros(0, np.int64)
        parts = [part for part in np.split(text, starts) if len(part)]
        self._past = parts[-1] if self.isolated else text
        with torch.inference_mode():
            rows = [self.model(torch.from_numpy(part.astype(np.int64))[None])[0] for part in parts]
            return torch.cat(rows)[-len(tokens) :].log_softmax(-1).numpy()

    def losses(self, tokens: Tokens) -> Float32:
        begin, outputs = np.zeros(1, np.int64), np.array([len(tokens) - 1])
        if self.isolated:
            begin, outputs = document_spans(tokens, self.bos)
        plan = spans(begin, outputs, self.length, self.stride)
        losses = np.zeros(len(tokens) - 1, np.float32)
        with torch.inference_mode():
            for rows in plan.batches(batch_outputs(self.model)):
                losses[_outputs(plan, rows)] = score_batch(
                    self.model, tokens, plan, rows, led=self.stride < self.length
                )[0]
        return losses


class Adapting(Served):
    """Test-time training, fed in order.

    chunk: targets between two updates
    predictor: makes the predictor of a stream of so many targets
    """

    def __init__(
        self,
        model: GPT,
        score: Scoring,
        chunk: int,
        predictor: Callable[[int], Predictor],
        isolated: bool = False,
    ) -> None:
        super().__init__(model, score, isolated, {"stateful": True, "chunk": chunk})
        self.predictor = predictor

    def reset(self) -> None:
        self._predictor = self.predictor(self._targets)
        self._predictor.start(1)
        self._fed = False

    def feed(self, tokens: Tokens) -> Float32:
        """Return log-probabilities float32 [n, V] after each token, read one by one."""
        logits = [self._next(token) for token in tokens]
        return torch.from_numpy(np.concatenate(logits)).log_softmax(-1).numpy()

    def _next(self, token: np.uint16) -> Float32:
        if self.isolated and token == self.bos and self._fed:
            self._predictor.start(1)
        self._fed = True
        return self._predictor.next(np.array([token], np.int64))

    def losses(self, tokens: Tokens) -> Float32:
        self.reset()
        return -self.feed(tokens[:-1])[np.arange(len(tokens) - 1), tokens[1:]]


def _outputs(plan: Plan, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the positions of the outputs of the windows `rows`, in the order of their losses."""
    return np.concatenate([np.arange(plan.first[row], plan.stop[row]) for row in rows])
