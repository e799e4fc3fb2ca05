"""Speak docs/protocol.md for a checkpoint or .sqz file.

python -m squeeze.score.serving.serve model.sqz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from squeeze.checkpoint.read import load_model
from squeeze.errors import BadConfig
from squeeze.score.adapt.by_chunk import ChunkPredictor
from squeeze.score.adapt.by_document import LoraPredictor
from squeeze.score.modes import MODES, STRIDE, Mode
from squeeze.score.plan import document_spans
from squeeze.score.serving import protocol
from squeeze.score.serving.served import Adapting, Windows
from squeeze.score.tokenizer import ByteTable, Tokens
from squeeze.score.window import Score
from squeeze.train.fields import settings
from squeeze.train.model.gpt import GPT


def scorer(model: GPT, mode: Mode) -> Windows | Adapting:
    """What serves a mode. Raises BadConfig for one that does not score in the order of the text."""

    def score(tokens: Tokens, table: ByteTable) -> Score:
        documents = document_spans(tokens, model.config.bos_id)
        return mode.score(model, tokens, table, documents)[0]

    if mode.name == "ttt-phased":
        raise BadConfig(
            "phased training scores the longest documents first",
            expected="a mode that scores in order",
            found=mode.name,
            fix="Audit ttt-lora; `squeeze eval` checks the ledger of phased training.",
        )
    isolated = mode.by_document
    if not mode.name.startswith("ttt-"):
        options = mode.options(model.config.seq_len)
        length = options["length"]
        return Windows(model, score, length, options.get("stride", length), isolated)
    length = model.config.seq_len if mode.length is None else mode.length
    stride = min(STRIDE, length) if mode.stride is None else mode.stride
    adapting = mode.adaptation(length, stride)
    if mode.name == "ttt-lora":
        return Adapting(
            model, score, adapting.chunk, lambda _: LoraPredictor(model, adapting), isolated
        )
    return Adapting(
        model,
        score,
        adapting.sgd.chunk,
        lambda targets: ChunkPredictor(model, targets, adapting),
        isolated,
    )


def main() -> None:
    """Load, then answer on stdin and stdout until the pipe closes."""
    parser = argparse.ArgumentParser(prog="python -m squeeze.score.serving.serve")
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
