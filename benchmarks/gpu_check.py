"""Does everything that runs on a GPU run there, and give what the CPU gives? One command, 8 minutes.

    python benchmarks/gpu_check.py            one H100 or H200; no network
    python benchmarks/gpu_check.py --cpu      the same stages on tiny models, without a GPU

Prints a line of JSON after each stage: its figures, the limits that it has to keep, and those that it
broke. A stage that fails does not end the others; the exit status is 1 when any did. All lines are
also written to benchmarks/results/DATE-gpu-check.json. Without a GPU and without --cpu it says so and
ends with status 0.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
import traceback
from typing import Any

import torch
from machine import ROOT, write

if importlib.util.find_spec("squeeze") is None:  # a bare machine: run from the source folders
    sys.path.insert(0, str(ROOT))
    import squeeze

    squeeze.__path__.append(str(ROOT))

from gpu_runs import RUNS
from gpu_scores import SCORES
from gpu_stages import STAGES, Setting

STAGES |= SCORES | RUNS

SECONDS = 480.0  # of all stages on a GPU; one that would begin later is left out


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
    torch._dynamo.reset()
    if setting.device.type == "cuda":
        torch.cuda.empty_cache()
    return {"stage": name, **line, "seconds": round(time.perf_counter() - began, 2)}


def main() -> int:
    """Run the stages and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="rehearse on tiny models without a GPU")
    parser.add_argument("--only", help="stages, separated by commas")
    options = parser.parse_args()
    if not options.cpu and not torch.cuda.is_available():
        print("no GPU here: nothing was checked", file=sys.stderr)
        return 0
    setting = Setting(torch.device("cpu" if options.cpu else "cuda"), rehearsal=options.cpu)
    began = time.perf_counter()
    lines = []
    for name in options.only.split(",") if options.only else STAGES:
        if not options.cpu and time.perf_counter() - began > SECONDS:
            lines.append({"stage": name, "ok": False, "error": f"left out after {SECONDS:g} s"})
        else:
            lines.append(outcome(name, setting))
        print(json.dumps(lines[-1]), flush=True)
    if not options.cpu:
        question = "does everything that runs on a GPU give what the CPU gives?"
        write("gpu-check", {"question": question, "rows": lines})
    return 0 if all(line["ok"] for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
