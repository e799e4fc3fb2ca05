"""What a run leaves to read: one JSON object a line, and TensorBoard's files on request."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from squeeze.errors import SqueezeError
from squeeze.train.loop import Step


class RunLog:
    """A JSONL file: {"event": "begin", …}, a line for each step, {"event": "end", …}.

    append: continue an earlier file; its steps after the one a run resumes at are repeated, the later
    line counts. Each line is complete on disk when the step is over.
    """

    def __init__(self, path: Path, append: bool = False) -> None:
        self.path, self.append = path, append

    def __enter__(self) -> RunLog:
        try:
            self._file: IO[str] = open(self.path, "a" if self.append else "w", encoding="utf-8")
        except OSError as error:
            raise SqueezeError(f"{self.path}: cannot be written: {error.strerror}") from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, SqueezeError):
            self.write("error", message=str(error))
        self._file.close()

    def write(self, event: str, **facts: Any) -> None:
        """Add a line that is no step."""
        self._file.write(json.dumps({"event": event, **facts}) + "\n")
        self._file.flush()

    def on_step(self, step: Step) -> None:
        """Add a step's line."""
        self._file.write(json.dumps(asdict(step)) + "\n")
        self._file.flush()


def read_steps(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The steps of a log in order, each once; an incomplete last line is left out."""
    steps: dict[int, dict[str, Any]] = {}
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict) and isinstance(entry.get("step"), int):
                steps[entry["step"]] = entry
    return [steps[number] for number in sorted(steps)]


class TensorBoard:
    """Loss, speed and schedule as scalars; raises SqueezeError when tensorboard is not installed."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise SqueezeError(
                "--tensorboard needs the package tensorboard", fix="pip install tensorboard"
            ) from None
        self._writer = SummaryWriter(str(folder))

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def on_step(self, step: Step) -> None:
        """Add a step's scalars."""
        for name in ("loss", "tokens_per_second", "gradient_norm", "rate"):
            self._writer.add_scalar(f"train/{name}", getattr(step, name), step.step)
