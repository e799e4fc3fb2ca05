"""`squeeze eval`: bits per byte of a checkpoint or artifact on token shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import architecture_options, json_option, progress
from squeeze.cli.terminal.printing import print_json, print_notes, print_rows
from squeeze.score.evaluate import evaluate, resolve_device
from squeeze.score.modes import MODES, Mode
from squeeze.train.fields import settings as read_settings

__all__ = ["command", "evaluate", "resolve_device"]

FILE = click.Path(path_type=Path)


@click.command("eval")
@click.argument("model", type=FILE)
@click.option("--tokenizer", type=FILE, required=True, help="Sentencepiece model of the data.")
@click.option("--data", type=FILE, multiple=True, required=True, help="Token shard; repeatable.")
@click.option(
    "--mode", type=click.Choice(MODES), default="window", show_default=True, help="How to score."
)
@click.option("--length", type=click.IntRange(1, 1 << 20), help="Window.  [default: --seq-len]")
@click.option("--stride", type=click.IntRange(min=1), help="Windows move by this.  [default: 64]")
@click.option(
    "--ttt", "adaptation", multiple=True, metavar="NAME=VALUE", help="An option of a ttt mode."
)
@click.option("--tokens", type=click.IntRange(min=1), metavar="N", help="Only the first N targets.")
@click.option(
    "--documents", type=click.IntRange(min=1), metavar="N", help="Only N documents, by --seed."
)
@click.option("--seed", type=int, default=0, help="Which documents.")
@click.option("--batch", type=click.IntRange(min=1), help="Windows per forward pass.")
@click.option("--device", help="cpu or cuda; default: cuda when there is one.")
@architecture_options
@json_option
def command(
    model: Path,
    tokenizer: Path,
    data: tuple[Path, ...],
    mode: str,
    length: int | None,
    stride: int | None,
    adaptation: tuple[str, ...],
    tokens: int | None,
    documents: int | None,
    seed: int,
    batch: int | None,
    device: str | None,
    architecture: dict[str, Any],
    as_json: bool,
) -> None:
    """Score MODEL (a checkpoint or .sqz artifact) in bits per byte of text, fp32.

    By document: documents, ttt-lora, ttt-phased. Under torchrun the ranks share the work.

    \b
    Example:
      squeeze eval model.sqz --mode sliding --tokenizer sp1024.model \\
          --data fineweb_val_000000.bin
      squeeze eval model.sqz --mode ttt-lora --ttt lr=0.003 --documents 50 \\
          --tokenizer sp1024.model --data fineweb_val_000000.bin --json
    """
    chosen = Mode(mode, length, stride, read_settings(adaptation, "--ttt"))

    import torch

    from squeeze.ranks.connect import connected, own_gpu

    with connected(torch.device("cpu")) as ranks:  # only a few sums are exchanged
        if ranks.world > 1 and device is None and torch.cuda.is_available():
            device = str(own_gpu())
        with progress(f"scoring, {mode}", quiet=as_json or not ranks.first) as update:
            report = evaluate(
                model,
                tokenizer,
                list(data),
                tokens,
                batch,
                device,
                architecture,
                update,
                mode=chosen,
                documents=documents,
                seed=seed,
            )
    if not ranks.first:
        return
    if as_json:
        print_json(report)
    else:
        _print(report)


def _print(report: dict[str, Any]) -> None:
    part = "partial" if report["partial"] else "all of the data"
    kind = f"the official {report['official']} set" if report["official"] else part
    options, seconds = report["options"], report["seconds"]
    rows = {
        "bits per byte": f"{report['bpb']:.6f}",
        "nats per token": f"{report['nats_per_token']:.6f}",
        "targets": f"{report['tokens']:,} of {report['available_tokens']:,}, {kind}",
        "bytes of text": f"{report['bytes']:,}",
        "model": f"{report['model']} ({report['format']}, {report['model_bytes']:,} bytes)",
        "mode": f"{report['mode']} ({_brief(options)})",
        "time": f"{seconds['score']:.1f} s scoring on {report['device']}",
    }
    if "documents" in report:
        rows["documents"] = (
            f"{report['documents']:,}; with their ends {report['bpb_with_ends']:.6f} bits per byte"
        )
    if "order" in report:
        order = report["order"]
        rows["order"] = f"{order['updates']:,} updates, on {order['used']:,} tokens scored before"
    print_rows(rows)
    print_notes(report["notes"])


def _brief(options: dict[str, Any]) -> str:
    """Options on one line: `length 512, stride 64`."""
    flat = {
        key if inner is None else f"{key}.{inner}": value
        for key, group in options.items()
        for inner, value in (group.items() if isinstance(group, dict) else [(None, group)])
    }
    return ", ".join(
        f"{name} {'+'.join(value) if isinstance(value, tuple) else value}"
        for name, value in flat.items()
    )
