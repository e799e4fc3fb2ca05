"""The outputs of a training run: progress on stderr, log, TensorBoard, loss curve, report."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn

from squeeze.cli.terminal.printing import print_line, print_notes, print_rows
from squeeze.score.report import EvalReport
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe
from squeeze.train.presets import Preset
from squeeze.train.run.clock import Row
from squeeze.train.run.course import StepRecord
from squeeze.train.run.flops import Utilization
from squeeze.train.run.log import RunLog, TensorBoard, WandB
from squeeze.train.run.plot import has_matplotlib, need_matplotlib, pictures_of, plot_log
from squeeze.train.run.training import RunOptions
from squeeze.views.console import PlainConsole

LOG_EVERY = 10.0  # seconds between lines when stderr is not a terminal
REDRAW = 0.1  # seconds between updates of the bar

Show = Callable[[StepRecord], None]


@dataclass(frozen=True)
class TrainReport:
    """The figures of a finished run, as `squeeze train --json` prints them.

    out: the checkpoint
    params: its weights
    passes: how often the run has read its data
    seconds: counted by the budget, the export included
    precision: of the products in the forward: bf16 or fp32
    final_loss: mean of the last steps, nats per token
    val: score of the checkpoint, where one was asked for
    clock: every stage of the run
    notes: what the recipe asked for and the run did not do, and what its score is worth
    files: what was written beside the checkpoint
    """

    out: str
    params: int
    steps: int
    tokens_seen: int
    passes: float
    seconds: float
    tokens_per_second: float
    final_loss: float
    seed: int
    device: str
    ranks: int
    threads: int
    precision: str
    config: ModelConfig
    recipe: Recipe
    val: EvalReport | None
    clock: list[Row]
    notes: list[str]
    files: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return a plain dictionary for `--json`; without a score it has no `val`."""
        plain = asdict(replace(self, val=None))
        if self.val is None:
            del plain["val"]
        else:
            plain["val"] = self.val.as_json()
        return plain


class TrainingView:
    """Everything that shows or records a run's steps; the first rank opens it.

    out: the checkpoint, whose name the files have
    tensorboard: folder of TensorBoard's files
    wandb: project of Weights & Biases
    plot: draw the loss curve; None: where matplotlib is installed
    quiet: show no progress

    Raises SqueezeError before the training when matplotlib is asked for and missing.
    """

    def __init__(
        self,
        out: Path,
        tensorboard: Path | None,
        wandb: str | None,
        plot: bool | None,
        quiet: bool,
    ) -> None:
        if plot:
            need_matplotlib()
        self.log, self.tensorboard, self.quiet = out.with_suffix(".jsonl"), tensorboard, quiet
        self.wandb = wandb
        self.plot = has_matplotlib() if plot is None else plot

    @property
    def files(self) -> list[Path]:
        """Files that a run writes beside its checkpoint, apart from its state."""
        return [self.log, *(pictures_of(self.log) if self.plot else [])]

    @contextmanager
    def open(self, preset: Preset, options: RunOptions, data: list[Path]) -> Iterator[Show]:
        """Open all outputs, and yield a function that gives them a step.

        Raises SqueezeError when tensorboard is asked for and missing, or a file cannot be written.
        """
        with ExitStack() as stack:
            log = stack.enter_context(RunLog(self.log, append=options.resume))
            log.write(
                "begin",
                seed=options.seed,
                ranks=options.ranks.world,
                device=str(options.ranks.device),
                data=[str(path) for path in data],
                config=asdict(preset.model),
                recipe=asdict(preset.recipe),
            )
            outputs: list[Show] = [log.write_step]
            if self.tensorboard is not None:
                outputs.append(stack.enter_context(TensorBoard(self.tensorboard)).write_step)
            if self.wandb is not None:
                facts = asdict(preset.model) | asdict(preset.recipe) | {"seed": options.seed}
                outputs.append(stack.enter_context(WandB(self.wandb, facts)).write_step)
            utilization = Utilization(preset, options.ranks)
            outputs.append(stack.enter_context(training_bar(self.quiet, utilization)))

            def show(step: StepRecord) -> None:
                for output in outputs:
                    output(step)

            yield show

    def finish(self, report: TrainReport) -> list[str]:
        """Log the end of the run and draw its curve; return the files beside the checkpoint."""
        rows = [asdict(row) for row in report.clock]
        with RunLog(self.log, append=True) as log:
            facts = {"steps": report.steps, "final_loss": report.final_loss, "clock": rows}
            if report.val is not None:
                facts |= {"val_loss": report.val.nats_per_token, "val_bpb": report.val.bpb}
            log.write("end", **facts)
        files = [self.log, *(plot_log(self.log) if self.plot else [])]
        return [str(path) for path in files]


@contextmanager
def training_bar(
    quiet: bool = False, utilization: Callable[[StepRecord], float | None] = lambda step: None
) -> Iterator[Show]:
    """Open a bar on stderr with loss, speed and time left; plain lines when it is no terminal.

    utilization: fraction of the device's peak in a step, where it is known

    Yields a function that shows a step.
    """

    def facts(step: StepRecord) -> str:
        share = utilization(step)
        return (
            f"step {step.step}, loss {step.loss:.3f}, {step.tokens_per_second:,.0f} tokens/s, "
            f"{1e3 * step.step_seconds:.0f} ms/step" + (f", MFU {share:.1%}" if share else "")
        )

    if quiet:
        yield lambda step: None
    elif not sys.stderr.isatty():
        yield _at_most_every(
            LOG_EVERY,
            lambda step: print_line(
                f"training: {facts(step)}, {step.seconds_left:.0f} s left", err=True
            ),
        )
    else:
        columns = (
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.fields[facts]}"),
            TextColumn("{task.fields[left]} s left"),
        )
        with Progress(*columns, console=PlainConsole(stderr=True), transient=True) as bar:
            task = bar.add_task("training", total=1.0, facts="", left="–")
            yield _at_most_every(
                REDRAW,
                lambda step: bar.update(
                    task,
                    completed=step.progress,
                    facts=facts(step),
                    left=f"{step.seconds_left:,.0f}",
                ),
            )


def _at_most_every(seconds: float, show: Show) -> Show:
    """Return `show` that leaves out steps which follow too soon: nobody could read them."""
    last = time.monotonic()

    def show_some(step: StepRecord) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            show(step)

    return show_some


def print_report(report: TrainReport) -> None:
    """Print the figures of a finished run on stdout."""
    rows = {
        "checkpoint": f"{report.out} ({report.params:,} weights)",
        "trained": f"{report.steps:,} steps, {report.tokens_seen:,} tokens "
        f"({report.passes:.2f} passes) at {report.tokens_per_second:,.0f} a second",
        "arithmetic": f"products in {report.precision}" + _why(report),
        "training loss": f"{report.final_loss:.6f} nats per token",
    }
    if report.val is not None:
        rows["validation"] = f"{report.val.bpb:.6f} bits per byte"
    stages = [
        f"{row.stage} {row.seconds:.1f} s" + ("" if row.inside else " (not counted)")
        for row in report.clock
    ]
    budget = report.recipe.budget_seconds
    limit = f" of {budget:g} s" if budget else ""
    rows["clock"] = f"{report.seconds:.1f} s{limit}: {', '.join(stages)}"
    rows["beside it"] = ", ".join(Path(path).name for path in report.files)
    print_rows(rows)
    print_notes([*report.notes, *(report.val.notes if report.val else [])])


def _why(report: TrainReport) -> str:
    """Return why the products are not in bf16 where the recipe would have had them so."""
    wanted = report.recipe.precision
    asked = wanted == "native" or (wanted == "auto" and report.device.startswith("cuda"))
    missing = asked and report.precision == "fp32"
    return f": this {report.device} has no instructions for bf16" if missing else ""
