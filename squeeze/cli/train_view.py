"""What a training run shows and keeps: progress on stderr, log, TensorBoard, loss curve, report."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from squeeze.train.presets import Preset
    from squeeze.train.run.loop import OnStep, Run, Step

LOG_EVERY = 10.0  # seconds between lines when stderr is not a terminal
REDRAW = 0.1  # seconds between updates of the bar


class Listeners:
    """Everything that hears of a run's steps; only rank 0 opens it.

    plot: draw the loss curve; None where matplotlib is there. Raises SqueezeError for an extra that is
    asked for and missing, before the training.
    """

    def __init__(
        self, out: Path, tensorboard: Path | None, plot: bool | None, quiet: bool, resume: bool
    ) -> None:
        from squeeze.train.run.plot import has_matplotlib, need_matplotlib

        self.log, self.tensorboard, self.quiet, self.resume = (
            out.with_suffix(".jsonl"),
            tensorboard,
            quiet,
            resume,
        )
        if plot:
            need_matplotlib()
        self.plot = has_matplotlib() if plot is None else plot

    @contextmanager
    def open(self, preset: Preset, run: Run, data: list[Path]) -> Iterator[OnStep]:
        """Inside, the yielded call tells all listeners of a step."""
        from squeeze.train.run.flops import Utilization
        from squeeze.train.run.log import RunLog, TensorBoard

        with ExitStack() as stack:
            log = stack.enter_context(RunLog(self.log, append=self.resume))
            log.write(
                "begin",
                seed=run.seed,
                ranks=run.ranks.world,
                device=str(run.ranks.device),
                data=[str(path) for path in data],
                config=asdict(preset.model),
                recipe=asdict(preset.recipe),
            )
            listeners: list[OnStep] = [log.on_step]
            if self.tensorboard is not None:
                listeners.append(stack.enter_context(TensorBoard(self.tensorboard)).on_step)
            used = Utilization(preset, run.ranks)
            listeners.append(stack.enter_context(training_bar(self.quiet, used)))

            def on_step(step: Step) -> None:
                for listener in listeners:
                    listener(step)

            yield on_step

    def finish(self, report: dict[str, Any]) -> list[str]:
        """Log the report and draw the curve; returns the files written beside the checkpoint."""
        from squeeze.train.run.log import RunLog

        with RunLog(self.log, append=True) as log:
            log.write("end", **{name: report[name] for name in ("steps", "final_loss", "clock")})
        files = [self.log]
        if self.plot:
            from squeeze.train.run.plot import plot_log

            files += plot_log(self.log)
        return [str(path) for path in files]


@contextmanager
def training_bar(
    quiet: bool = False, utilization: Callable[[Step], float | None] = lambda step: None
) -> Iterator[Callable[[Step], None]]:
    """A bar on stderr with loss, speed and time left; plain lines when it is no terminal.

    utilization: fraction of the device's peak, where it is known.
    """

    def facts(step: Step) -> str:
        used = utilization(step)
        return (
            f"step {step.step}, loss {step.loss:.3f}, {step.tokens_per_second:,.0f} tokens/s, "
            f"{1e3 * step.step_seconds:.0f} ms/step" + (f", MFU {used:.1%}" if used else "")
        )

    if quiet:
        yield lambda step: None
    elif not sys.stderr.isatty():
        yield _every(
            LOG_EVERY,
            lambda step: click.echo(
                f"training: {facts(step)}, {step.seconds_left:.0f} s left", err=True
            ),
        )
    else:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.fields[facts]}"),
            TextColumn("{task.fields[left]} s left"),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("training", total=1.0, facts="", left="–")
            yield _every(
                REDRAW,
                lambda step: bar.update(
                    task,
                    completed=step.progress,
                    facts=facts(step),
                    left=f"{step.seconds_left:,.0f}",
                ),
            )


def _every(seconds: float, show: Callable[[Step], None]) -> Callable[[Step], None]:
    """`show`, but not more often than that: neither the screen nor the run gains from it."""
    last = time.monotonic()

    def listener(step: Step) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            show(step)

    return listener


def print_report(report: dict[str, Any]) -> None:
    """The figures of a finished run on stdout."""
    rows = {
        "checkpoint": f"{report['out']} ({report['params']:,} weights)",
        "trained": f"{report['steps']:,} steps, {report['tokens_seen']:,} tokens "
        f"({report['passes']:.2f} passes) at {report['tokens_per_second']:,.0f} a second",
        "training loss": f"{report['final_loss']:.4f} nats per token",
    }
    if "val" in report:
        rows["validation"] = f"{report['val']['bpb']:.4f} bits per byte"
    stages = [
        f"{row['stage']} {row['seconds']:.1f} s" + ("" if row["inside"] else " (not counted)")
        for row in report["clock"]
    ]
    budget = report["recipe"]["budget_seconds"]
    limit = f" of {budget:g} s" if budget else ""
    rows["clock"] = f"{report['seconds']:.1f} s{limit}: {', '.join(stages)}"
    rows["beside it"] = ", ".join(Path(path).name for path in report["files"])
    for name, value in rows.items():
        click.echo(f"{name:<16}{value}")
