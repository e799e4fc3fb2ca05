"""Run targets on mutated corpus files within bounds of time and memory."""

from __future__ import annotations

import random
import resource
import signal
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from mutate import mutate
from targets import Target

from squeeze.errors import SqueezeError

CORPUS = Path(__file__).parent / "corpus"
MAX_SECONDS = 10.0  # of CPU for one file of at most 128 KiB; six times that by the clock
MAX_GROWTH = 400 << 20  # bytes of peak memory over what the corpus itself takes


class TooSlow(Exception):
    """A reader did not end within MAX_SECONDS."""


@dataclass
class Result:
    """What came of a target. accepted and refused add up with the crashes to executions."""

    target: str
    executions: int = 0
    accepted: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    crashes: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


def corpus(name: str) -> list[bytes]:
    """The committed files of a target; never empty."""
    found = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
    assert found, f"no corpus for {name}"
    return found


def warm(target: Target) -> None:
    """Load and compile what the reader needs, outside any bound: importing torch takes seconds.

    A mutation can turn one format into another, so what any reader of checkpoints needs is loaded, too.
    """
    import torch  # noqa: F401

    import squeeze.codecs  # noqa: F401

    for data in corpus(target.name):
        target.read(target.repair(data))


def inputs(target: Target, seed: int) -> Iterator[bytes]:
    """Endless mutations of the corpus, the same for the same seed."""
    rng = random.Random(f"{target.name} {seed}")
    files = corpus(target.name)
    while True:
        data = mutate(rng.choice(files), files, rng, target.text)
        yield target.repair(data) if rng.random() < 0.9 else data


def execute(target: Target, data: bytes, result: Result) -> None:
    """One execution: refusal with SqueezeError or success; everything else is noted as a crash."""
    peak = _peak()
    begun = time.perf_counter()
    try:
        with _limited():
            target.read(data)
        result.accepted += 1
    except SqueezeError:
        result.refused += 1
    except (Exception, MemoryError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        _crash(result, f"{type(error).__name__} at {where}", data, str(error)[:200])
    took = time.perf_counter() - begun
    if _peak() - peak > MAX_GROWTH:
        _crash(result, f"{(_peak() - peak) >> 20} MiB more memory", data)
    result.executions += 1
    result.seconds += took
    result.slowest = max(result.slowest, took)


def _crash(result: Result, error: str, data: bytes, words: str = "") -> None:
    if all(crash["error"] != error for crash in result.crashes) and len(result.crashes) < 20:
        result.crashes.append({"error": error, "words": words, "input": data.hex()})


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


_TIMERS = (
    (signal.SIGPROF, signal.ITIMER_PROF, MAX_SECONDS),  # a busy machine does not count
    (signal.SIGALRM, signal.ITIMER_REAL, 6 * MAX_SECONDS),  # waiting does
)


class _limited:
    """Raises TooSlow in a block that takes too long."""

    def __enter__(self) -> None:
        self._before = [signal.signal(number, _too_slow) for number, _, _ in _TIMERS]
        for _, timer, seconds in _TIMERS:
            signal.setitimer(timer, seconds)

    def __exit__(self, *_: object) -> None:
        for (number, timer, _), before in zip(_TIMERS, self._before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, before)


def _too_slow(_signal: int, _frame: FrameType | None) -> None:
    raise TooSlow(f"over {MAX_SECONDS} s")
