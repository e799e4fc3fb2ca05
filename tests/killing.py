"""Commands killed at chosen moments, and what must hold afterwards."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

UNFINISHED = ".unfinished"  # ends the names of temporary files and folders


@dataclass(frozen=True)
class Ended:
    """code: negative for a signal. points: names of those it passed. printed: by the command."""

    code: int
    seconds: float
    points: tuple[str, ...]
    printed: str


class Killable:
    """A process that has imported everything and forks a child for each command (tests/killable.py)."""

    def __init__(self, folder: Path) -> None:
        self._notes = folder / "notes"
        self._notes.mkdir(parents=True)
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.killable"],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **one, "TMPDIR": str(self.temporary)},
        )
        assert self._answer() == "ready"

    def run(
        self,
        folder: Path,
        arguments: Iterable[str],
        seconds: float | None = None,
        point: int | None = None,
    ) -> Ended:
        """Run `squeeze ARGUMENTS` in a folder, killed after some seconds or at a point, or not."""
        printed, trace = self._notes / "printed", self._notes / "trace"
        request = {"arguments": [*arguments], "folder": str(folder), "seconds": seconds,
                   "point": point, "printed": str(printed), "trace": str(trace)}  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        return Ended(**answer, points=tuple(trace.read_text().split("\n")[:-1]),
                     printed=printed.read_text(errors="replace"))  # fmt: skip

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@dataclass(frozen=True)
class Command:
    """A command that writes files. first: its arguments. again: those of the run after a kill.

    outputs: files that must be the old or the new ones, whole. varying: names whose bytes may differ
    from run to run, such as logs with times. start: what the folder holds before.
    """

    first: tuple[str, ...]
    outputs: tuple[str, ...]
    start: dict[str, bytes] = field(default_factory=dict)
    varying: tuple[str, ...] = ()
    again: Callable[[Path], tuple[str, ...]] | None = None


class Trial:
    """One command, its undisturbed run, and kills to compare with it."""

    def __init__(self, command: Command, killable: Killable, folder: Path) -> None:
        self._command, self._killable, self._folder = command, killable, folder
        self._begin()
        self.whole = self._run(command.first)
        assert self.whole.code == 0, self.whole.printed
        self._files = self._listing()
        self._new = {name: (folder / name).read_bytes() for name in command.outputs}

    @property
    def points(self) -> int:
        """How many points an undisturbed run passes."""
        return len(self.whole.points)

    def seconds(self, runs: int = 3) -> float:
        """How long an undisturbed run takes at best: others make a busy machine's runs longer."""
        took = []
        for _ in range(runs):
            self._begin()
            took.append(self._run(self._command.first).seconds)
        return min(took)

    def kill(self, seconds: float | None = None, point: int | None = None) -> bool:
        """Kill a run and let the next recover; whether it was killed before it ended."""
        self._begin()
        ended = self._run(self._command.first, seconds, point)
        assert ended.code in (0, -9), ended.printed
        self._check_outputs()
        self._recover()
        return ended.code == -9

    def kill_in_a_row(self, points: Iterable[int]) -> None:
        """Kill one run after the other, without starting over, and then let one recover."""
        self._begin()
        for point in points:
            self._run(self._next(), point=point)
            self._check_outputs()
            left = [path for path in self._everything() if path.name.endswith(UNFINISHED)]
            assert len(left) <= 2, left  # a folder, or the file of this kill and of one other name
        self._recover()

    def _recover(self) -> None:
        ended = self._run(self._next())
        assert ended.code == 0, ended.printed
        found, whole = self._listing(), self._files
        odd = [
            name for name in found.keys() | whole if found.get(name, b"-") != whole.get(name, b"-")
        ]
        assert not odd, f"missing, left over or changed: {sorted(odd)}"
        for name, data in self._new.items():
            assert (self._folder / name).read_bytes() == data, name

    def _begin(self) -> None:
        for place in (self._folder, self._killable.temporary):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
        for name, data in self._command.start.items():
            (self._folder / name).write_bytes(data)

    def _next(self) -> tuple[str, ...]:
        again = self._command.again
        return self._command.first if again is None else again(self._folder)

    def _run(
        self, arguments: tuple[str, ...], seconds: float | None = None, point: int | None = None
    ) -> Ended:
        return self._killable.run(self._folder, arguments, seconds, point)

    def _check_outputs(self) -> None:
        for name, new in self._new.items():
            path, old = self._folder / name, self._command.start.get(name)
            found = path.read_bytes() if path.exists() else None
            assert found in (old, new), f"{name} is neither the old file nor the new one"

    def _everything(self) -> Iterator[Path]:
        for place in (self._folder, self._killable.temporary):
            yield from sorted(place.rglob("*"))

    def _listing(self) -> dict[str, bytes | None]:
        return {
            str(path): path.read_bytes()
            if path.is_file() and path.name not in self._command.varying
            else None
            for path in self._everything()
        }


def moments(trial: Trial, count: int, seed: int) -> list[float]:
    """Seconds at which to kill: one at random in each of `count` equal parts of a run."""
    rng = random.Random(seed)
    seconds = trial.seconds()
    return [(part + rng.random()) / count * seconds for part in range(count)]


@contextmanager
def killable(folder: Path) -> Iterator[Killable]:
    """A `Killable` that is closed."""
    process = Killable(folder)
    try:
        yield process
    finally:
        process.close()
