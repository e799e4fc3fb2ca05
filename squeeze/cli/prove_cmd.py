"""`squeeze prove`: text through a packed model and back, as the proof of its score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import (
    SEED,
    THREADS,
    Whole,
    architecture_options,
    json_option,
    mode_options,
    other_tokenizer_option,
    script_options,
)
from squeeze.cli.parsing.command import Command
from squeeze.cli.parsing.values import shards_option
from squeeze.score.modes import PROVABLE

FILE = click.Path(path_type=Path)


@click.command("prove", cls=Command)
@click.argument("model", type=FILE)
@click.option("--tokenizer", type=FILE, required=True, help="Sentencepiece model of the data.")
@shards_option("--val", "data", help="Shards of the text; repeatable.")
@click.option("--documents", type=Whole(min=1), metavar="N", help="Prove on only N documents.")
@click.option(
    "--bytes",
    "text_bytes",
    type=Whole(min=1),
    metavar="N",
    help="Prove on only about N bytes of text.",
)
@click.option("--seed", type=SEED, metavar="N", help="Draw those at random [the first].")
@mode_options(PROVABLE, stride="half the window; 64 for ttt-chunk")
@click.option(
    "--batch",
    type=Whole(min=1),
    metavar="N",
    help="Documents at a time [64; 16 or 1 for ttt].",
)
@click.option(
    "--threads",
    type=THREADS,
    metavar="N",
    help="Threads of torch; the decoder uses as many.",
)
@click.option("--device", metavar="NAME", help="cpu or cuda [cuda, if any].")
@click.option(
    "--decode",
    "encoded",
    type=FILE,
    metavar="FILE",
    help="Only decode this; verify, with --val.",
)
@click.option(
    "-o", "--out", "output", type=FILE, help="Coded file to keep; with --decode, the text."
)
@script_options
@architecture_options
@other_tokenizer_option
@json_option
def command(**options: Any) -> None:
    """Code text with MODEL, decode it in another process, and compare.

    The process gets model, tokenizer and coded file, and what is said of the model. When its text is
    the same to the last byte, the file's size bounds the model's score on that text from above.

    \b
    Example:
      squeeze prove model.sqz --tokenizer sp1024.model \\
          --val fineweb_val_000000.bin --bytes 300000 --seed 1 -o text.sqp
      squeeze prove model.sqz --tokenizer sp1024.model --decode text.sqp --val val.bin
    """
    if not options["data"] and options["encoded"] is None:
        raise click.UsageError("Give --val to prove on, --decode with a file, or both.")
    from squeeze.cli.runs.prove import ProveRequest, run

    run(ProveRequest(**options))
