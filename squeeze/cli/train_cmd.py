"""`squeeze train`: a new model under a wallclock cap, on one process or as many as torchrun starts."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, replace
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from squeeze.cli.options import json_option, print_json
from squeeze.errors import BadData, SqueezeError

if TYPE_CHECKING:
    from squeeze.train.presets import Preset

FILE = click.Path(path_type=Path)


@click.command("train")
@click.option("--data", multiple=True, required=True, help="Token shard or pattern; repeatable.")
@click.option("--out", "-o", type=FILE, required=True, help="Checkpoint (.safetensors) to write.")
@click.option("--preset", default="tiny", show_default=True, help="Model and recipe to start from.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Change one setting.")
@click.option("--config", "config_json", help="Model configuration as JSON, or a file of it.")
@click.option("--budget-seconds", type=click.FloatRange(0), help="Wallclock cap, export included.")
@click.option(
    "--steps", type=click.IntRange(0), help="Step cap; alone, it lifts the wallclock cap."
)
@click.option("--val", type=FILE, help="Shard to score afterwards; needs --tokenizer.")
@click.option("--tokenizer", type=FILE, help="Sentencepiece model; sets the vocabulary size.")
@click.option("--seed", type=int, default=0, show_default=True, help="Weights and batches.")
@click.option("--device", help="cpu or cuda; default: cuda when there is one.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: torch's choice.")
@click.option("--compile", "compiled", is_flag=True, help="Run the model through torch.compile.")
@click.option("--save-every", type=click.FloatRange(0), default=120.0, show_default=True,
              metavar="SECONDS", help="Save the run's state so often; 0: only on SIGTERM.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Continue the run whose state is beside --out.")
@click.option("--tensorboard", type=FILE, metavar="DIR", help="Also log for TensorBoard.")
@click.option("--plot/--no-plot", default=None,
              help="Draw the loss curve (.svg, .png); default: when matplotlib is there.")  # fmt: skip
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    data: tuple[str, ...],
    out: Path,
    config_json: str | None,
    val: Path | None,
    tokenizer: Path | None,
    seed: int,
    device: str | None,
    threads: int | None,
    compiled: bool,
    save_every: float,
    resume: bool,
    tensorboard: Path | None,
    plot: bool | None,
    as_json: bool,
    **choices: Any,
) -> None:
    """Train a model on token shards until its time or steps are used up.

    Beside OUT, under its name: .jsonl (log), .svg and .png (loss), .state (for --resume, while it runs).
    Settings are fields of model and recipe, all listed by `squeeze inspect OUT`. Under torchrun all
    processes share each batch.

    \b
    Example:
      squeeze train --data 'fineweb_train_*.bin' --tokenizer sp1024.model \\
          --preset baseline --set num_layers=6 --budget-seconds 600 -o model.safetensors
    """
    if val is not None and tokenizer is None:
        raise click.UsageError("--val needs --tokenizer, to count bytes.")
    preset = choose(config_json=config_json, tokenizer=tokenizer, **choices)
    paths = shard_paths(data)
    if not out.absolute().parent.is_dir():
        raise SqueezeError(f"{out}: cannot be written", found="no such folder", fix="Create it.")

    import torch

    from squeeze.cli.train_view import Listeners, print_report
    from squeeze.files import held
    from squeeze.ranks.connect import connected
    from squeeze.score.evaluate import evaluate, resolve_device
    from squeeze.train.checkpoint import export_seconds, save_checkpoint
    from squeeze.train.data.shards import map_shard, shard_length
    from squeeze.train.run.clock import check_in_time
    from squeeze.train.run.loop import Run, train

    if val is not None:
        shard_length(val)  # a bad file should not be found only after the training
    shards = [map_shard(path) for path in paths]
    if threads is not None:
        torch.set_num_threads(threads)
    state = out.with_suffix(".state")
    with connected(torch.device(str(resolve_device(device)))) as ranks:
        export = export_seconds(out, preset.model) if ranks.first else 0.0
        views = Listeners(out, tensorboard, plot, as_json, resume)
        if ranks.first:  # until the command ends: state, log and pictures are its own
            ctx.with_resource(held(views.log, "training"))
        run = Run(
            seed=seed,
            ranks=ranks,
            compiled=compiled,
            state=state,
            save_every=save_every,
            resume=resume,
            export_seconds=export,
        )
        with views.open(preset, run, paths) if ranks.first else nullcontext() as on_step:
            result = train(preset.model, shards, preset.recipe, replace(run, on_step=on_step))
        if not ranks.first:
            return
        clock = result.clock
        with clock.stage("export"):
            save_checkpoint(out, preset.model, result.state_dict, preset.recipe,
                            lambda: check_in_time(clock, preset.recipe))  # fmt: skip
    state.unlink(missing_ok=True)
    report: dict[str, Any] = {
        "out": str(out),
        "params": preset.model.num_params,
        "steps": result.steps,
        "tokens_seen": result.tokens_seen,
        "passes": result.tokens_seen / sum(map(len, shards)),
        "seconds": clock.inside(),
        "tokens_per_second": result.tokens_seen / clock.of("training"),
        "final_loss": result.final_loss,
        "seed": seed,
        "device": str(ranks.device),
        "ranks": ranks.world,
        "threads": torch.get_num_threads(),
        "config": asdict(preset.model),
        "recipe": asdict(preset.recipe),
    }
    if val is not None and tokenizer is not None:
        with clock.stage("validation"):
            report["val"] = evaluate(out, tokenizer, [val], device=device)
    report["clock"] = [asdict(row) for row in clock.ledger(preset.recipe)]
    report["files"] = views.finish(report)
    print_json(report) if as_json else print_report(report)


def choose(
    preset: str,
    settings: tuple[str, ...],
    config_json: str | None,
    budget_seconds: float | None,
    steps: int | None,
    tokenizer: Path | None,
) -> Preset:
    """The preset with everything the options change in it; raises BadConfig or BadData."""
    from squeeze.train.model.config import ModelConfig
    from squeeze.train.presets import find_preset

    chosen = find_preset(preset)
    if config_json is not None:
        chosen = replace(chosen, model=ModelConfig.from_json(_text_or_file(config_json)))
    pieces = None
    if tokenizer is not None:
        from squeeze.score.tokenizer import Tokenizer

        pieces = Tokenizer(tokenizer).vocab_size
        if config_json is None:
            chosen = replace(chosen, model=replace(chosen.model, vocab_size=pieces))
    chosen = chosen.with_settings(settings)
    if pieces is not None and chosen.model.vocab_size != pieces:
        raise BadData(
            "the model's vocabulary is not the tokenizer's",
            expected=pieces,
            found=chosen.model.vocab_size,
        )
    limits: dict[str, Any] = {}
    if steps is not None:
        limits |= {"steps": steps, "budget_seconds": 0.0, "reserve_seconds": 0.0}
    if budget_seconds is not None:
        limits["budget_seconds"] = budget_seconds
    return replace(chosen, recipe=replace(chosen.recipe, **limits))


def shard_paths(patterns: tuple[str, ...]) -> list[Path]:
    """Files in the order of the patterns, those of one pattern by name; raises BadData for no match."""
    found: list[Path] = []
    for pattern in patterns:
        matches = [Path(path) for path in sorted(glob(pattern))]
        if not matches:
            raise BadData(f"{pattern}: no such file", expected="a token shard (.bin)")
        found += matches
    return found


def _text_or_file(text: str) -> str | bytes:
    if text.lstrip().startswith("{"):
        return text
    from squeeze.files import read_file

    return read_file(text, 1 << 20)
