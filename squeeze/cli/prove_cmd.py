"""`squeeze prove`: text through a packed model and back, as the proof of its score. Parses only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import json_option
from squeeze.score.modes import MODES

FILE = click.Path(path_type=Path)
PROVABLE = ("documents", *(name for name in MODES if name.startswith("ttt-")))


@click.command("prove")
@click.argument("model", type=FILE)
@click.option("--tokenizer", type=FILE, required=True, help="Sentencepiece model of the data.")
@click.option("--data", type=FILE, multiple=True, help="Token shard to prove on; repeatable.")
@click.option("--documents", type=click.IntRange(min=1), metavar="N", help="Only N documents.")
@click.option(
    "--bytes", "size", type=click.IntRange(min=1), metavar="N", help="Only about N bytes of text."
)
@click.option("--seed", type=int, help="Draw those documents at random.  [default: the first]")
@click.option(
    "--mode",
    "mode_name",
    type=click.Choice(PROVABLE),
    default=PROVABLE[0],
    show_default=True,
    help="How to predict, as in eval.",
)
@click.option("--length", type=click.IntRange(min=1), help="Window.  [default: the model's]")
@click.option("--stride", type=click.IntRange(min=1), help="Windows move by this.  [default: half]")
@click.option(
    "--ttt", "adaptation", multiple=True, metavar="NAME=VALUE", help="An option of a ttt mode."
)
@click.option(
    "--batch", type=click.IntRange(min=1), help="Documents at a time.  [default: 64; ttt: 16 or 1]"
)
@click.option("--threads", type=click.IntRange(min=1), help="Of torch; the decoder takes as many.")
@click.option("--device", help="cpu or cuda; default: cuda when there is one.")
@click.option("--decode", "encoded", type=FILE, metavar="FILE", help="Only decode this file.")
@click.option("-o", "--output", type=FILE, help="Keep the file; with --decode, the text.")
@json_option
def command(**options: Any) -> None:
    """Code text with MODEL, decode it in another process, and compare.

    The process gets the model, the tokenizer and the coded file. When its text is the same to the
    last byte, the file's size is an upper bound of the model's score on that text.

    \b
    Example:
      squeeze prove model.sqz --tokenizer sp1024.model \\
          --data fineweb_val_000000.bin --bytes 300000 --seed 1 -o text.sqp
      squeeze prove model.sqz --tokenizer sp1024.model --decode text.sqp -o text.txt
    """
    if bool(options["data"]) == (options["encoded"] is not None):
        raise click.UsageError("Give either --data to prove on, or --decode with a file.")
    from squeeze.cli.runs.prove import ProveRequest, run

    run(ProveRequest(**options))
