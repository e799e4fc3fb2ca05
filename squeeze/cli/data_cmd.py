"""`squeeze data`: shards of the challenge, shards of other text, and tokenizers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import json_option, print_json, progress, stage_bars

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


def _text_options(function: Any) -> Any:
    """What the readers of text take."""
    function = click.option(
        "--field", default="text", show_default=True, help="Of JSON objects and Parquet rows."
    )(function)
    function = click.option(
        "--separator", help="Between documents of plain text.  [default: a file is a document]"
    )(function)
    return click.argument("text", type=FILE, nargs=-1, required=True)(function)


@command.command("fetch", short_help="Fetch the challenge's FineWeb shards and a tokenizer.")
@click.argument("variant")
@click.option("-o", "--out", type=FILE, default=Path("data"), show_default=True, help="Folder.")
@click.option("--train-shards", type=click.IntRange(min=0), metavar="N", help="Only the first N.")
@click.option("--from", "place", metavar="DIR|URL", help="A copy, instead of the Hub.")
@click.option("--repo", help="Data set repository of the Hub.  [default: the challenge's]")
@click.option("--revision", default="main", show_default=True, help="Branch, tag or commit.")
@click.option("--verify", is_flag=True, help="Hash the files that are already there, too.")
@json_option
def fetch_command(
    variant: str,
    out: Path,
    train_shards: int | None,
    place: str | None,
    repo: str | None,
    revision: str,
    verify: bool,
    as_json: bool,
) -> None:
    """Fetch the challenge's FineWeb shards and tokenizer of VARIANT (sp1024, sp4096, sp8192, …).

    The whole validation set, and all training shards unless told otherwise. A fetch that was cut off
    goes on where it stopped; each file is compared with the source's SHA-256 where it has one.

    \b
    Example:
      squeeze data fetch sp1024 --train-shards 10
      squeeze data fetch sp8192 -o data --from https://mirror.example/datasets
    """
    from squeeze.data.fetch import REPOSITORY, fetch

    with stage_bars(as_json) as on_file:
        report = fetch(
            out, variant, train_shards, place, repo or REPOSITORY, revision, verify, on_file
        )
    if as_json:
        print_json(report)
        return
    for side in ("train", "validation"):
        part = report[side]
        canonical = {True: ", the official total", False: ", NOT the official total"}
        note = canonical.get(part.get("canonical"), "")
        click.echo(f"{side:<11}{part['shards']:>5} shards{part['tokens']:>16,} tokens{note}")
    checked = len(report["checked_against_source"])
    click.echo(
        f"{report['fetched']} files fetched, {report['kept']} kept, {checked} of "
        f"{len(report['sha256'])} compared with a checksum of {report['source']}"
    )


@command.command("tokenize", short_help="Make shards of text.")
@_text_options
@click.option("--tokenizer", type=FILE, required=True, help="Sentencepiece model.")
@click.option("-o", "--out", type=FILE, required=True, help="Folder of the shards.")
@click.option("--val-share", default=0.01, show_default=True, help="Documents for validation.")
@click.option("--shard-tokens", default=100_000_000, show_default=True, help="Shard length.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@json_option
def tokenize_command(
    text: tuple[Path, ...],
    separator: str | None,
    field: str,
    tokenizer: Path,
    out: Path,
    val_share: float,
    shard_tokens: int,
    threads: int,
    as_json: bool,
) -> None:
    """Make shards of TEXT: .txt, .jsonl (also .gz, .xz, .bz2) or .parquet files.

    A hash of its text decides on which side a document goes, so no document can be on both. A killed
    run goes on, and ends with the same shards.

    \b
    Example:
      squeeze data tokenize pages.jsonl.gz --tokenizer my.model -o shards --val-share 0.005
    """
    from squeeze.data.tokenize import tokenize

    with progress("tokenizing", as_json) as update:
        report = tokenize(
            text, tokenizer, out, val_share, shard_tokens, separator, field, threads, update
        )
    if as_json:
        print_json(report)
        return
    for side, part in report.items():
        click.echo(
            f"{side:<6}{len(part['shards']):>4} shards{part['documents']:>12,} documents"
            f"{part['tokens']:>15,} tokens{part['text_bytes']:>16,} bytes of text"
        )


@command.command("check", short_help="Check shards, and validation text in training.")
@click.argument("train", type=FILE, nargs=-1)
@click.option("--val", "validation", type=FILE, multiple=True, help="Validation shard; repeatable.")
@click.option("--tokenizer", type=FILE, help="Its number of pieces bounds the tokens.")
@click.option("--bos", type=click.IntRange(min=0), default=1, show_default=True)
@json_option
def check_command(
    train: tuple[Path, ...],
    validation: tuple[Path, ...],
    tokenizer: Path | None,
    bos: int,
    as_json: bool,
) -> None:
    """Check shards: headers, counts, tokens, documents, and validation text in TRAIN.

    Exits with 1 when something is wrong. Documents of 64 tokens or more are compared, whole and by
    runs of 16 tokens.

    \b
    Example:
      squeeze data check train_*.bin --val val_000000.bin --tokenizer my.model
    """
    from squeeze.data.check import check_shards
    from squeeze.score.tokenizer import Tokenizer

    if not train and not validation:
        raise click.UsageError("Name shards to check.")
    vocab_size = Tokenizer(tokenizer).vocab_size if tokenizer else None
    with progress("comparing shards", as_json) as update:
        report = check_shards(train, validation, vocab_size, bos, update)
    if as_json:
        print_json(report)
    else:
        _print_check(report)
    if report["problems"]:
        sys.exit(1)


@command.command("tokenizer", short_help="Train a tokenizer like the challenge's.")
@_text_options
@click.option("-o", "--out", type=FILE, required=True, help="Sentencepiece model to write.")
@click.option(
    "--vocab", type=click.IntRange(min=1), default=1024, show_default=True, help="Pieces."
)
@click.option("--max-bytes", type=click.IntRange(min=1), help="Use only so much text.")
@json_option
def tokenizer_command(
    text: tuple[Path, ...],
    separator: str | None,
    field: str,
    out: Path,
    vocab: int,
    max_bytes: int | None,
    as_json: bool,
) -> None:
    """Train a tokenizer like the challenge's on TEXT: BPE with byte fallback, text left as it is.

    The same text gives the same file.

    \b
    Example:
      squeeze data tokenizer pages.jsonl -o my.model --vocab 4096 --max-bytes 200000000
    """
    from squeeze.data.tokenizer import make_tokenizer

    with progress("reading text", as_json) as update:
        report = make_tokenizer(text, out, vocab, max_bytes, separator, field, update)
    if as_json:
        print_json(report)
    else:
        click.echo(
            f"{out}: {report['pieces']:,} pieces, {report['bytes']:,} bytes, from "
            f"{report['documents']:,} documents of {report['text_bytes']:,} bytes"
        )


def _print_check(report: dict[str, Any]) -> None:
    for side in ("train", "validation"):
        for shard in report[side]:
            shortest, median, longest = shard["lengths"]
            begins = "" if shard["starts_with_bos"] else ", begins inside a document"
            click.echo(
                f"{shard['path']}: {shard['tokens']:,} tokens, {shard['documents']:,} documents of "
                f"{shortest} to {longest:,} (median {median:,}){begins}"
            )
    overlap = report["overlap"]
    if overlap is not None:
        click.echo(
            f"validation in training: {overlap['exact']} of {overlap['documents']:,} documents, "
            f"{overlap['near']} nearly; largest share of one {overlap['largest_share']:.1%}"
        )
    for problem in report["problems"]:
        click.echo(f"problem: {problem}", err=True)
    if not report["problems"]:
        click.echo("no problems")
