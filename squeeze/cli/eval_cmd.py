"""`squeeze eval`: bits per byte of a checkpoint or artifact on token shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import (
    SEED,
    Whole,
    architecture_options,
    json_option,
    mode_options,
    other_tokenizer_option,
    precision_option,
    script_options,
)
from squeeze.cli.parsing.command import Command
from squeeze.cli.parsing.values import shards_option
from squeeze.score.modes import MODES

FILE = click.Path(path_type=Path)


@click.command("eval", cls=Command)
@click.argument("model", type=FILE)
@click.option("--tokenizer", type=FILE, required=True, help="Sentencepiece model, or folder.")
@shards_option("--val", "data", required=True, help="Shards; text files for a folder.")
@mode_options(MODES)
@click.option("--tokens", type=Whole(min=1), metavar="N", help="Score only the first N targets.")
@click.option("--documents", type=Whole(min=1), metavar="N", help="Score only N documents.")
@click.option("--seed", type=SEED, default=0, help="Seed that draws the documents.")
@click.option("--batch", type=Whole(min=1), metavar="N", help="Windows per forward pass.")
@click.option("--device", help="cpu or cuda  [default: cuda where there is one]")
@precision_option()
@script_options
@architecture_options
@other_tokenizer_option
@json_option
def command(**options: Any) -> None:
    """Score MODEL (a checkpoint or .sqz artifact) in bits per byte of text.

    documents, ttt-lora, ttt-phased go by document; torchrun shares the work.

    \b
    Example:
      squeeze eval model.sqz --mode sliding --tokenizer sp1024.model \\
          --val fineweb_val_000000.bin
      squeeze eval model.sqz --mode ttt-lora --ttt lr=0.003 --documents 50 \\
          --tokenizer sp1024.model --val fineweb_val_000000.bin --json
    """
    from squeeze.cli.runs.evaluate import EvalRequest, run

    run(EvalRequest(**options))
