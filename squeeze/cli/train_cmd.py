"""`squeeze train`: a new model under a wallclock cap, on one process or as many as torchrun starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import SEED, THREADS, Finite, Whole, json_option, other_tokenizer_option
from squeeze.cli.parsing.command import Command
from squeeze.cli.parsing.values import TrainingPreset, shards_option

FILE = click.Path(path_type=Path)


@click.command("train", cls=Command)
@shards_option("--data", required=True, help="Training shards or a pattern; repeatable.")
@click.option("--out", "-o", type=FILE, required=True, help="Checkpoint (.safetensors) to write.")
@click.option(
    "--preset",
    type=TrainingPreset(),
    default="tiny",
    show_default=True,
    help="Model and recipe to start from.",
)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Change one setting.")
@click.option("--config", "config_json", help="Model configuration as JSON, or a file of it.")
@click.option("--budget-seconds", type=Finite(0), help="Wallclock cap; it includes the export.")
@click.option("--steps", type=Whole(0), help="Step cap; alone, it lifts the wallclock cap.")
@shards_option("--val", help="Shards to score afterwards; needs --tokenizer.")
@click.option("--tokenizer", type=FILE, help="Sentencepiece model; sets vocab_size and bos_id.")
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="Seed of weights and batches."
)
@click.option("--device", help="cpu or cuda  [default: cuda where there is one]")
@click.option("--threads", type=THREADS, help="CPU threads  [default: torch's choice]")
@click.option(
    "--compile/--no-compile",
    "compiled",
    default=None,
    help="Run the model through torch.compile  [default: on a GPU]",
)
@click.option(
    "--save-every",
    type=Finite(0),
    metavar="SECONDS",
    help="Time between saves of the run's state; 0: on SIGTERM only  "
    "[default: 0 under a wallclock cap, else 120]",
)
@click.option("--resume", is_flag=True, help="Continue the run whose state is beside --out.")
@click.option("--tensorboard", type=FILE, metavar="DIR", help="Also log for TensorBoard.")
@click.option("--wandb", metavar="PROJECT", help="Also log to Weights & Biases.")
@click.option(
    "--plot/--no-plot",
    default=None,
    help="Draw the loss curve (.svg, .png)  [default: where matplotlib is installed]",
)
@other_tokenizer_option
@json_option
def command(**options: Any) -> None:
    """Train a model on token shards until its time or its steps are used up.

    Beside OUT, under its name: .jsonl (log), .svg and .png (loss), .state (for --resume, while it
    runs). `squeeze inspect OUT` lists all settings of model and recipe. Under torchrun the processes
    share each batch.

    \b
    Example:
      squeeze train --data 'fineweb_train_*.bin' --tokenizer sp1024.model \\
          --preset baseline --set num_layers=6 --budget-seconds 600 -o model.safetensors
    """
    if options["val"] and options["tokenizer"] is None:
        raise click.UsageError("--val needs --tokenizer, to count bytes.")
    from squeeze.cli.runs.train import TrainRequest, run

    run(TrainRequest(**options))
