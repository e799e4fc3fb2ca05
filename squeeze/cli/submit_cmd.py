"""`squeeze submit`: a model and a script → the folder that is submitted, checked and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import json_option, limit_option
from squeeze.ledger.submission import MODEL, SUMS
from squeeze.review.folder import read_folder_claims
from squeeze.score.modes import MODES

FILE = click.Path(path_type=Path)
PROFILES = ("squeeze", "challenge")
SERVED = [mode for mode in MODES if mode != "ttt-phased"]


def profile_of(folder: Path) -> str:
    """Return the profile of a folder: that of squeeze when anything in it is ours, or it is none."""
    own = any((folder / name).exists() for name in (MODEL, SUMS))
    if own or not folder.is_dir():
        return "squeeze"
    claims = read_folder_claims(folder)
    return "squeeze" if claims is not None and "squeeze" in claims.fields else "challenge"


@click.command("submit")
@click.argument("model", type=FILE, required=False)
@click.option("-o", "--out", type=FILE, help="Folder to write.")
@click.option("--force", is_flag=True, help="Replace a submission that is there.")
@click.option("--check", type=FILE, help="Write nothing: check and run this folder.")
@click.option(
    "--profile",
    type=click.Choice(PROFILES),
    help="Papers that --check asks for  [those of the folder].",
)
@click.option("--tokenizer", type=FILE, help="Sentencepiece model.")
@click.option("--data", type=FILE, multiple=True, help="Validation shard; repeatable.")
@click.option(
    "--train-run",
    "trainings",
    type=FILE,
    multiple=True,
    help="`train --json`, or its checkpoint.",
)
@click.option(
    "--seed-run",
    "seed_runs",
    multiple=True,
    metavar="[SEED=]FILE",
    help="`eval --json`, or the script's log.",
)
@click.option("--log", "logs", type=FILE, multiple=True, help="Log to put in; repeatable.")
@click.option(
    "--parent",
    "parents",
    type=FILE,
    multiple=True,
    help="Submission or model it comes from.",
)
@click.option("--name", help="Name of the submission.")
@click.option("--author", "authors", multiple=True, help="Author; repeatable.")
@click.option("--github-id", metavar="ID", help="Account that submits it.")
@click.option("--blurb", default="", metavar="TEXT", help="Description, a sentence or two.")
@click.option("--assistance", multiple=True, metavar="TEXT", help="Help the authors had.")
@click.option("--date", help="ISO date  [today].")
@click.option("--script", type=FILE, help="Your own train_gpt.py.")
@click.option("--file", "files", type=FILE, multiple=True, help="File that ships with it.")
@click.option(
    "--run",
    "commands",
    multiple=True,
    metavar="COMMAND",
    help="Scoring  [python train_gpt.py --serve].",
)
@click.option(
    "--mode",
    type=click.Choice(SERVED),
    default="window",
    metavar="NAME",
    help="Scoring mode, as in eval  [window].",
)
@click.option("--length", type=click.IntRange(1, 1 << 20), metavar="N", help="Tokens of a window.")
@click.option("--stride", type=click.IntRange(min=1), metavar="N", help="Windows move by this.")
@click.option("--ttt", multiple=True, metavar="NAME=VALUE", help="An option of a ttt mode.")
@click.option(
    "--tokens",
    type=click.IntRange(min=64),
    default=8192,
    metavar="N",
    help="Run it on the first N targets  [8192].",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=600.0,
    metavar="X",
    help="Limit of a run  [600].",
)
@limit_option
@json_option
def command(**options: Any) -> None:
    """Write the submission folder of MODEL (.sqz); run it before it is done.

    The script is our own for the model's configuration and recipe, or --script. The folder appears
    when it is whole, within --limit (else exit 3), and scores, alone in a fresh process, what
    `squeeze eval` does.

    --check takes folders of entrants, too, which hold no model: what the challenge asks for is
    checked by their papers, as by `squeeze review`, and nothing is run (--profile challenge).

    \b
    Example:
      squeeze submit model.sqz -o submission/ --train-run train.json --name Nine \\
          --author "A. Name" --github-id aname --tokenizer sp1024.model --data val.bin
      squeeze submit --check records/track_10min_16mb/2026-04-01_Nine
    """
    if (options["check"] is None) == (options["model"] is None):
        raise click.UsageError("Give either MODEL to write a submission of, or --check FOLDER.")
    folder, profile = options["check"], options.pop("profile")
    if folder is not None and (profile or profile_of(folder)) == "challenge":
        from squeeze.cli.runs.review import ReviewRequest, run_review

        run_review(ReviewRequest(folder, None, None, options["limit"], options["as_json"]))
        return
    missing = [name for name in ("tokenizer", "data") if not options[name]]
    if missing:
        raise click.UsageError(f"Missing option '--{missing[0]}'.")
    from squeeze.cli.runs.submit import SubmitRequest, run

    run(SubmitRequest(**options))
