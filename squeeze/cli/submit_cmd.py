"""`squeeze submit`: a model and a script → the folder that is submitted, checked and run."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from squeeze.cli.options import json_option, limit_option, stage_bars
from squeeze.cli.terminal.printing import print_json, print_line, print_rows
from squeeze.score.modes import MODES, Mode
from squeeze.train.fields import settings as read_settings

if TYPE_CHECKING:
    from squeeze.submit.check import Checked

FILE = click.Path(path_type=Path)
PARTS = ("script", "files", "logs", "seed_runs", "trainings", "parents")
SERVED = [mode for mode in MODES if mode != "ttt-phased"]


@click.command("submit")
@click.argument("model", type=FILE, required=False)
@click.option("-o", "--out", type=FILE, help="Folder to write.")
@click.option("--force", is_flag=True, help="Replace the submission that is there.")
@click.option("--check", type=FILE, help="Write nothing: check and run this folder.")
@click.option("--tokenizer", type=FILE, required=True, help="Sentencepiece model.")
@click.option(
    "--data", type=FILE, multiple=True, required=True, help="Validation shard; repeatable."
)
@click.option("--train-run", "trainings", type=FILE, multiple=True,
              help="`train --json`, or its checkpoint.")  # fmt: skip
@click.option("--seed-run", "seed_runs", multiple=True, metavar="[SEED=]FILE",
              help="`eval --json`, or the script's log.")  # fmt: skip
@click.option("--log", "logs", type=FILE, multiple=True, help="Log to put in; repeatable.")
@click.option("--parent", "parents", type=FILE, multiple=True,
              help="Submission or model it comes from.")  # fmt: skip
@click.option("--name", help="Of the submission.")
@click.option("--author", "authors", multiple=True, help="Repeatable.")
@click.option("--github-id", metavar="ID", help="Of who submits it.")
@click.option("--blurb", default="", metavar="TEXT", help="What it is, in a sentence or two.")
@click.option("--assistance", multiple=True, metavar="TEXT", help="Help that was had; repeatable.")
@click.option("--date", help="ISO date  [today].")
@click.option("--script", type=FILE, help="Your own train_gpt.py.")
@click.option("--file", "files", type=FILE, multiple=True, help="What ships with it; repeatable.")
@click.option("--run", "commands", multiple=True, metavar="COMMAND",
              help="How it scores  [python train_gpt.py --serve].")  # fmt: skip
@click.option("--mode", type=click.Choice(SERVED), default="window", metavar="NAME",
              help="Of scoring, as in eval  [window].")  # fmt: skip
@click.option("--length", type=click.IntRange(1, 1 << 20), metavar="N", help="Window.")
@click.option("--stride", type=click.IntRange(min=1), metavar="N", help="Windows move by this.")
@click.option("--ttt", multiple=True, metavar="NAME=VALUE", help="An option of a ttt mode.")
@click.option("--tokens", type=click.IntRange(min=64), default=8192, metavar="N",
              help="Run it on the first N targets  [8192].")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(min=1), default=600.0, metavar="X",
              help="A run may take so long  [600].")  # fmt: skip
@limit_option
@json_option
def command(
    model: Path | None,
    out: Path | None,
    check: Path | None,
    tokenizer: Path,
    data: tuple[Path, ...],
    tokens: int,
    seconds: float,
    limit: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Write the submission folder of MODEL (.sqz); run it before it is done.

    The script is our own for the model's configuration and recipe, or --script. The folder appears
    when it is whole, within --limit (else exit 3), and scores, alone in a fresh process, what
    `squeeze eval` does.

    \b
    Example:
      squeeze submit model.sqz -o submission/ --train-run train.json --name Nine \\
          --author "A. Name" --github-id aname --tokenizer sp1024.model --data val.bin
    """
    if (check is None) == (model is None):
        raise click.UsageError("Give either MODEL to write a submission of, or --check FOLDER.")

    import torch

    from squeeze.score.audit.sandbox import Limits
    from squeeze.submit.check import check_submission

    # CUDA reserves more addresses than any limit
    memory = None if torch.cuda.is_available() else Limits.memory
    limits = Limits(report_seconds=seconds, memory=memory)
    with stage_bars(as_json) as on_stage:
        if check is not None:
            done = check_submission(
                check, tokenizer=tokenizer, data=data, tokens=tokens, limit=limit, limits=limits,
                on_stage=on_stage,
            )  # fmt: skip
        else:
            assert model is not None
            given = {"tokens": tokens, "limit": limit, "limits": limits}
            done = _write(model, out, tokenizer, data, given, options, on_stage)
    print_json(done.as_json()) if as_json else _print(done, written=check is None)


def _write(
    model: Path,
    out: Path | None,
    tokenizer: Path,
    data: tuple[Path, ...],
    given: dict[str, Any],
    options: dict[str, Any],
    on_stage: Callable[[str], Callable[..., None]],
) -> Checked:
    needed = {"--out": out, "--name": options["name"], "--author": options["authors"],
              "--github-id": options["github_id"]}  # fmt: skip
    missing = [name for name, value in needed.items() if not value]
    if missing:
        raise click.UsageError(f"Missing {', '.join(missing)}.")

    from squeeze.submit.claims import About
    from squeeze.submit.write import SCORER, Parts, write_submission

    commands = [shlex.split(text) for text in options["commands"]] or [list(SCORER)]
    named = {name: options[name] for name in PARTS}
    # one that serves speaks docs/protocol.md, another prints its score
    named |= {"scorer" if "--serve" in words else "evaluate": words for words in commands}
    named |= {} if any("--serve" in words for words in commands) else {"scorer": None}
    about = {"name": options["name"], "authors": options["authors"], "blurb": options["blurb"],
             "github_id": options["github_id"], "assistance": options["assistance"]}  # fmt: skip
    about |= {"date": options["date"]} if options["date"] else {}
    assert out is not None
    return write_submission(
        out,
        model,
        Parts(**named),
        About(**about),
        tokenizer=tokenizer,
        data=data,
        mode=Mode(options["mode"], options["length"], options["stride"],
                  read_settings(options["ttt"], "--ttt")),
        force=options["force"],
        on_stage=on_stage,
        **given,
    )  # fmt: skip


def _print(done: Checked, written: bool) -> None:
    claims, limit = done.claims, done.claims["limit"]
    counts = done.totals.named()
    rows = {
        "bits per byte": f"{claims['val_bpb']:.6f}, {claims['score']['tokens']:,} targets",
        **{
            f"bytes, {name}": f"{total.bytes:,}, {total.verdict(limit)}"
            if total.bytes
            else "unknown"
            for name, total in counts.items()
        },
        "squeeze eval": f"{done.bpb:.9f} on {done.targets:,} of {done.available:,} targets",
    }
    if "val_bpb_mean" in claims:
        mean, sd, n = claims["val_bpb_mean"], claims["val_bpb_std"], len(claims["seeds"])
        rows["seeds"] = f"{mean:.6f} ± {sd:.6f}, {n} of them"
    for run in done.runs:
        shown = " ".join(run.command)
        rows[shown] = f"{run.bpb:.9f} in a fresh process, {run.seconds:.1f} s, {run.isolation}"
    width = 2 + max(map(len, rows))
    print_rows(rows, width)
    names = ", ".join([*claims["files"], "README.md", "submission.json", "SHA256SUMS"])
    print_line(f"{'wrote' if written else 'checked'} {done.folder}: {names}")
