"""`squeeze submit`: a model and a script → the folder that is submitted, checked and run."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from squeeze.cli.options import json_option, limit_option, print_json, stage_bars
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
@click.option("--check", type=FILE, metavar="FOLDER", help="Only check and run this folder.")
@click.option("--force", is_flag=True, help="Replace the submission that is there.")
@click.option("--tokenizer", type=FILE, required=True, help="Sentencepiece model of the data.")
@click.option("--data", type=FILE, multiple=True, required=True, help="Validation shard.")
@click.option("--script", type=FILE, help="Ships as train_gpt.py.")
@click.option(
    "--scorer", metavar="COMMAND", help="Speaks docs/protocol.md  [train_gpt.py --serve]."
)
@click.option("--evaluate", metavar="COMMAND", help="Prints `val_bpb: X`; run too, if given.")
@click.option("--file", "files", type=FILE, multiple=True, help="Ships as well; repeatable.")
@click.option("--log", "logs", type=FILE, multiple=True, help="Log of a training; repeatable.")
@click.option(
    "--seed-run", "seed_runs", multiple=True, metavar="[SEED=]FILE", help="Report of eval."
)
@click.option("--train-run", "trainings", type=FILE, multiple=True, help="Report of train --json.")
@click.option(
    "--parent", "parents", type=FILE, multiple=True, help="Submission or model it is from."
)
@click.option("--name", help="Of the submission.")
@click.option("--author", "authors", multiple=True, help="Repeatable.")
@click.option("--github-id", help="Who opens the pull request.")
@click.option("--blurb", default="", help="A sentence or two on it.")
@click.option("--assistance", multiple=True, help="Help that was had; repeatable.")
@click.option("--date", help="ISO date.  [default: today]")
@click.option("--mode", type=click.Choice(SERVED), default="window", show_default=True)
@click.option("--length", type=click.IntRange(1, 1 << 20), help="Window.")
@click.option("--stride", type=click.IntRange(min=1), help="Windows move by this.")
@click.option("--ttt", multiple=True, metavar="NAME=VALUE", help="An option of a ttt mode.")
@click.option("--tokens", type=click.IntRange(min=64), default=8192, show_default=True,
              metavar="N", help="Run it on the first N targets.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(min=1), default=600.0, show_default=True,
              help="For each run.")  # fmt: skip
@click.option("--memory", type=click.FloatRange(min=0), default=8.0, show_default=True,
              metavar="GIB", help="Of a run; 0: no limit, as CUDA needs.")  # fmt: skip
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
    memory: float,
    limit: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Write the submission of MODEL (.sqz), and run it before it is called done.

    The folder holds code, model, README, submission.json, seeds, logs, requirements and hashes. It
    appears only when every check passed: no links or paths, under --limit (else exit 3), and, in a fresh
    process with nothing else in sight, the score of `squeeze eval` to 1e-6.

    \b
    Example:
      squeeze submit model.sqz -o submission/ --script train_gpt.py \\
          --tokenizer sp1024.model --data fineweb_val_000000.bin \\
          --name "Trellis 9x512" --author "A. Name" --github-id aname
    """
    if (check is None) == (model is None):
        raise click.UsageError("Give either MODEL to write a submission of, or --check FOLDER.")

    from squeeze.score.audit.sandbox import Limits
    from squeeze.submit.check import check_submission

    limits = Limits(report_seconds=seconds, memory=int(memory * 2**30) or None)
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
              "--github-id": options["github_id"], "--script": options["script"]}  # fmt: skip
    missing = [name for name, value in needed.items() if not value]
    if missing:
        raise click.UsageError(f"Missing {', '.join(missing)}.")

    from squeeze.submit.claims import COMMANDS, About
    from squeeze.submit.write import SCORER, Parts, write_submission

    named = {name: options[name] for name in PARTS}
    named |= {name: shlex.split(options[name] or "") for name in COMMANDS}
    if not any(named[name] for name in COMMANDS):
        named["scorer"] = SCORER
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
    for name, value in rows.items():
        click.echo(f"{name:<{width}}{value}")
    names = ", ".join([*claims["files"], "README.md", "submission.json", "SHA256SUMS"])
    click.echo(f"{'wrote' if written else 'checked'} {done.folder}: {names}")
