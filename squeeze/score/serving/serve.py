"""Speak docs/protocol.md for a checkpoint, a .sqz file, a transformers folder, or a script's model.

    python -m squeeze.score.serving.serve model.sqz
    python -m squeeze.score.serving.serve --adapter FILE.py:NAME [--shim] [final_model.pt]

A script runs as an audited submission does: in a box, from a private copy of the folder.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import cast

import torch

from squeeze.errors import BadConfig, SqueezeError
from squeeze.reporter import SILENT
from squeeze.score.evaluate import scoring_of
from squeeze.score.modes import MODES, LearningScoring, Mode
from squeeze.score.options import SlidingOptions, WindowOptions
from squeeze.score.padding import padded_table
from squeeze.score.plan import document_spans
from squeeze.score.predictor import Extent, Predictor
from squeeze.score.serving import protocol
from squeeze.score.serving.served import Adapting, Windows
from squeeze.score.tokenizer import ByteTable, Text, Tokens, textless
from squeeze.score.window import Score
from squeeze.subject.script import load_script
from squeeze.subject.shims import shimmed
from squeeze.subject.source import ModelSource
from squeeze.subject.subject import Subject
from squeeze.subject.whole import WholeForward
from squeeze.train.fields import settings
from squeeze.train.model.gpt import GPT


def scorer(subject: Subject, mode: Mode) -> Windows | Adapting:
    """Return the scorer that answers an auditor about a model in a mode.

    Raises BadConfig for a mode that does not score in the order of the text, and as `scoring_of`.
    """
    if not mode.facts.in_order:
        raise BadConfig(
            "phased training scores the longest documents first",
            expected="a mode that scores in order",
            found=mode.name,
            fix="Audit ttt-lora; `squeeze eval` checks the ledger of phased training.",
        )
    scoring, options = scoring_of(mode, subject), mode.options(subject.length)
    own = isinstance(subject.module, GPT)
    model = cast(GPT, subject.module if own else WholeForward(subject))

    def score(tokens: Tokens, table: ByteTable) -> Score:
        documents = document_spans(tokens, model.config.bos_id)
        table = table if own else padded_table(table, subject.vocab_size)
        table = textless(table, model.config.bos_id) if mode.facts.by_document else table
        return scoring.score(Text(tokens, table), documents, None, SILENT)[0]

    served: Windows | Adapting
    if isinstance(scoring, LearningScoring):
        learning = scoring

        def predictor(targets: int) -> Predictor:
            return learning.predictor(Extent(1, targets, 1))

        served = Adapting(model, score, scoring.chunk, predictor, mode.facts.by_document)
    else:
        assert isinstance(options, WindowOptions | SlidingOptions)  # of all modes that do not learn
        served = Windows(model, score, options.length, options.stride, mode.facts.by_document)
    if mode.facts.by_document:
        served.shape["bos"] = model.config.bos_id
    return served


def open_subject(model: Path | None, adapter: str | None, shim: bool) -> Subject:
    """Return the model of a file or folder, or that of a script with the weights of a file.

    Raises as `ModelSource.open` and `load_script`.
    """
    if adapter is None:
        assert model is not None
        return ModelSource(model).open().subject
    # the script may import the submission's files; installed modules come first
    sys.path.append(os.getcwd())
    notes: list[str] = []
    with shimmed(notes, Path.cwd()) if shim else contextlib.nullcontext():
        if model is None:
            return load_script(adapter, shim=shim)
        return ModelSource(model, adapter, shim).open().subject


def main() -> None:
    """Load a model, then answer on stdin and stdout until the pipe closes."""
    parser = argparse.ArgumentParser(prog="python -m squeeze.score.serving.serve")
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--adapter", metavar="FILE.py:NAME", help="script of the model")
    parser.add_argument("--shim", action="store_true", help="replace kernels that it lacks")
    parser.add_argument("--mode", choices=MODES, default="window")
    parser.add_argument("--length", type=int, help="tokens read at once; default: the model's")
    parser.add_argument("--stride", type=int, help="windows move by this")
    parser.add_argument("--ttt", action="append", default=[], help="name=value of a ttt mode")
    options = parser.parse_args()
    if options.model is None and options.adapter is None:
        parser.error("a model or --adapter is needed")
    torch.set_num_threads(1)
    mode = Mode(options.mode, options.length, options.stride, settings(options.ttt, "--ttt"))
    # what a script prints, its native code included, is no answer
    replies = os.dup(1)
    os.dup2(2, 1)
    try:
        served = scorer(open_subject(options.model, options.adapter, options.shim), mode)
    except SqueezeError as error:
        sys.exit(str(error))
    os.dup2(replies, 1)
    os.close(replies)
    protocol.serve(served)


if __name__ == "__main__":
    main()
