"""`squeeze prove`: text through a packed model and back, as the proof of its score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import json_option, progress, stage_bars
from squeeze.cli.terminal.printing import print_json, print_notes, print_rows
from squeeze.score.modes import MODES, Mode
from squeeze.train.fields import settings as read_settings

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
def command(
    model: Path,
    tokenizer: Path,
    data: tuple[Path, ...],
    encoded: Path | None,
    output: Path | None,
    device: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Code text with MODEL, decode it in another process, and compare.

    The process gets the model, the tokenizer and the coded file. When its text is the same to the
    last byte, the file's size is an upper bound of the model's score on that text.

    \b
    Example:
      squeeze prove model.sqz --tokenizer sp1024.model \\
          --data fineweb_val_000000.bin --bytes 300000 --seed 1 -o text.sqp
      squeeze prove model.sqz --tokenizer sp1024.model --decode text.sqp -o text.txt
    """
    if bool(data) == (encoded is not None):
        raise click.UsageError("Give either --data to prove on, or --decode with a file.")
    if encoded is not None:
        report = _decode(model, tokenizer, encoded, output, device, as_json)
    else:
        report = _prove(model, tokenizer, data, output, device, as_json, **options)
    if as_json:
        print_json(report)
    else:
        _print(report)


def _decode(
    model: Path,
    tokenizer: Path,
    encoded: Path,
    output: Path | None,
    device: str | None,
    quiet: bool,
) -> dict[str, Any]:
    from squeeze.score.evaluate import resolve_device
    from squeeze.score.proof.decode import decode_file

    with progress("decoding", quiet) as update:
        where = str(resolve_device(device))
        return decode_file(model, tokenizer, encoded, output, where, update)


def _prove(
    model: Path,
    tokenizer: Path,
    data: tuple[Path, ...],
    output: Path | None,
    device: str | None,
    quiet: bool,
    documents: int | None,
    size: int | None,
    seed: int | None,
    mode_name: str,
    length: int | None,
    stride: int | None,
    adaptation: tuple[str, ...],
    batch: int | None,
    threads: int | None,
) -> dict[str, Any]:
    import torch

    from squeeze.score.evaluate import resolve_device
    from squeeze.score.proof.coding import Submission
    from squeeze.score.proof.predictor import BATCHES, mode_fields, read_mode
    from squeeze.score.proof.prove import prove, select_documents
    from squeeze.train.data.shards import read_shards

    submission = Submission.load(model, tokenizer, resolve_device(device))
    tokens = read_shards(list(data))
    chosen, skipped = select_documents(
        tokens, submission.bos, submission.tokenizer.table, documents, size, seed
    )
    settings = read_settings(adaptation, "--ttt")
    mode = read_mode(mode_fields(Mode(mode_name, length, stride, settings)))
    batch = batch or BATCHES[mode.name]
    threads = torch.get_num_threads() if threads is None else threads
    with stage_bars(quiet) as on_stage:
        report = prove(submission, chosen, mode, batch, threads, output, on_stage)
    selection = {"documents": documents, "bytes": size, "seed": seed}
    return report | {
        "data": [str(path) for path in data],
        "selection": selection,
        "tokens_before_first_bos": skipped,
        "notes": submission.model.notes,
    }


def _print(report: dict[str, Any]) -> None:
    rows = {
        "text": f"{report['text_bytes']:,} bytes, {report['documents']:,} documents, "
        f"{report['tokens']:,} tokens",
    }
    if "file_bytes" in report:
        seconds, speed = report["seconds"], report["tokens_per_second"]
        rows |= {
            "decoded": "identical, in another process",
            "file": f"{report['file_bytes']:,} bytes, header {report['header_bytes']}, "
            f"{report['overhead']:+.4%} of the code length",
            "file bits/byte": f"{report['file_bpb']:.6f}",
            "bits per byte": f"{report['bpb_with_ends']:.6f} computed with ends of documents, "
            f"{report['bpb']:.6f} without; {report['window_bpb']:.6f} in plain windows",
            "encoded in": f"{seconds['encode']:.1f} s, {speed['encode']:,.0f} tokens/s",
            "decoded in": f"{seconds['decode']:.1f} s, {speed['decode']:,.0f} tokens/s",
            "machine": f"{report['machine']}, {report['threads']} threads, "
            f"{report['batch']} documents at a time",
        }
    rows["SHA-256 of text"] = report["sha256"]["text"]
    print_rows(rows, 17)
    print_notes(report.get("notes", ()))
