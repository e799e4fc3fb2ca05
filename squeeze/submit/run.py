"""A submission's own score, from a fresh process that has the folder, the data and the tokenizer.

Two ways, as the folder states them: `evaluate`, a command that prints `val_bpb: X`, and `scorer`, which
speaks docs/protocol.md. Both run in the audit's box: no network, no squeeze, limits on everything.
"""

from __future__ import annotations

import math
import os
import re
import select
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from squeeze.errors import SqueezeError
from squeeze.score.audit.client import Session
from squeeze.score.box.sandbox import Box, Limits, isolation
from squeeze.submit.plain import BadSubmission

SHARD, TOKENIZER = "fineweb_val_000000.bin", "tokenizer.model"  # names the challenge's scripts know
ENVIRONMENT = {
    "DATA_PATH": "{inputs}",
    "TOKENIZER_PATH": f"{{inputs}}/{TOKENIZER}",
    "OMP_WAIT_POLICY": "PASSIVE",
}
PRINTED = re.compile(r"""\bval_bpb["']?\s*[:=]\s*([-+.\w]+)""")
MAX_PRINTED = 1 << 20  # last bytes of a command's output that are searched for a score


@dataclass(frozen=True)
class Span:
    """Text that a submission is run on: a shard of `targets` + 1 tokens, and its tokenizer."""

    shard: Path
    tokenizer: Path
    targets: int


@dataclass(frozen=True)
class Run:
    """One run: its command, its score in bits per byte, wallclock seconds, and level of isolation."""

    command: tuple[str, ...]
    bpb: float
    seconds: float
    isolation: str


def run_submission(
    folder: Path, way: str, command: Sequence[str], span: Span, limits: Limits
) -> Run:
    """Score a span by the submission's own code, in a fresh process.

    way: "evaluate": the command prints its score; "scorer": it speaks docs/protocol.md

    Raises BadSubmission when the command fails, ends early, prints no score, or takes longer than
    limits.report_seconds in all.
    """
    started, shown = time.perf_counter(), " ".join(command)
    box = Box(
        folder,
        (sys.executable, *command[1:]),
        replace(limits, seconds=limits.report_seconds),  # a first answer may wait for a compiler
        isolation(),
        {SHARD: span.shard, TOKENIZER: span.tokenizer},
        environment=ENVIRONMENT,
    )
    try:
        with box:
            if way == "scorer":
                report = Session(box, span.targets).report(SHARD, TOKENIZER, span.targets)
                bpb = report.nats / math.log(2.0) / report.bytes
            else:
                bpb = _printed(_output(box, limits.report_seconds))
    except SqueezeError as error:
        raise BadSubmission(f"`{shown}` failed in a fresh process: {error}") from None
    return Run(tuple(command), bpb, time.perf_counter() - started, box.isolation.level)


def _output(box: Box, seconds: float) -> str:
    """Return the command's output. Raises BadSubmission unless it ends in time with exit code 0."""
    assert box.process.stdout is not None and box.process.stdin is not None
    box.process.stdin.close()
    pipe, printed, deadline = box.process.stdout.fileno(), bytearray(), time.monotonic() + seconds
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise BadSubmission(f"not done within {seconds:g} s")
        chunk = os.read(pipe, 1 << 16)
        if not chunk:
            break
        printed[:] = (printed + chunk)[-MAX_PRINTED:]
    code = box.process.wait(timeout=30)
    if code:
        box.close()  # all of stderr is there now
        last = box.stderr.strip().splitlines()[-1:] or ["nothing on stderr"]
        raise BadSubmission(f"it ended with exit code {code}", found=last[0][:300])
    return printed.decode("utf-8", "replace")


def _printed(text: str) -> float:
    """Return the last score in an output. Raises BadSubmission when there is none."""
    scores = PRINTED.findall(text)
    try:
        return float(scores[-1])
    except (IndexError, ValueError):
        last = text.strip().splitlines()[-1:] or ["nothing"]
        raise BadSubmission(
            "it prints no score", expected="a line `val_bpb: 1.234567890`", found=last[0][:200]
        ) from None
