"""Runs `squeeze train`: from its options to a checkpoint and a report."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from squeeze.cli.bars import Bars
from squeeze.cli.runs.kernels import use_kernels
from squeeze.cli.runs.train_view import TrainingView, TrainReport, print_report
from squeeze.cli.terminal.printing import print_json, print_notes
from squeeze.errors import BadConfig, BadData
from squeeze.files import check_output_folder, check_outputs, held, read_file, sha256
from squeeze.ranks.group import Ranks
from squeeze.ranks.launched import connected_run
from squeeze.score.evaluate import EvalOptions, evaluate
from squeeze.score.identity import tokenizer_notes
from squeeze.score.tokenizer import Tokenizer
from squeeze.train.checkpoint import export_seconds, save_checkpoint
from squeeze.train.data.identity import tokenizer_of_shard
from squeeze.train.data.shards import map_shard
from squeeze.train.data.validation import check_validation, seen_in_training
from squeeze.train.fields import settings
from squeeze.train.metadata import TOKENIZER_KEY
from squeeze.train.model.config import ModelConfig
from squeeze.train.presets import Preset, find_preset
from squeeze.train.run.clock import check_in_time
from squeeze.train.run.course import StepRecord
from squeeze.train.run.training import RunOptions, Training, TrainResult

SAVE_EVERY = 120.0  # seconds between two saves of a run without a wallclock cap
MAX_CONFIG = 1 << 20  # bytes of a file of the model's configuration


@dataclass(frozen=True)
class TrainRequest:
    """Options of `squeeze train`, each under its name."""

    data: tuple[Path, ...]
    out: Path
    preset: str
    settings: tuple[str, ...]
    config_json: str | None
    budget_seconds: float | None
    steps: int | None
    val: tuple[Path, ...]
    tokenizer: Path | None
    seed: int
    device: str | None
    threads: int | None
    compiled: bool | None
    save_every: float | None
    resume: bool
    tensorboard: Path | None
    wandb: str | None
    plot: bool | None
    other_tokenizer: bool
    as_json: bool

    @property
    def state(self) -> Path:
        """File of the run's state."""
        return self.out.with_suffix(".state")

    @property
    def config_file(self) -> str | None:
        """File of the model's configuration; None where there is none, or the option is its JSON."""
        text = self.config_json or "{"
        return None if text.lstrip().startswith("{") else text

    @property
    def inputs(self) -> list[Path | str | None]:
        """Files that the run reads, apart from shards of training."""
        return [*self.val, self.tokenizer, self.config_file]


def run(request: TrainRequest) -> None:
    """Train, save and score a model, and print the report on the first rank."""
    report = _train(request)
    if report is not None:
        print_json(report.as_json()) if request.as_json else print_report(report)


def _train(request: TrainRequest) -> TrainReport | None:
    """Train, save and score a model; return the report on the first rank, None on the others."""
    preset = choose_preset(request)
    paths = list(request.data)
    if request.val:  # what cannot be scored must not be noticed only after the training
        check_validation(request.val, preset.model.vocab_size)
    facts = pinned_tokenizer(request, paths)
    shards = [map_shard(path) for path in paths]
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    with ExitStack() as until_the_end:
        with connected_run(request.device) as ranks:
            use_kernels(ranks.device)
            view = TrainingView(
                request.out, request.tensorboard, request.wandb, request.plot, request.as_json
            )
            if ranks.first:
                check_outputs([request.out, request.state, *view.files], [*paths, *request.inputs])
                check_output_folder(request.tensorboard)
            # its trial shows a full disk before any file is made
            export = export_seconds(request.out, preset.model) if ranks.first else 0.0
            if ranks.first:  # log, state and pictures are one process's at a time
                until_the_end.enter_context(held(view.log, "training"))
                if request.state.exists() and not request.resume:
                    print_notes([f"{request.state} is of a run that was stopped: --resume goes on"])
            options = RunOptions(
                seed=request.seed,
                ranks=ranks,
                compiled=request.compiled,
                state=request.state,
                save_every=_save_every(request, preset),
                resume=request.resume,
                export_seconds=export,
            )
            # before the log is opened: a run that cannot begin leaves that of an earlier one
            training = Training(preset.model, shards, preset.recipe, options)
            shown = view.open(preset, options, paths) if ranks.first else nullcontext(_show_nothing)
            with shown as show:
                for step in training.steps():
                    show(step)
                result = training.result()
            if not ranks.first:
                return None
            with result.clock.stage("export"):
                save_checkpoint(
                    request.out,
                    preset.model,
                    result.state_dict,
                    preset.recipe,
                    check=lambda: check_in_time(result.clock, preset.recipe),
                    facts=facts,
                )
        request.state.unlink(missing_ok=True)
        passes = result.tokens_seen / sum(map(len, shards))
        half = training.trainer.optimizer.dtype == torch.bfloat16
        report = _report(request, preset, result, ranks, passes, "bf16" if half else "fp32")
        return replace(report, files=view.finish(report))


def _save_every(request: TrainRequest, preset: Preset) -> float:
    """Return the seconds between two saves: what is asked for, or none under a wallclock cap."""
    if request.save_every is not None:
        return request.save_every
    return 0.0 if preset.recipe.budget_seconds else SAVE_EVERY


def _show_nothing(step: StepRecord) -> None:
    """Show no step: the first rank does."""


def _report(
    request: TrainRequest,
    preset: Preset,
    result: TrainResult,
    ranks: Ranks,
    passes: float,
    precision: str,
) -> TrainReport:
    """Return the figures of a run, and the score of its checkpoint where one is asked for."""
    clock = result.clock
    seconds, training_seconds = clock.inside(), clock.of("training")
    score = None
    if request.val and request.tokenizer is not None:
        with clock.stage("validation"), Bars(request.as_json) as bars:
            options = EvalOptions(device=request.device, other_tokenizer=request.other_tokenizer)
            score = evaluate(request.out, request.tokenizer, request.val, options, bars)
    return TrainReport(
        out=str(request.out),
        params=preset.model.num_params,
        steps=result.steps,
        tokens_seen=result.tokens_seen,
        passes=passes,
        seconds=seconds,
        tokens_per_second=result.tokens_seen / training_seconds,
        final_loss=result.final_loss,
        seed=request.seed,
        device=str(ranks.device),
        ranks=ranks.world,
        threads=torch.get_num_threads(),
        precision=precision,
        config=preset.model,
        recipe=preset.recipe,
        val=score,
        clock=clock.ledger(preset.recipe),
        notes=[*result.notes, *seen_in_training(request.val, request.data)],
    )


def choose_preset(request: TrainRequest) -> Preset:
    """Return the preset with all that the options change in it; raises BadConfig or BadData."""
    preset = find_preset(request.preset)
    if request.config_json is not None:
        file = request.config_file
        text = request.config_json if file is None else read_file(file, MAX_CONFIG)
        config = ModelConfig.from_json(text)
        preset = replace(preset, model=config)
    pieces = None
    if request.tokenizer is not None:
        tokenizer = Tokenizer(request.tokenizer)
        pieces = tokenizer.vocab_size
        if request.config_json is None:
            model = replace(preset.model, vocab_size=pieces)
            if tokenizer.bos_id is not None:
                model = replace(model, bos_id=tokenizer.bos_id)
            preset = replace(preset, model=model)
    preset = preset.with_settings(request.settings)
    if pieces is not None and preset.model.vocab_size != pieces:
        raise BadData(
            "the model's vocabulary is not the tokenizer's",
            expected=pieces,
            found=preset.model.vocab_size,
        )
    return replace(preset, recipe=replace(preset.recipe, **_limits(request)))


def _limits(request: TrainRequest) -> dict[str, Any]:
    """Return the limits that options set; raises BadConfig for one that --set has, too.

    The preset's wallclock cap and its reserve are lifted where steps are the only limit asked for.
    """
    own_settings = settings(request.settings)
    limits: dict[str, Any] = {}
    for name in ("steps", "budget_seconds"):
        value = getattr(request, name)
        if value is None:
            continue
        if name in own_settings:
            raise BadConfig(
                f"--{name.replace('_', '-')} and --set {name} say one thing twice",
                expected="one of them",
                found=f"{value:g} and {own_settings[name]}",
            )
        limits[name] = value
    if "steps" in limits and "budget_seconds" not in limits | own_settings:
        limits["budget_seconds"] = 0.0
        if "reserve_seconds" not in own_settings:
            limits["reserve_seconds"] = 0.0
    return limits


def pinned_tokenizer(request: TrainRequest, paths: list[Path]) -> dict[str, str]:
    """Return the metadata that names the tokenizer of the shards; none where nothing says it.

    Raises BadData for shards of several tokenizers, and for another --tokenizer than theirs, unless
    another is allowed.
    """
    named = {path.name: tokenizer_of_shard(path) for path in paths}
    digests = sorted({digest for digest in named.values() if digest is not None})
    if len(digests) > 1:
        raise BadData(
            "the shards are of several tokenizers",
            expected="one",
            found=", ".join(f"{digest[:16]}…" for digest in digests[:4]),
        )
    if request.tokenizer is not None:
        own = sha256(read_file(request.tokenizer))
        scored = {path.name: tokenizer_of_shard(path) for path in request.val}
        tokenizer_notes(own, named | scored, request.other_tokenizer)
        digests = digests or [own]
    return {TOKENIZER_KEY: digests[0]} if digests else {}
