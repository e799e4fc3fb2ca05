"""`squeeze eval`: bits per byte of a checkpoint or artifact on token shards."""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from squeeze.cli.options import architecture_options, json_option, print_json, progress
from squeeze.errors import BadConfig, BadData

if TYPE_CHECKING:
    import torch

FILE = click.Path(path_type=Path)


@click.command("eval")
@click.argument("model", type=FILE)
@click.option("--tokenizer", type=FILE, required=True, help="Sentencepiece model of the data.")
@click.option("--data", type=FILE, multiple=True, required=True, help="Token shard; repeatable.")
@click.option(
    "--tokens", type=click.IntRange(min=1), metavar="N", help="Score only the first N targets."
)
@click.option("--batch", type=click.IntRange(min=1), help="Windows per forward pass.")
@click.option("--device", help="cpu or cuda; default: cuda when there is one.")
@architecture_options
@json_option
def command(
    model: Path,
    tokenizer: Path,
    data: tuple[Path, ...],
    tokens: int | None,
    batch: int | None,
    device: str | None,
    architecture: dict[str, Any],
    as_json: bool,
) -> None:
    """Score MODEL (a checkpoint or .sqz artifact) in bits per byte of text.

    Non-overlapping windows of --seq-len tokens, fp32; every token after the first is scored once.
    Bytes are counted as the challenge counts them and compared with the decoded text.

    \b
    Example:
      squeeze eval model.sqz --tokenizer sp1024.model --data fineweb_val_000000.bin
      squeeze eval model.pt --mlp-power 3 --seq-len 256 --tokens 131072 \\
          --tokenizer sp1024.model --data fineweb_val_000000.bin --json
    """
    with progress("scoring", quiet=as_json) as update:
        report = evaluate(model, tokenizer, list(data), tokens, batch, device, architecture, update)
    if as_json:
        print_json(report)
    else:
        _print(report)


def evaluate(
    model: Path,
    tokenizer: Path,
    data: list[Path],
    tokens: int | None = None,
    batch: int | None = None,
    device: str | None = None,
    architecture: dict[str, Any] | None = None,
    on_progress: Any = None,
) -> dict[str, Any]:
    """What `squeeze eval` reports, as plain values (see the command for the arguments).

    bpb and nats_per_token; nats (float64 sum), tokens (targets), bytes; partial: fewer targets than
    the data holds; seconds by phase; hashes of every file opened.
    """
    import torch

    from squeeze.checkpoint import load_model
    from squeeze.score.tokenizer import Tokenizer
    from squeeze.score.window import score_windows
    from squeeze.train.data import read_shards, shard_length
    from squeeze.train.model import GPT

    clock = _Clock()
    pieces = Tokenizer(tokenizer)
    available = sum(shard_length(path) for path in data) - 1
    span = read_shards(data, None if tokens is None else tokens + 1)
    if tokens is not None and tokens > available:
        raise BadData(
            "the data is shorter than --tokens", expected=f"≤ {available} targets", found=tokens
        )
    hashes = {str(path): _file_sha256(path) for path in data}
    clock.lap("data")
    loaded = load_model(model, **(architecture or {}))
    gpt = GPT.from_tensors(loaded.config, loaded.tensors).to(resolve_device(device))
    clock.lap("load")
    score = score_windows(gpt, span, pieces.table, loaded.config.seq_len, batch, on_progress)
    clock.lap("score")
    checked = pieces.check_bytes(span[1:])
    clock.lap("check_bytes")
    return {
        "model": str(model),
        "bpb": score.bpb,
        "nats_per_token": score.nats_per_token,
        "nats": score.nats,
        "tokens": score.tokens,
        "bytes": score.bytes,
        "partial": score.tokens < available,
        "available_tokens": available,
        "bytes_checked_against_text": checked,
        "mode": "window",
        "config": asdict(loaded.config),
        "notes": loaded.notes,
        "format": loaded.source,
        "model_bytes": loaded.size,
        "sha256": {"model": loaded.sha256, "tokenizer": pieces.sha256, "data": hashes},
        "torch": torch.__version__,
        "device": str(next(gpt.parameters()).device),
        "threads": torch.get_num_threads(),
        "seconds": clock.laps,
    }


def _print(report: dict[str, Any]) -> None:
    partial = ", partial" if report["partial"] else ""
    config, seconds = report["config"], report["seconds"]
    rows = {
        "bits per byte": f"{report['bpb']:.6f}",
        "nats per token": f"{report['nats_per_token']:.6f}",
        "targets": f"{report['tokens']:,} of {report['available_tokens']:,}{partial}",
        "bytes of text": f"{report['bytes']:,}",
        "model": f"{report['model']} ({report['format']}, {report['model_bytes']:,} bytes)",
        "windows": f"{config['seq_len']:,} tokens, non-overlapping",
        "time": f"{seconds['score']:.1f} s scoring on {report['device']}",
    }
    for name, value in rows.items():
        click.echo(f"{name:<16}{value}")
    for note in report["notes"]:
        click.echo(f"note: {note}", err=True)


def resolve_device(name: str | None) -> torch.device:
    """The torch device of that name; cuda, else cpu, for None. Raises BadConfig if unusable."""
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BadConfig(f"device {name!r} cannot be used", found=str(error)[:100]) from None
    return device


def _file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Clock:
    """Seconds since the last lap, by phase."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.laps[phase] = round(now - self._last, 3)
        self._last = now
