"""Runs `squeeze data`: calls the room and prints its report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from squeeze.cli.bars import Bars
from squeeze.cli.terminal.printing import print_json, print_line, print_notes
from squeeze.data.check import check_shards
from squeeze.data.documents import TextFiles
from squeeze.data.fetch import FetchOptions, fetch
from squeeze.data.tokenize import ShardOptions, tokenize
from squeeze.data.tokenizer import make_tokenizer
from squeeze.files import check_output_folder, check_outputs
from squeeze.score.tokenizer import Tokenizer
from squeeze.train.data.text import BOS

CANONICAL = {True: ", the official total", False: ", NOT the official total"}


def run_fetch(variant: str, out: Path, options: FetchOptions, as_json: bool) -> None:
    """Fetch a variant and print what the folder holds."""
    check_output_folder(out)
    with Bars(as_json) as bars:
        report = fetch(out, variant, options, bars)
    if as_json:
        print_json(report)
        return
    for side in ("train", "validation"):
        part = report[side]
        note = CANONICAL.get(part.get("canonical"), "")
        print_line(f"{side:<11}{part['shards']:>5} shards{part['tokens']:>16,} tokens{note}")
    checked = len(report["checked_against_source"])
    print_line(
        f"{report['fetched']} files fetched, {report['kept']} kept, {checked} of "
        f"{len(report['sha256'])} compared with a checksum of {report['source']}"
    )


def run_tokenize(
    texts: TextFiles, tokenizer: Path, out: Path, options: ShardOptions, as_json: bool
) -> None:
    """Make shards and print their counts."""
    check_output_folder(out)
    with Bars(as_json) as bars:
        report = tokenize(texts, tokenizer, out, options, bars)
    if texts.separator and sum(part["documents"] for part in report.values()) <= len(texts.paths):
        print_notes([f"the separator {texts.separator!r} stands in no file: each is one document"])
    if as_json:
        print_json(report)
        return
    for side, part in report.items():
        print_line(
            f"{side:<6}{len(part['shards']):>4} shards{part['documents']:>12,} documents"
            f"{part['tokens']:>15,} tokens{part['text_bytes']:>16,} bytes of text"
        )
    text, table = (
        sum(part[name] for part in report.values()) for name in ("text_bytes", "table_bytes")
    )
    if text != table:
        share = 100 * (table / max(1, text) - 1)
        print_notes([f"scores count {table:,} bytes, {share:+.3f} %: the tokenizer changes text"])


def run_check(
    train: Sequence[Path],
    validation: Sequence[Path],
    tokenizer: Path | None,
    bos: int | None,
    as_json: bool,
) -> None:
    """Check shards and print their figures and problems; exit with 1 when there are problems."""
    vocab_size = None
    if tokenizer is not None:
        pieces = Tokenizer(tokenizer)
        vocab_size = pieces.vocab_size
        bos = pieces.bos_id if bos is None else bos
    bos = BOS if bos is None else bos
    with Bars(as_json) as bars:
        report = check_shards(train, validation, vocab_size, bos, bars)
    if as_json:
        print_json(report)
    else:
        _print_check(report)
    if report["problems"]:
        sys.exit(1)


def run_tokenizer(
    texts: TextFiles, out: Path, vocab_size: int, max_bytes: int | None, as_json: bool
) -> None:
    """Train a tokenizer and print its figures."""
    check_outputs([out], texts.paths)
    with Bars(as_json) as bars:
        report = make_tokenizer(texts, out, vocab_size, max_bytes, bars)
    if as_json:
        print_json(report)
    else:
        print_line(
            f"{out}: {report['pieces']:,} pieces, {report['bytes']:,} bytes, from "
            f"{report['documents']:,} documents of {report['text_bytes']:,} bytes"
        )


def _print_check(report: dict[str, Any]) -> None:
    """Print a line for each shard, the overlap, and each problem on stderr."""
    for side in ("train", "validation"):
        for shard in report[side]:
            shortest, median, longest = shard["lengths"]
            begins = "" if shard["starts_with_bos"] else ", begins inside a document"
            print_line(
                f"{shard['path']}: {shard['tokens']:,} tokens, {shard['documents']:,} documents of "
                f"{shortest} to {longest:,} (median {median:,}){begins}"
            )
    overlap = report["overlap"]
    if overlap is not None:
        print_line(
            f"validation in training: {overlap['exact']} of {overlap['documents']:,} documents, "
            f"{overlap['near']} nearly; largest share of one {overlap['largest_share']:.1%}"
        )
    print_notes(report["problems"], "problem: ")
    if not report["problems"]:
        print_line("no problems")
