"""Submissions that ship more than is counted, count other bytes than the text has, or misstate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.zoo.animals import CLOCK, VOCAB, Animal, Habitat
from tests.zoo.offenders import HELPER_BYTES, SIZES, START


def _paper(name: str, size: int = HELPER_BYTES) -> Callable[[Path, Habitat], None]:
    return lambda folder, habitat: (folder / name).write_bytes(bytes(size)) and None


def _before(code: str) -> tuple[tuple[str, str], ...]:
    """Run code before the weights are loaded."""
    return ((START, code + START),)


def _scattered(folder: Path, habitat: Habitat) -> None:
    for number in range(2000):
        (folder / f"{number:05d}{'x' * 200}").touch()


def _counted(code: str) -> tuple[tuple[str, str], ...]:
    """Change `sizes` [n] of the report; SPAN are the pieces of the audited span, RARE is none."""
    body = f"        {code}\n        sizes = np.asarray(sizes)\n"
    return ((SIZES, SIZES + body),)


CHILD = "import subprocess\nassert len(subprocess.check_output(['cat', '{}'])) > 1000\n"
NATIVE = (
    "import ctypes\nlibc = ctypes.CDLL(None)\n"
    "assert libc.open(b'{}', 0) >= 0, 'no weights'\n"
)  # fmt: skip
PAPERS = (
    Animal(
        "weights in a log, read by a child process",
        "runs",
        changes=_before(CHILD.format("train.log")),
        extra=_paper("train.log"),
    ),
    Animal(
        "weights in notes, read by a native library",
        "runs",
        changes=_before(NATIVE.format("notes.md")),
        extra=_paper("notes.md"),
    ),
    Animal(
        "weights in a picture",
        "size",
        changes=_before("open('figure.png', 'rb').read()\n"),
        extra=_paper("figure.png"),
    ),
    Animal(
        "weights in notes, opened once they are there",
        "size",
        changes=_before(
            "if os.path.exists('notes.md'): open('notes.md').read()\nopen('notes.md')\n"
        ),
        extra=_paper("notes.md"),
    ),
    Animal(
        "code in the command",
        "size",
        claims={
            "scorer": ["python", "train_gpt.py", *("#" * 100_000 for _ in range(3))],
        },
    ),
    Animal(
        "a paper that the command names",
        "size",
        claims={"scorer": ["bash", "-c", "cat notes.md > /dev/null; exec python3 train_gpt.py"]},
        extra=_paper("notes.md"),
    ),
    Animal("weights in names of files", "size", extra=_scattered),
    Animal("more weights beside it", "size", extra=_paper("weights.txt")),
)
SIDECARS = tuple(
    Animal(f"counts {name}", "bytes", changes=_counted(code))
    for name, code in {
        "three bytes for pieces past the span's": "sizes = sizes + 2 * ~np.isin(target, SPAN)",
        "one byte more for a single rare piece": "sizes = sizes + (target == RARE)",
        "one byte less for a single rare piece": "sizes = sizes - (target == RARE)",
    }.items()
)


def with_span(animal: Animal, habitat: Habitat, targets: int) -> Animal:
    """Tell an animal which pieces the audited span holds, and one that it does not."""
    span = np.unique(habitat.validation[: targets + 1])
    rare = int(np.setdiff1d(np.arange(260, VOCAB), span)[0])
    code = f"SPAN, RARE = np.array({span.tolist()}), {rare}\n"
    changes = (*animal.changes, (START, code + START))
    return Animal(animal.name, animal.breaks, animal.shape, changes)


def _stage(**fields: Any) -> dict[str, Any]:
    return {"stage": "train", "seconds": 590.0, "inside": True, "reads": "train", **fields}


STATEMENTS = tuple(
    Animal(name, rule, claims=claims)
    for name, rule, claims in (
        ("seconds that are no number", "clock", {"clock": [_stage(seconds=float("nan"))]}),
        ("seconds below zero", "clock", {"clock": [_stage(seconds=9000), _stage(seconds=-8500)]}),
        ("infinite seconds", "clock", {"clock": [_stage(seconds=float("inf"))]}),
        ("seconds as text", "clock", {"training_seconds": "612.4"}),
        (
            "a validation that trains",
            "clock",
            {"clock": [*CLOCK, _stage(stage="validation", inside=False)]},
        ),
        (
            "an evaluation that changes weights",
            "clock",
            {
                "clock": [
                    *CLOCK,
                    _stage(stage="evaluation", inside=False, reads="validation", updates=True),
                ]
            },
        ),
        ("targets as text", "coverage", {"val_tokens": "1000"}),
        ("bytes as text", "size", {"bytes_total": "200000"}),
        ("bytes that are no number", "size", {"bytes_total": float("nan")}),
    )
)
