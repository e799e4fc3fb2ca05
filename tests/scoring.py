"""What the tests of scoring share: random models, text worth learning, a plain way to feed it."""

from __future__ import annotations

import numpy as np
import torch

from squeeze.score.plan import Int64, document_batches
from squeeze.score.predictor import ENDED, Predictor
from squeeze.score.tokenizer import ByteTable
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT

BOS = 1
CONFIG = ModelConfig(50, 3, 16, 2, 1, 16, seq_len=16)
TABLE = ByteTable(np.ones(50, np.int32), np.zeros(50, np.bool_), np.arange(50) == BOS)


def random_model(config: ModelConfig = CONFIG, scale: float = 0.3) -> GPT:
    """Weights that are all random, so that every part of the model matters."""
    random = np.random.default_rng(0)
    shapes = config.parameter_shapes().items()
    return GPT.from_tensors(
        config, {name: random.normal(0, scale, shape).astype(np.float32) for name, shape in shapes}
    )


def repetitive_documents(lengths: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Documents of these lengths and a BOS each, and one more BOS; each repeats five tokens."""
    random = np.random.default_rng(seed)
    parts = [[BOS, *np.resize(random.integers(2, 50, 5), length)] for length in lengths]
    return np.concatenate([*parts, [BOS]]).astype(np.uint16)


def nats_when_fed(
    predictor: Predictor, tokens: np.ndarray, documents: tuple[Int64, Int64], batch: int = 64
) -> np.ndarray:
    """Nats float64 [n] of every target, by position, with documents fed token by token."""
    text, (begin, outputs) = tokens.astype(np.int64), documents
    nats = np.zeros(len(tokens))
    for rows in document_batches(outputs, batch):
        predictor.start(len(rows))
        for i in range(outputs[rows].max()):
            live = i < outputs[rows]
            at = np.minimum(begin[rows] + i, len(text) - 1)
            logits = predictor.next(np.where(live, text[at], ENDED))
            chances = torch.log_softmax(torch.from_numpy(logits).double(), -1).numpy()
            for row in np.flatnonzero(live):
                nats[at[row] + 1] = -chances[row, text[at[row] + 1]]
    return nats
