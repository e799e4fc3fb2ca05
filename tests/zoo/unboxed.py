"""Audits of the zoo without boxes: the submission's answers are called, at a fraction of the cost.

What a box refuses or records is not there, so animals that open, send or start something need a real
one. All that the auditor asks, and all that it concludes from the answers, is the same.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

from squeeze.files import scratch_folder
from squeeze.score.audit import runs
from squeeze.score.audit.client import HELLO_BYTES, Hello, Session
from squeeze.score.box.copies import copy_folder
from squeeze.score.box.sandbox import Box, Isolation, Limits
from squeeze.score.serving import protocol


@dataclass
class Unboxed:
    """The submission of a folder, run afresh in this process; the fields are those of a `Box`."""

    folder: Path
    command: Sequence[str]
    limits: Limits
    isolation: Isolation
    inputs: dict[str, Path]
    shown: Sequence[Path]
    trusted: bool
    left_out: Collection[str] = ()

    def __enter__(self) -> Unboxed:
        with contextlib.ExitStack() as stack:
            self.home = stack.enter_context(scratch_folder("squeeze-unboxed-"))
            copy_folder(self.folder, self.home / "submission", self.left_out)
            self.scorer = scorer_of(self.home / "submission")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def input_path(self, name: str) -> str:
        return str(self.inputs[name])

    @property
    def working_folder(self) -> str:
        return str(self.home / "submission")

    def records(self, kind: str) -> list[str]:
        return ["1"] if kind == "start" else []


def scorer_of(folder: Path) -> Any:
    """Return what the `train_gpt.py` of a folder would serve."""
    served: list[Any] = []
    stand_in = ModuleType("protocol")
    stand_in.__dict__["serve"] = served.append
    code = compile((folder / "train_gpt.py").read_text(), "train_gpt.py", "exec")
    own = [str(folder), *sys.path]
    with (
        contextlib.chdir(folder),
        patch.dict(sys.modules, protocol=stand_in),
        patch.object(sys, "path", own),
    ):
        exec(code, {"__name__": "__main__"})
    (scorer,) = served
    return scorer


class Called(Session):
    """A conversation without pipes."""

    def __init__(self, box: Any, targets: int) -> None:
        self.box: Any = box
        about = json.dumps({"targets": targets}).encode()
        self.hello = Hello.parse(self._ask(b"H", about, HELLO_BYTES, 0))

    def _ask(self, kind: bytes, payload: bytes, most: int, seconds: float) -> bytes:
        answer = protocol._answer(self.box.scorer, kind, payload)
        assert len(answer) <= most
        return answer


@contextlib.contextmanager
def without_boxes() -> Iterator[None]:
    """Let audits run submissions in this process. Only the zoo's own: nothing is refused to them."""
    assert issubclass(Called, Session) and Box is runs.Box
    with patch.object(runs, "Box", Unboxed), patch.object(runs, "Session", Called):
        yield
