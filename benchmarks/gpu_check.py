"""Does everything that runs on a GPU run there, and give what the CPU gives? One command, 9 minutes.

    python benchmarks/gpu_check.py            one H100 or H200; no network
    python benchmarks/gpu_check.py --cpu      the same stages on tiny models, without a GPU

Prints a line of JSON after each stage: its figures, the limits that it has to keep, and those that it
broke. Stages run in a second process. One that fails does not end the others; one that hangs, ends its
process or leaves the GPU in an error has its line, too, and the others go on in a new process. What
there was no time for is left out and named, for another call with --only; the exit status is 1 when
anything is not well. All lines so far are always in benchmarks/results/DATE-gpu-check.json. Without a
GPU and without --cpu it says so and ends with status 0.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib.util
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from machine import ROOT, save

if importlib.util.find_spec("squeeze") is None:  # a bare machine: run from the source folders
    sys.path.insert(0, str(ROOT))
    import squeeze

    squeeze.__path__.append(str(ROOT))

from gpu_runs import RUNS
from gpu_scores import SCORES
from gpu_stages import STAGES, Setting
from gpu_steps import STEPS

# the cheapest first; what takes minutes to compile or to pack comes last
STAGES |= STEPS | SCORES | RUNS
ORDER = (
    "versions",
    "group",
    "cache",
    "operations",
    "kernels",
    "compiled",
    "steps of baseline",
    "text",
    "commands",
    "scores",
    "learning",
    "script",
    "pack",
    "tune",
    "steps of record-1493",
    "steps of record-1855",
)

SECONDS = 540.0  # of all stages on a GPU
LEAST = 20.0  # seconds that a stage is begun in at least
# seconds of a stage; a rehearsal has ten times as long
LIMIT = 60.0
LIMITS = {
    **dict.fromkeys(("kernels", "compiled", "scores", "learning", "tune"), 100.0),
    **dict.fromkeys(("script", "steps of baseline"), 120.0),
    **dict.fromkeys(("commands", "pack", "steps of record-1493", "steps of record-1855"), 180.0),
}
WORKER = [sys.executable, *(f"-W{text}" for text in sys.warnoptions), str(Path(__file__).resolve())]
ANEW = 3  # exit status of a worker whose GPU answers no more


def outcome(name: str, setting: Setting) -> dict[str, Any]:
    """Return the line of one stage."""
    began = time.perf_counter()
    try:
        figures, limits = STAGES[name](setting)
        broken = [key for key, limit in limits.items() if not figures[key] <= limit]
        line: dict[str, Any] = {"ok": not broken, **figures, "limits": limits, "broken": broken}
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        found = f"{type(error).__name__}: {error}"[:400]
        line = {"ok": False, "error": found, "at": f"{where.filename}:{where.lineno}"}
    return {"stage": name, **line, "seconds": round(time.perf_counter() - began, 2)}


def work(names: Sequence[str], setting: Setting, seconds: float) -> int:
    """Run stages in this process, one after another, and print their lines; return the exit status.

    A stage over its limit prints where every thread is and ends the process.
    """
    end = time.perf_counter() + seconds
    for name in names:
        left = end - time.perf_counter()
        if left < LEAST:
            break
        limit = LIMITS.get(name, LIMIT) * (10 if setting.rehearsal else 1)
        faulthandler.dump_traceback_later(min(limit, left), exit=True)
        print(json.dumps(outcome(name, setting)), flush=True)
        try:
            torch._dynamo.reset()
            if setting.device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.synchronize()
        except RuntimeError:  # an error of the device that stays
            return ANEW
        finally:
            faulthandler.cancel_dump_traceback_later()
    return 0


def lines_of(names: Sequence[str], rehearsal: bool) -> Iterator[dict[str, Any]]:
    """Yield a line for each stage, in their order, whatever becomes of the processes that run them."""
    left, end = list(names), time.perf_counter() + (1e5 if rehearsal else SECONDS)
    while left and (seconds := end - time.perf_counter()) > LEAST:
        command = [*WORKER, *["--cpu"] * rehearsal, "--only", ",".join(left)]
        with subprocess.Popen(
            [*command, "--work", str(seconds)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for text in process.stdout:
                if text.startswith('{"stage": '):
                    left.pop(0)
                    yield json.loads(text)
        if process.returncode not in (0, ANEW) and left:
            ended = f"its process ended with status {process.returncode}, or it took too long"
            yield {"stage": left.pop(0), "ok": False, "error": f"{ended}: see standard error"}
    for name in left:
        yield {"stage": name, "ok": False, "error": "left out: no time"}


def main() -> int:
    """Run the stages and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="rehearse on tiny models without a GPU")
    parser.add_argument("--only", help="stages, separated by commas")
    parser.add_argument(
        "--work", type=float, help=argparse.SUPPRESS
    )  # seconds; in a process for it
    options = parser.parse_args()
    names = options.only.split(",") if options.only else ORDER
    if unknown := set(names) - set(STAGES):
        parser.error(f"no stages {', '.join(sorted(unknown))}: {', '.join(ORDER)}")
    if options.work is not None:
        device = torch.device("cpu" if options.cpu else "cuda")
        return work(names, Setting(device, rehearsal=options.cpu), options.work)
    if not options.cpu and not torch.cuda.is_available():
        print("no GPU here: nothing was checked", file=sys.stderr)
        return 0
    lines = []
    for line in lines_of(names, options.cpu):
        print(json.dumps(line), flush=True)
        lines.append(line)
        if not options.cpu:
            question = "does everything that runs on a GPU give what the CPU gives?"
            save("gpu-check", {"question": question, "rows": lines})
    again = [line["stage"] for line in lines if not line["ok"]]
    if again:
        print(f"not well: --only '{','.join(again)}' runs these again", file=sys.stderr)
    return 1 if again else 0


if __name__ == "__main__":
    sys.exit(main())
