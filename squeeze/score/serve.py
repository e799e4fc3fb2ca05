"""Speak docs/protocol.md for a checkpoint or .sqz artifact: `python -m squeeze.score.serve model.sqz`.

Reports come from the engine of `squeeze eval`; distributions come from plain forward passes, or, when
test-time training is on, from the predictor that reads token by token. An audit compares the two.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from squeeze.checkpoint import load_model
from squeeze.score import protocol
from squeeze.score.lora import LoraOptions
from squeeze.score.plan import Plan, document_spans, sliding, spans
from squeeze.score.predictor import CachedPredictor
from squeeze.score.sgd import SgdOptions
from squeeze.score.tokenizer import ByteTable, Tokenizer, Tokens
from squeeze.score.ttt_chunk import ChunkOptions, ChunkPredictor, score_chunks
from squeeze.score.ttt_lora import LoraPredictor, score_lora
from squeeze.score.window import Score, batch_outputs, score_batch, score_plan
from squeeze.train.data import read_shard
from squeeze.train.model import GPT

Float32 = npt.NDArray[np.float32]
Reported = tuple[float, int, int, Float32]
MODES = ("window", "documents", "ttt-lora", "ttt-chunk")


class Windows:
    """A model that does not adapt, in windows over the stream or over each document."""

    def __init__(self, model: GPT, length: int, stride: int, isolated: bool) -> None:
        self.model, self.length, self.stride = model.eval(), length, stride
        self.isolated, self.bos = isolated, model.config.bos_id
        self.reset()

    def hello(self, targets: int) -> dict[str, Any]:
        return {
            "protocol": protocol.VERSION,
            "vocab_size": self.model.config.vocab_size,
            "stateful": False,
            "isolated": self.isolated,
            "scores_bos": not self.isolated,
            "window": self.length,
            "stride": self.stride,
        }

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

    def report(self, data: str, tokenizer: str) -> Reported:
        """Nats and bytes of `squeeze eval`, and the loss of every target it counts."""
        tokens, table = read_shard(data), Tokenizer(tokenizer).table
        plan, unscored = self._plan(tokens)
        score = score_plan(self.model, tokens, table, plan, unscored=unscored)
        losses = np.zeros(len(tokens) - 1, np.float32)
        with torch.inference_mode():
            for rows in plan.batches(batch_outputs(self.model)):
                found, _ = score_batch(self.model, tokens, plan, rows)
                losses[_outputs(plan, rows)] = found
        return score.nats, score.bytes, score.tokens, losses[tokens[1:] != unscored]

    def _plan(self, tokens: Tokens) -> tuple[Plan, int | None]:
        if self.isolated:
            return spans(*document_spans(tokens, self.bos), self.length, self.stride), self.bos
        return sliding(len(tokens) - 1, self.length, self.stride), None


def _outputs(plan: Plan, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Positions of the outputs that the windows `rows` score, in the order of their losses."""
    return np.concatenate([np.arange(plan.first[row], plan.stop[row]) for row in rows])


class Adapting:
    """Test-time training, fed in order.

    make: a new predictor for a stream of so many targets; engine: the score of `squeeze eval`.
    """

    def __init__(
        self,
        model: GPT,
        chunk: int,
        isolated: bool,
        make: Callable[[int], CachedPredictor],
        engine: Callable[[Tokens, ByteTable], Score],
    ) -> None:
        self.model, self.chunk, self.isolated = model, chunk, isolated
        self.bos = model.config.bos_id
        self._make, self._engine = make, engine

    def hello(self, targets: int) -> dict[str, Any]:
        self._targets = targets
        return {
            "protocol": protocol.VERSION,
            "vocab_size": self.model.config.vocab_size,
            "stateful": True,
            "isolated": self.isolated,
            "scores_bos": not self.isolated,
            "chunk": self.chunk,
        }

    def reset(self) -> None:
        self._predictor = self._make(self._targets)
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

    def report(self, data: str, tokenizer: str) -> Reported:
        """Nats and bytes of `squeeze eval`; losses token by token."""
        tokens, table = read_shard(data), Tokenizer(tokenizer).table
        score = self._engine(tokens, table)
        self.reset()
        losses = -self.feed(tokens[:-1])[np.arange(len(tokens) - 1), tokens[1:]]
        counted = tokens[1:] != self.bos if self.isolated else slice(None)
        return score.nats, score.bytes, score.tokens, losses[counted]


def scorer(
    model: GPT, mode: str, length: int, stride: int, chunk: int, lr: float | None
) -> Windows | Adapting:
    """What serves a mode; lr None: the mode's own."""
    if mode == "ttt-lora":
        lora = LoraOptions(chunk, length, lr=LoraOptions.lr if lr is None else lr)
        return Adapting(
            model,
            chunk,
            True,
            lambda targets: LoraPredictor(model, lora),
            lambda tokens, table: score_lora(
                model, tokens, table, document_spans(tokens, model.config.bos_id), lora
            )[0],
        )
    if mode == "ttt-chunk":
        options = ChunkOptions(
            length, stride, SgdOptions(chunk=chunk, lr=SgdOptions.lr if lr is None else lr)
        )
        return Adapting(
            model,
            chunk,
            False,
            lambda targets: ChunkPredictor(model, targets, options),
            lambda tokens, table: score_chunks(model, tokens, table, options)[0],
        )
    return Windows(model, length, stride, isolated=mode == "documents")


def main() -> None:
    """Load, then answer on stdin and stdout until the pipe closes."""
    parser = argparse.ArgumentParser(prog="python -m squeeze.score.serve")
    parser.add_argument("model", type=Path)
    parser.add_argument("--mode", choices=MODES, default="window")
    parser.add_argument("--length", type=int, help="tokens read at once; default: the model's")
    parser.add_argument("--stride", type=int, help="default: the length")
    parser.add_argument("--chunk", type=int, default=256, help="targets between two updates")
    parser.add_argument("--lr", type=float, help="of the updates")
    parser.add_argument("--mlp-power", type=int, help="when the checkpoint does not tell")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    loaded = load_model(given.model, mlp_power=given.mlp_power)
    model = GPT.from_tensors(loaded.config, loaded.tensors)
    length = given.length or loaded.config.seq_len
    stride = given.stride or length
    protocol.serve(scorer(model, given.mode, length, stride, given.chunk, given.lr))


if __name__ == "__main__":
    main()
