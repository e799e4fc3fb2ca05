"""Speak docs/protocol.md for a checkpoint or .sqz file.

python -m squeeze.score.serving.serve model.sqz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from squeeze.checkpoint.read import load_model
from squeeze.errors import BadConfig
from squeeze.reporter import SILENT
from squeeze.score.modes import MODES, LearningScoring, Mode
from squeeze.score.options import SlidingOptions, WindowOptions
from squeeze.score.plan import document_spans
from squeeze.score.predictor import Extent, Predictor
from squeeze.score.serving import protocol
from squeeze.score.serving.served import Adapting, Windows
from squeeze.score.tokenizer import ByteTable, Text, Tokens
from squeeze.score.window import Score
from squeeze.train.fields import settings
from squeeze.train.model.gpt import GPT


def scorer(model: GPT, mode: Mode) -> Windows | Adapting:
    """Return the scorer that answers an auditor about a model in a mode.

    Raises BadConfig for a mode that does not score in the order of the text.
    """
    if not mode.facts.in_order:
        raise BadConfig(
            "phased training scores the longest documents first",
            expected="a mode that scores in order",
            found=mode.name,
            fix="Audit ttt-lora; `squeeze eval` checks the ledger of phased training.",
        )
    scoring, options = mode.scoring(model), mode.options(model.config.seq_len)

    def score(tokens: Tokens, table: ByteTable) -> Score:
        documents = document_spans(tokens, model.config.bos_id)
        return scoring.score(Text(tokens, table), documents, None, SILENT)[0]

    if isinstance(scoring, LearningScoring):
        learning = scoring

        def predictor(targets: int) -> Predictor:
            return learning.predictor(Extent(1, targets, 1))

        return Adapting(model, score, scoring.chunk, predictor, mode.facts.by_document)
    assert isinstance(options, WindowOptions | SlidingOptions)  # of all modes that do not learn
    return Windows(model, score, options.length, options.stride, mode.facts.by_document)


def main() -> None:
    """Load a model, then answer on stdin and stdout until the pipe closes."""
    parser = argparse.ArgumentParser(prog="python -m squeeze.score.serving.serve")
    parser.add_argument("model", type=Path)
    parser.add_argument("--mode", choices=MODES, default="window")
    parser.add_argument("--length", type=int, help="tokens read at once; default: the model's")
    parser.add_argument("--stride", type=int, help="windows move by this")
    parser.add_argument("--ttt", action="append", default=[], help="name=value of a ttt mode")
    options = parser.parse_args()
    torch.set_num_threads(1)
    mode = Mode(options.mode, options.length, options.stride, settings(options.ttt, "--ttt"))
    loaded = load_model(options.model)
    protocol.serve(scorer(GPT.from_tensors(loaded.config, loaded.tensors), mode))


if __name__ == "__main__":
    main()
