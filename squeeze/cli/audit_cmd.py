"""`squeeze audit`: run a submission in a box and report every rule."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from squeeze.cli.options import json_option, limit_option
from squeeze.cli.terminal.printing import print_json, print_line
from squeeze.score.modes import MODES, Mode
from squeeze.train.fields import settings

FILE = click.Path(path_type=Path)
SERVED = [mode for mode in MODES if mode != "ttt-phased"]  # which does not score in order


@click.command("audit")
@click.argument("submission", type=FILE)
@click.option("--tokenizer", type=FILE, required=True, help="Sentencepiece model of the data.")
@click.option(
    "--data", type=FILE, multiple=True, required=True, help="Validation shard; repeatable."
)
@click.option("--train-data", type=FILE, multiple=True, help="Training shard; repeatable.")
@click.option(
    "--tokens",
    type=click.IntRange(min=64),
    default=4096,
    show_default=True,
    metavar="N",
    help="Run on the first N targets.",
)
@click.option("--mode", type=click.Choice(SERVED), default="window", show_default=True)
@click.option("--length", type=click.IntRange(min=1), help="Window of a bare artifact.")
@click.option("--stride", type=click.IntRange(min=1), help="Its windows move by this.")
@click.option("--ttt", multiple=True, metavar="NAME=VALUE", help="An option of a ttt mode.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="For one answer.",
)
@click.option(
    "--report-seconds",
    type=click.FloatRange(min=1),
    default=600.0,
    show_default=True,
    help="For one report.",
)
@click.option(
    "--memory",
    type=click.FloatRange(min=0),
    default=8.0,
    show_default=True,
    metavar="GIB",
    help="Address space; 0: no limit, as CUDA needs.",
)
@click.option("--seed", default=0, show_default=True, help="Chooses where futures are flipped.")
@click.option(
    "--markdown", type=FILE, metavar="FILE", help="Also write a section for a pull request."
)
@limit_option
@json_option
def command(
    submission: Path,
    tokenizer: Path,
    data: tuple[Path, ...],
    train_data: tuple[Path, ...],
    tokens: int,
    mode: str,
    length: int | None,
    stride: int | None,
    ttt: tuple[str, ...],
    seconds: float,
    report_seconds: float,
    memory: float,
    seed: int,
    markdown: Path | None,
    limit: int,
    as_json: bool,
) -> None:
    """Check SUBMISSION by running it: a folder that speaks docs/protocol.md, or a .sqz artifact.

    It runs in fresh processes without network and outside files. Every rule of docs/rules.md passes,
    fails or is not checkable, with the evidence. Exits with 1 when a rule fails. --mode and what
    follows it say how to score a bare artifact, as in `squeeze eval`.

    \b
    Example:
      squeeze audit submission/ --tokenizer sp1024.model --data fineweb_val_000000.bin
      squeeze audit model.sqz --mode ttt-lora --ttt chunk=64 --markdown audit.md \\
          --tokenizer sp1024.model --data fineweb_val_000000.bin
    """
    from squeeze.files import write_atomic
    from squeeze.score.audit import Limits, audit, load_data

    result = audit(
        submission,
        load_data(list(data), tokenizer, tokens),
        train_data=train_data,
        validation_data=data,
        limits=Limits(seconds, report_seconds, int(memory * 2**30) or None),
        byte_limit=limit,
        serve_options=_serve_options(mode, length, stride, ttt),
        seed=seed,
        on_stage=None if as_json else _tell,
    )
    if markdown is not None:
        write_atomic(markdown, result.markdown().encode())
    if as_json:
        print_json(result.as_json())
    else:
        from squeeze.views.console import PlainConsole

        console = PlainConsole(log_width=120)
        console.print(result.table())
        console.print(result.summary())
    if result.failures:
        sys.exit(1)


def _serve_options(
    mode: str, length: int | None, stride: int | None, ttt: tuple[str, ...]
) -> list[str]:
    Mode(mode, length, stride, settings(ttt, "--ttt"))  # a wrong combination is the user's error
    named = {"--mode": mode, "--length": length, "--stride": stride}
    given = [part for name, value in named.items() if value for part in (name, str(value))]
    return given + [f"--ttt={option}" for option in ttt]


def _tell(stage: str) -> None:
    if sys.stderr.isatty():
        print_line(f"{stage} …", err=True)
