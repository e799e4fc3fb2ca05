"""Wrapping of a model that does not speak the scoring protocol, by the auditor's own script.

Squeeze serves the model that the script builds (`squeeze.score.serving.serve`), in the same box as any
submission. Its answers are the model's; the report is squeeze's own evaluation of it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from squeeze.errors import SqueezeError

NOTE = (
    "wrapped by --adapter: answers are the model's, the report is squeeze's evaluation of them, so"
    " `coverage`, `bytes` and `score` say nothing of the submission's own evaluation code"
)


@dataclass(frozen=True)
class Adapter:
    """A script of the auditor's that builds the model of a submission.

    script: FILE.py, or FILE.py:NAME of a class or function that returns the module
    weights: file of the submission that holds its weights, by relative name; None: the script loads them
    shim: whether kernels that it imports and this machine lacks are replaced
    """

    script: str
    weights: str | None = None
    shim: bool = False

    def __post_init__(self) -> None:
        if self.file.suffix != ".py" or not self.file.is_file():
            raise SqueezeError(
                "--adapter names no script", expected="FILE.py:NAME", found=self.script[:200]
            )

    @property
    def _parts(self) -> tuple[str, str]:
        """Path of the script, and the name after it with its colon, or ""."""
        path, colon, name = self.script.rpartition(":")
        return (path, colon + name) if path.endswith(".py") else (self.script, "")

    @property
    def file(self) -> Path:
        """The script's file, absolute."""
        return Path(self._parts[0]).resolve()

    def command(self, folder: Path) -> tuple[str, ...]:
        """Return program and arguments that serve the model of a submission folder.

        Raises SqueezeError for weights that are not in it.
        """
        file = self.file
        inside = file.is_relative_to(folder)
        path = f"{{folder}}/{file.relative_to(folder)}" if inside else f"{{inputs}}/{file.name}"
        # -P: modules come from squeeze's installation, never from the folder
        serve = [sys.executable, "-P", "-m", "squeeze.score.serving.serve", "--adapter"]
        serve += [path + self._parts[1]]
        serve += ["--shim"] * self.shim
        if self.weights is None:
            return tuple(serve)
        if not (folder / self.weights).is_file():
            raise SqueezeError(f"{folder}: holds no file {self.weights}", fix="See --weights.")
        return (*serve, f"{{folder}}/{self.weights}")

    def inputs(self, folder: Path) -> dict[str, Path]:
        """Return the script by its name, unless it lies in the submission folder."""
        return {} if self.file.is_relative_to(folder) else {self.file.name: self.file}
