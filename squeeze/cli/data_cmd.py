"""`squeeze data`: shards of the challenge, shards of other text, and tokenizers. Parses only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import THREADS, Whole, json_option
from squeeze.cli.parsing.command import Command
from squeeze.cli.parsing.values import Shards, shard_paths, shards_option

FILE = click.Path(path_type=Path)


@click.group("data")
def command() -> None:
    """Fetch, make and check token shards; train tokenizers.

    \b
    Example:
      squeeze data fetch sp1024 -o data --train-shards 10
      squeeze data tokenizer pages.jsonl -o my.model --vocab 1024
      squeeze data tokenize pages.jsonl --tokenizer my.model -o shards
      squeeze data check shards/train_*.bin --val shards/val_000000.bin
    """


def unescaped(text: str) -> str:
    r"""Return text with its escapes \n, \r, \t, \0 and \\ read, which a shell leaves as they are."""
    characters = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "\\": "\\"}
    return re.sub(r"\\([nrt0\\])", lambda match: characters[match[1]], text)


def _text_options(function: Any) -> Any:
    """Add the options of the readers of text."""
    function = click.option(
        "--field", default="text", show_default=True, help="Of JSON objects and Parquet rows."
    )(function)
    function = click.option(
        "--separator",
        callback=lambda ctx, param, text: None if text is None else unescaped(text),
        help=r"Between documents of plain text, such as '\n\n'.  [default: a file is a document]",
    )(function)
    return click.argument("text", type=FILE, nargs=-1, required=True)(function)


@command.command(
    "fetch", cls=Command, short_help="Fetch the challenge's FineWeb shards and a tokenizer."
)
@click.argument("variant")
@click.option("-o", "--out", type=FILE, default=Path("data"), show_default=True, help="Folder.")
@click.option("--train-shards", type=Whole(min=0), metavar="N", help="Only the first N.")
@click.option("--from", "origin", metavar="DIR|URL", help="A copy, instead of the Hub.")
@click.option(
    "--repo",
    "repository",
    default="willdepueoai/parameter-golf",
    show_default="the challenge's",
    help="Data set repository of the Hub.",
)
@click.option("--revision", default="main", show_default=True, help="Branch, tag or commit.")
@click.option("--verify", is_flag=True, help="Hash the files that are already there, too.")
@json_option
def fetch_command(variant: str, out: Path, as_json: bool, **options: Any) -> None:
    """Fetch the challenge's FineWeb shards and tokenizer of VARIANT (sp1024, sp4096, sp8192, …).

    The whole validation set, and all training shards unless told otherwise. A fetch that was cut off
    goes on where it stopped; each file is compared with the source's SHA-256 where it has one.

    \b
    Example:
      squeeze data fetch sp1024 --train-shards 10
      squeeze data fetch sp8192 -o data --from https://mirror.example/datasets
    """
    from squeeze.cli.runs.data import run_fetch
    from squeeze.data.fetch import FetchOptions

    run_fetch(variant, out, FetchOptions(**options), as_json)


@command.command("tokenize", cls=Command, short_help="Make shards of text.")
@_text_options
@click.option("--tokenizer", type=FILE, required=True, help="Sentencepiece model.")
@click.option("-o", "--out", type=FILE, required=True, help="Folder of the shards.")
@click.option(
    "--val-share", "share", default=0.01, show_default=True, help="Documents for validation."
)
@click.option("--shard-tokens", default=100_000_000, show_default=True, help="Shard length.")
@click.option("--threads", type=THREADS, default=1, show_default=True)
@json_option
def tokenize_command(
    text: tuple[Path, ...],
    separator: str | None,
    field: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Make shards of TEXT: .txt, .jsonl (also .gz, .xz, .bz2) or .parquet files.

    A hash of its text decides on which side a document goes, so no document can be on both. A killed
    run goes on, and ends with the same shards.

    \b
    Example:
      squeeze data tokenize pages.jsonl.gz --tokenizer my.model -o shards --val-share 0.005
    """
    from squeeze.cli.runs.data import run_tokenize
    from squeeze.data.documents import TextFiles
    from squeeze.data.tokenize import ShardOptions

    tokenizer, out = options.pop("tokenizer"), options.pop("out")
    texts = TextFiles(text, separator, field)
    run_tokenize(texts, tokenizer, out, ShardOptions(**options), as_json)


@command.command("check", cls=Command, short_help="Check shards, and validation text in training.")
@click.argument("train", type=Shards(), nargs=-1)
@shards_option("--val", "validation", help="Validation shards; repeatable.")
@click.option("--tokenizer", type=FILE, help="Its number of pieces bounds the tokens.")
@click.option("--bos", type=Whole(min=0), help="Begins a document  [the tokenizer's, or 1]")
@json_option
def check_command(
    train: tuple[str, ...],
    validation: tuple[Path, ...],
    tokenizer: Path | None,
    bos: int | None,
    as_json: bool,
) -> None:
    """Check shards: headers, counts, tokens, documents, and validation text in TRAIN.

    Exits with 1 when something is wrong. Documents of 64 tokens or more are compared, whole and by
    runs of 16 tokens.

    \b
    Example:
      squeeze data check train_*.bin --val val_000000.bin --tokenizer my.model
    """
    if not train and not validation:
        raise click.UsageError("Name shards to check.")
    from squeeze.cli.runs.data import run_check

    run_check(shard_paths(train), validation, tokenizer, bos, as_json)


@command.command("tokenizer", cls=Command, short_help="Train a tokenizer like the challenge's.")
@_text_options
@click.option("-o", "--out", type=FILE, required=True, help="Sentencepiece model to write.")
@click.option("--vocab", type=Whole(min=1), default=1024, show_default=True, help="Pieces.")
@click.option("--max-bytes", type=Whole(min=1), help="Use only so much text.")
@json_option
def tokenizer_command(
    text: tuple[Path, ...],
    separator: str | None,
    field: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a tokenizer like the challenge's on TEXT: BPE with byte fallback, text left as it is.

    The same text gives the same file.

    \b
    Example:
      squeeze data tokenizer pages.jsonl -o my.model --vocab 4096 --max-bytes 200000000
    """
    from squeeze.cli.runs.data import run_tokenizer
    from squeeze.data.documents import TextFiles

    texts = TextFiles(text, separator, field)
    run_tokenizer(texts, options["out"], options["vocab"], options["max_bytes"], as_json)
