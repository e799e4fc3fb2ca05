"""A submission's own score, from a fresh process that sees the folder, the data and the tokenizer.

Two ways, as the folder states them: `evaluate`, a command that prints `val_bpb: X`, and `scorer`, which
speaks docs/protocol.md. Both run in the audit's box: no network, no squeeze, limits on everything.
"""

from __future__ import annotations

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
from squeeze.score.audit.sandbox import Box, Limits, isolation
from squeeze.submit.plain import BadSubmission

SHARD, TOKENIZER = "fineweb_val_000000.bin", "tokenizer.model"  # names the challenge's scripts know
ENVIRONMENT = {
    "DATA_PATH": "{inputs}", "TOKENIZER_PATH": f"{{inputs}}/{TOKENIZER}", "OMP_WAIT_POLICY": "PASSIVE",
}  # fmt: skip
PRINTED = re.compile(r"""\bval_bpb["']?\s*[:=]\s*([-+.\w]+)""")
KEPT = 1 << 20  # bytes of what a command prints, from the end


@dataclass(frozen=True)
class Run:
    """One run: its command, the score it gave in bits per byte, wallclock seconds, the box."""

    command: tuple[str, ...]
    bpb: float
    seconds: float
    isolation: str


def run_submission(
    folder: Path, way: str, command: Sequence[str], span: Path, tokenizer: Path, targets: int,
    limits: Limits,
) -> Run:  # fmt: skip
    """Score the shard `span` of so many targets by the submission's own code.

    way: "evaluate" or "scorer". Raises BadSubmission when it fails, ends early, says no score, or
    takes longer than limits.report_seconds in all.
    """
    begun, shown = time.perf_counter(), " ".join(command)
    box = Box(
        folder,
        (sys.executable, *command[1:]),
        replace(limits, seconds=limits.report_seconds),  # a first answer may wait for a compiler
        isolation(),
        {SHARD: span, TOKENIZER: tokenizer},
        environment=ENVIRONMENT,
    )
    try:
        with box:
            if way == "scorer":
                said = Session(box, targets).report(SHARD, TOKENIZER, targets)
                bpb = said.nats / 0.6931471805599453 / said.bytes
            else:
                bpb = _printed(_output(box, limits.report_seconds))
    except SqueezeError as error:
        raise BadSubmission(f"`{shown}` failed in a fresh process: {error}") from None
    return Run(tuple(command), bpb, time.perf_counter() - begun, box.isolation.level)


def _output(box: Box, seconds: float) -> str:
    """What the command prints, when it has ended well."""
    assert box.process.stdout is not None and box.process.stdin is not None
    box.process.stdin.close()
    pipe, kept, deadline = box.process.stdout.fileno(), bytearray(), time.monotonic() + seconds
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise BadSubmission(f"not done within {seconds:g} s")
        chunk = os.read(pipe, 1 << 16)
        if not chunk:
            break
        kept[:] = (kept + chunk)[-KEPT:]
    code = box.process.wait(timeout=30)
    if code:
        box.close()  # all of stderr is there now
        last = box.stderr.strip().splitlines()[-1:] or ["nothing on stderr"]
        raise BadSubmission(f"it ended with exit code {code}", found=last[0][:300])
    return kept.decode("utf-8", "replace")


def _printed(text: str) -> float:
    found = PRINTED.findall(text)
    try:
        return float(found[-1])
    except (IndexError, ValueError):
        last = text.strip().splitlines()[-1:] or ["nothing"]
        raise BadSubmission(
            "it prints no score", expected="a line `val_bpb: 1.234567890`", found=last[0][:200]
        ) from None
