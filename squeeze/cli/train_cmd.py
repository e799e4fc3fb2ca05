"""`squeeze train`: a new model under a wallclock cap."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from squeeze.cli.options import json_option, print_json
from squeeze.errors import BadConfig, BadData, SqueezeError
from squeeze.train.config import ModelConfig

if TYPE_CHECKING:
    from squeeze.train.loop import Step

FILE = click.Path(path_type=Path)
LOG_EVERY = 10.0  # seconds between lines when stderr is not a terminal

SHAPE_DEFAULTS: dict[str, Any] = {
    "num_layers": 9,
    "model_dim": 512,
    "num_heads": 8,
    "num_kv_heads": 4,
}


@click.command("train")
@click.option("--data", type=FILE, multiple=True, required=True, help="Token shard; repeatable.")
@click.option("--out", "-o", type=FILE, required=True, help="Checkpoint (.safetensors) to write.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Wallclock cap.")
@click.option("--steps", type=click.IntRange(min=1), help="Step cap.")
@click.option("--val", type=FILE, help="Shard to score afterwards; needs --tokenizer.")
@click.option("--tokenizer", type=FILE, help="Sentencepiece model; sets the vocabulary size.")
@click.option("--config", "config_json", help="Model configuration as JSON, or a file of it.")
@click.option("--layers", "num_layers", type=int, help="Blocks.  [default: 9]")
@click.option("--dim", "model_dim", type=int, help="Width.  [default: 512]")
@click.option("--heads", "num_heads", type=int, help="Query heads.  [default: 8]")
@click.option("--kv-heads", "num_kv_heads", type=int, help="Key/value heads.  [default: 4]")
@click.option("--mlp-hidden", type=int, help="MLP width.  [default: 2 × dim]")
@click.option("--seq-len", type=int, help="Window in tokens.  [default: 1024]")
@click.option("--vocab-size", type=int, help="Needed without --tokenizer.")
@click.option("--batch-tokens", type=click.IntRange(min=1), help="Tokens per step.")
@click.option("--seed", type=int, default=0, show_default=True, help="Weights and batches.")
@click.option("--device", help="cpu or cuda; default: cuda when there is one.")
@json_option
def command(
    data: tuple[Path, ...],
    out: Path,
    seconds: float | None,
    steps: int | None,
    val: Path | None,
    tokenizer: Path | None,
    config_json: str | None,
    batch_tokens: int | None,
    seed: int,
    device: str | None,
    as_json: bool,
    **shape: int | None,
) -> None:
    """Train a baseline model on token shards until --seconds (or --steps) are used up.

    \b
    Example:
      squeeze train --data train.bin --tokenizer sp1024.model --out model.safetensors \\
          --seconds 120 --layers 4 --dim 128 --heads 4 --kv-heads 2 --seq-len 256
    """
    if seconds is None and steps is None:
        raise click.UsageError("Give --seconds or --steps.")
    if val is not None and tokenizer is None:
        raise click.UsageError("--val needs --tokenizer, to count bytes.")
    config = _config(config_json, shape, tokenizer)

    from dataclasses import replace

    from squeeze.cli.eval_cmd import evaluate, resolve_device
    from squeeze.train.checkpoint import save_checkpoint
    from squeeze.train.data import read_shards, shard_length
    from squeeze.train.loop import Recipe, train

    recipe = Recipe() if batch_tokens is None else replace(Recipe(), batch_tokens=batch_tokens)
    tokens = read_shards(list(data))
    if val is not None:
        shard_length(val)  # a bad file should not be found only after the training
    if not out.absolute().parent.is_dir():
        raise SqueezeError(f"{out}: cannot be written", found="no such folder", fix="Create it.")
    where = str(resolve_device(device))
    with training_bar(quiet=as_json) as on_step:
        result = train(
            config,
            tokens,
            seconds=seconds,
            steps=steps,
            seed=seed,
            recipe=recipe,
            device=where,
            on_step=on_step,
        )
    save_checkpoint(out, config, result.state_dict)
    report: dict[str, Any] = {
        "out": str(out),
        "params": config.num_params,
        "steps": result.steps,
        "tokens_seen": result.tokens_seen,
        "passes": result.tokens_seen / len(tokens),
        "seconds": result.seconds,
        "tokens_per_second": result.tokens_seen / result.seconds,
        "final_loss": result.final_loss,
        "seed": seed,
        "device": where,
        "config": asdict(config),
        "recipe": asdict(recipe),
    }
    if val is not None and tokenizer is not None:
        report["val"] = evaluate(out, tokenizer, [val], device=device)
    if as_json:
        print_json(report)
    else:
        _print(report)


@contextmanager
def training_bar(quiet: bool = False) -> Iterator[Callable[[Step], None]]:
    """A bar on stderr with loss, speed and time left; plain lines when it is no terminal."""
    if quiet:
        yield lambda step: None
    elif not sys.stderr.isatty():
        yield _line_logger()
    else:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("training", total=1.0, facts="")
            yield lambda step: bar.update(task, completed=step.progress, facts=_facts(step))


def _line_logger() -> Callable[[Step], None]:
    last = time.monotonic()

    def log(step: Step) -> None:
        nonlocal last
        if time.monotonic() - last >= LOG_EVERY:
            last = time.monotonic()
            click.echo(f"training: {_facts(step)}, {step.seconds_left:.0f} s left", err=True)

    return log


def _facts(step: Step) -> str:
    return f"step {step.step}, loss {step.loss:.3f}, {step.tokens_per_second:,.0f} tokens/s"


def _config(
    config_json: str | None, shape: dict[str, int | None], tokenizer: Path | None
) -> ModelConfig:
    """The configuration of --config, or of the shape flags, with the tokenizer's vocabulary."""
    given = {name: value for name, value in shape.items() if value is not None}
    if tokenizer is not None:
        from squeeze.score.tokenizer import Tokenizer

        pieces = Tokenizer(tokenizer).vocab_size
        if given.setdefault("vocab_size", pieces) != pieces:
            raise BadData(
                "tokenizer and --vocab-size differ", expected=given["vocab_size"], found=pieces
            )
    if config_json is not None:
        if set(given) - {"vocab_size"}:
            raise click.UsageError("--config and the shape flags exclude each other.")
        config = ModelConfig.from_json(_text_or_file(config_json))
        if given.get("vocab_size", config.vocab_size) != config.vocab_size:
            raise BadConfig(
                "the vocabulary of --config is not the tokenizer's",
                expected=given["vocab_size"],
                found=config.vocab_size,
            )
        return config
    if "vocab_size" not in given:
        raise click.UsageError("Give --tokenizer or --vocab-size.")
    fields = SHAPE_DEFAULTS | given
    fields.setdefault("mlp_hidden", 2 * fields["model_dim"])
    return ModelConfig.from_fields(fields)


def _text_or_file(text: str) -> str | bytes:
    if text.lstrip().startswith("{"):
        return text
    from squeeze.files import read_file

    return read_file(text, 1 << 20)


def _print(report: dict[str, Any]) -> None:
    rows = {
        "checkpoint": f"{report['out']} ({report['params']:,} weights)",
        "trained": f"{report['steps']:,} steps, {report['tokens_seen']:,} tokens "
        f"({report['passes']:.2f} passes) in {report['seconds']:.1f} s",
        "training loss": f"{report['final_loss']:.4f} nats per token",
    }
    if "val" in report:
        rows["validation"] = f"{report['val']['bpb']:.4f} bits per byte"
    for name, value in rows.items():
        click.echo(f"{name:<16}{value}")
