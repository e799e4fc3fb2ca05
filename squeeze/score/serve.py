"""Speak docs/protocol.md for a checkpoint or .sqz artifact: `python -m squeeze.score.serve model.sqz`.

Reports come from the engine of `squeeze eval`; distributions come from plain forward passes, or, when
test-time training is on, from the predictor that reads token by token. An audit compares the two.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from squeeze.checkpoint import load_model
from squeeze.errors import BadConfig
from squeeze.score import protocol
from squeeze.score.modes import MODES, STRIDE, Mode
from squeeze.score.plan import Plan, document_spans, spans
from squeeze.score.predictor import CachedPredictor
from squeeze.score.tokenizer import Tokenizer, Tokens
from squeeze.score.ttt_chunk import ChunkPredictor
from squeeze.score.ttt_lora import LoraPredictor
from squeeze.score.window import Score, batch_outputs, score_batch
from squeeze.train.data import read_shard
from squeeze.train.fields import settings
from squeeze.train.model import GPT

Float32 = npt.NDArray[np.float32]
Reported = tuple[float, int, int, Float32]


class Served:
    """A model scored in one mode. Everything but `reset` and `feed` of the protocol's scorer."""

    def __init__(self, model: GPT, mode: Mode) -> None:
        self.model, self.mode = model.eval(), mode
        self.bos, self.isolated = model.config.bos_id, mode.by_document

    def hello(self, targets: int) -> dict[str, Any]:
        self._targets = targets
        return {
            "protocol": protocol.VERSION,
            "vocab_size": self.model.config.vocab_size,
            "isolated": self.isolated,
            "scores_bos": not self.isolated,
            **self.shape(),
        }

    def shape(self) -> dict[str, Any]:
        """The fields of hello that tell a stateful submission from a stateless one."""
        raise NotImplementedError

    def losses(self, tokens: Tokens) -> Float32:
        """Nats of tokens[1:], float32 [n - 1]."""
        raise NotImplementedError

    def report(self, data: str, tokenizer: str) -> Reported:
        """Nats, bytes and targets of `squeeze eval`, and the loss of every target it counts."""
        tokens, table = read_shard(data), Tokenizer(tokenizer).table
        score: Score
        score, _ = self.mode.score(self.model, tokens, table, document_spans(tokens, self.bos))
        counted = tokens[1:] != self.bos if self.isolated else slice(None)
        return score.nats, score.bytes, score.tokens, self.losses(tokens)[counted]


class Windows(Served):
    """A model that does not adapt, in windows over the stream or over each document."""

    def __init__(self, model: GPT, mode: Mode) -> None:
        super().__init__(model, mode)
        options = mode.options(model.config.seq_len)
        self.length, self.stride = options["length"], options.get("stride", options["length"])
        self.reset()

    def shape(self) -> dict[str, Any]:
        return {"stateful": False, "window": self.length, "stride": self.stride}

    def reset(self) -> None:
        self._past = np.zeros(0, np.uint16)

    def feed(self, tokens: Tokens) -> Float32:
        """Log-probabilities [n, V]; where documents are isolated, each is read apart."""
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
                losses[_outputs(plan, rows)] = score_batch(self.model, tokens, plan, rows)[0]
        return losses


def _outputs(plan: Plan, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Positions of the outputs that the windows `rows` score, in the order of their losses."""
    return np.concatenate([np.arange(plan.first[row], plan.stop[row]) for row in rows])


class Adapting(Served):
    """Test-time training, fed in order."""

    def __init__(self, model: GPT, mode: Mode) -> None:
        super().__init__(model, mode)
        length = model.config.seq_len if mode.length is None else mode.length
        stride = min(STRIDE, length) if mode.stride is None else mode.stride
        self.options = mode.adaptation(length, stride)

    def shape(self) -> dict[str, Any]:
        chunk = self.options.chunk if self.mode.name == "ttt-lora" else self.options.sgd.chunk
        return {"stateful": True, "chunk": chunk}

    def reset(self) -> None:
        self._predictor: CachedPredictor
        if self.mode.name == "ttt-lora":
            self._predictor = LoraPredictor(self.model, self.options)
        else:
            self._predictor = ChunkPredictor(self.model, self._targets, self.options)
        self._predictor.start(1)
        self._fed = False

    def feed(self, tokens: Tokens) -> Float32:
        """Log-probabilities [n, V] after each token, read one by one."""
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


def scorer(model: GPT, mode: Mode) -> Windows | Adapting:
    """What serves a mode. Raises BadConfig for one that does not score in the order of the text."""
    if mode.name == "ttt-phased":
        raise BadConfig(
            "phased training scores the longest documents first",
            expected="a mode that scores in order",
            found=mode.name,
            fix="Audit ttt-lora; `squeeze eval` checks the ledger of phased training.",
        )
    return Adapting(model, mode) if mode.name.startswith("ttt-") else Windows(model, mode)


def main() -> None:
    """Load, then answer on stdin and stdout until the pipe closes."""
    parser = argparse.ArgumentParser(prog="python -m squeeze.score.serve")
    parser.add_argument("model", type=Path)
    parser.add_argument("--mode", choices=MODES, default="window")
    parser.add_argument("--length", type=int, help="tokens read at once; default: the model's")
    parser.add_argument("--stride", type=int, help="windows move by this")
    parser.add_argument("--ttt", action="append", default=[], help="name=value of a ttt mode")
    given = parser.parse_args()
    torch.set_num_threads(1)
    mode = Mode(given.mode, given.length, given.stride, settings(given.ttt, "--ttt"))
    loaded = load_model(given.model)
    protocol.serve(scorer(GPT.from_tensors(loaded.config, loaded.tensors), mode))


if __name__ == "__main__":
    main()
