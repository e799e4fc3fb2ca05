"""Records of a run: a log of one JSON object a line, and TensorBoard's files on request."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from squeeze.errors import MissingPackage, SqueezeError
from squeeze.files import check_replaceable
from squeeze.train.run.course import StepRecord


class RunLog:
    """A JSONL file: {"event": "begin", …}, a line for each step, {"event": "end", …}.

    append: continue an earlier file; steps after the one that a run resumes at are repeated, and the
        later line counts

    Each line is complete on disk when its step is over; one that a killed run left incomplete is ended
    first. Raises SqueezeError when a line cannot be written.
    """

    def __init__(self, path: Path, append: bool = False) -> None:
        self.path, self.append = path, append

    def __enter__(self) -> RunLog:
        check_replaceable(self.path)
        try:
            # unbuffered: what a full disk refuses must not be written again when the file is closed
            self._file: IO[bytes] = open(self.path, "ab" if self.append else "wb", buffering=0)
        except OSError as error:
            raise SqueezeError(f"{self.path}: cannot be written: {error.strerror}") from None
        if self.append and not _ends_a_line(self.path):
            self._line(b"\n")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if isinstance(error, SqueezeError):
                with contextlib.suppress(SqueezeError):  # the first error is the one to report
                    self.write("error", message=str(error))
        finally:
            self._file.close()

    def write(self, event: str, **facts: Any) -> None:
        """Add a line that is no step."""
        self._line(json.dumps({"event": event, **facts}).encode() + b"\n")

    def write_step(self, step: StepRecord) -> None:
        """Add a step's line."""
        self._line(json.dumps(asdict(step)).encode() + b"\n")

    def _line(self, line: bytes) -> None:
        try:
            while line:  # a disk that is nearly full takes a part
                line = line[self._file.write(line) :]
        except OSError as error:
            raise SqueezeError(f"{self.path}: cannot be written: {error.strerror}") from None


def _ends_a_line(path: Path) -> bool:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() in (b"", b"\n")


def read_steps(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the steps of a log in order, each once; an incomplete last line is left out."""
    steps: dict[int, dict[str, Any]] = {}
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict) and _is_step(entry):
                steps[entry["step"]] = entry
    return [steps[number] for number in sorted(steps)]


def read_event(path: str | os.PathLike[str], event: str) -> dict[str, Any]:
    """Return the last line of a log that is this event, {} without one."""
    facts: dict[str, Any] = {}
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if f'"{event}"' in line[:40]:
                with contextlib.suppress(ValueError, RecursionError):
                    entry = json.loads(line)
                    facts = entry if isinstance(entry, dict) else facts
    return facts


def _is_step(entry: dict[str, Any]) -> bool:
    step, loss = entry.get("step"), entry.get("loss")
    return type(step) is int and abs(step) < 1 << 53 and isinstance(loss, float)


SCALARS = ("loss", "tokens_per_second", "gradient_norm", "rate")  # of a step, for other loggers


class WandB:
    """A run of Weights & Biases: loss, speed and schedule; its own settings come from its variables.

    Raises MissingPackage when wandb is not installed.
    """

    def __init__(self, project: str, facts: dict[str, Any]) -> None:
        try:
            import wandb
        except ImportError:
            raise MissingPackage("--wandb needs the package wandb", "wandb") from None
        self._run: Any = wandb.init(project=project, config=facts)

    def __enter__(self) -> WandB:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        self._run.finish(exit_code=int(kind is not None))

    def write_step(self, step: StepRecord) -> None:
        """Add a step's scalars."""
        scalars = {f"train/{name}": getattr(step, name) for name in SCALARS}
        self._run.log(scalars, step=step.step)


class TensorBoard:
    """TensorBoard's files: loss, speed and schedule as scalars.

    Raises SqueezeError when tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingPackage(
                "--tensorboard needs the package tensorboard", "tensorboard"
            ) from None
        self._writer = SummaryWriter(str(folder))

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def write_step(self, step: StepRecord) -> None:
        """Add a step's scalars."""
        for name in SCALARS:
            self._writer.add_scalar(f"train/{name}", getattr(step, name), step.step)
