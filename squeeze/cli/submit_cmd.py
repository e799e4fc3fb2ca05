"""`squeeze submit`: a model and a script → the folder that is submitted, checked and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import Finite, Whole, json_option, limit_option
from squeeze.cli.parsing.asked import need, with_asked
from squeeze.cli.parsing.command import Command
from squeeze.cli.parsing.values import Word, shards_option
from squeeze.errors import SqueezeError
from squeeze.ledger.submission import MODEL, SUMS
from squeeze.review.folder import read_folder_claims
from squeeze.score.modes import MODES

FILE = click.Path(path_type=Path)
SERVED = [mode for mode in MODES if mode != "ttt-phased"]


def is_ours(folder: Path) -> bool:
    """Return False for a folder of an entrant: nothing in it says that squeeze wrote it."""
    if any((folder / name).exists() for name in (MODEL, SUMS)):
        return True
    claims = read_folder_claims(folder)
    return claims is not None and "squeeze" in claims.fields


@click.command("submit", cls=Command)
@click.argument("model", type=FILE, required=False)
@click.option("-o", "--out", type=FILE, help="Folder to write.")
@click.option("--force", is_flag=True, help="Replace a submission that is there.")
@click.option("--check", type=FILE, help="Check this folder: run ours, review others.")
@click.option("--tokenizer", type=FILE, help="Sentencepiece model.")
@shards_option("--val", "data", help="Validation shards; repeatable.")
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
    type=Word(SERVED),
    default="window",
    metavar="NAME",
    help="Scoring mode, as in eval  [window].",
)
@click.option("--length", type=Whole(1, 1 << 20), metavar="N", help="Tokens of a window.")
@click.option("--stride", type=Whole(min=1), metavar="N", help="Windows move by this.")
@click.option("--ttt", multiple=True, metavar="NAME=VALUE", help="An option of a ttt mode.")
@click.option(
    "--tokens",
    type=Whole(min=64),
    default=8192,
    metavar="N",
    help="Targets run on  [8192].",
)
@click.option(
    "--seconds",
    type=Finite(min=1),
    default=600.0,
    metavar="X",
    help="Limit of a run  [600].",
)
@limit_option
# as of `squeeze eval`; its page of help has no room for it
@click.option("--other-tokenizer", is_flag=True, hidden=True)
@json_option
def command(**options: Any) -> None:
    """Write the submission folder of MODEL (.sqz); run it before it is done.

    The script is our own, or --script. The folder appears when whole, within --limit (else exit 3),
    and scores in a fresh process what `squeeze eval` does.

    \b
    Example:
      squeeze submit model.sqz -o submission/ --train-run train.json --name Nine \\
          --author "A. Name" --github-id aname --tokenizer sp1024.model --val val.bin
      squeeze submit --check records/track_10min_16mb/2026-04-01_Nine
    """
    if (options["check"] is None) == (options["model"] is None):
        raise click.UsageError("Give either MODEL to write a submission of, or --check FOLDER.")
    folder = options["check"]
    if folder is not None and not folder.is_dir():
        raise SqueezeError(f"{folder}: cannot be checked", expected="a submission folder")
    if folder is not None and not is_ours(folder):
        from squeeze.cli.runs.review import ReviewRequest, run_review

        run_review(ReviewRequest(folder, None, None, options["limit"], options["as_json"]))
        return
    if options["model"] is not None:
        options = with_asked(options, [options["model"]])
    need(options, "tokenizer", "data")
    from squeeze.cli.runs.submit import SubmitRequest, run

    run(SubmitRequest(**options))
