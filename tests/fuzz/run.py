"""Fuzz every reader for a time budget; prints executions and crashes as JSON, exits with 1 on a crash.

    python tests/fuzz/run.py --seconds 600 --out /tmp/fuzz
    python tests/fuzz/run.py --seconds 60 --target sqz --engine mutations

Each target runs in a process of its own, first on mutations of its corpus, then under atheris
(libFuzzer, guided by coverage) where that package is installed. Inputs that crash are written to --out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from engine import CORPUS, Result, execute, inputs, warm
from targets import TARGETS

ENGINES = ("mutations", "atheris")
MEMORY_MB = 4096


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--target", action="append", choices=list(TARGETS))
    parser.add_argument("--engine", choices=ENGINES, help="one only")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return _child(given.child, given.engine, given.seconds, given.seed, given.out)
    names = given.target or list(TARGETS)
    engines = [given.engine] if given.engine else list(ENGINES)
    if "atheris" in engines and importlib.util.find_spec("atheris") is None:
        engines.remove("atheris")
        print("atheris is not installed: mutations only", file=sys.stderr)
    given.out.mkdir(parents=True, exist_ok=True)
    each = given.seconds / len(names) / len(engines)
    results = []
    for name in names:
        for engine in engines:
            results.append({"engine": engine, **_run(name, engine, each, given.seed, given.out)})
            print(json.dumps(results[-1])[:300], file=sys.stderr, flush=True)
    crashes = sum(len(result["crashes"]) for result in results)
    total = sum(result["executions"] for result in results)
    print(json.dumps({"executions": total, "crashes": crashes, "seed": given.seed,
                      "seconds": round(sum(r["seconds"] for r in results), 1),
                      "targets": results}, indent=1))  # fmt: skip
    return 1 if crashes else 0


def _run(name: str, engine: str, seconds: float, seed: int, out: Path) -> dict[str, Any]:
    """One target in its own process, which may die."""
    command = [sys.executable, __file__, "--child", name, "--engine", engine, "--seed", str(seed)]
    command += ["--seconds", str(seconds), "--out", str(out)]
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    took = round(time.perf_counter() - begun, 1)
    if engine == "atheris":
        return _of_atheris(name, done, took, out)
    try:
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = (out / f"{name}.last").read_bytes() if (out / f"{name}.last").exists() else b""
        died = f"process died with {done.returncode}: {done.stderr[-300:]}"
        result = Result(name, 0, crashes=[{"error": died, "input": last.hex()}]).as_json()
    for number, crash in enumerate(result["crashes"]):
        path = out / f"{name}-{number}.crash"
        path.write_bytes(bytes.fromhex(crash.pop("input")))
        crash["file"] = str(path)
    return result | {"seconds": took}


def _of_atheris(name: str, done: Any, took: float, out: Path) -> dict[str, Any]:
    counted = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
    counts = [int(n) for n in re.findall(r"^#(\d+)", done.stderr, re.M)]
    result: dict[str, Any] = {
        "target": name, "executions": int(counted[1]) if counted else max(counts, default=0),
        "seconds": took, "crashes": [],
    }  # fmt: skip
    if done.returncode:
        file = re.search(r"Test unit written to (\S+)", done.stderr)
        lines = re.findall(r"=== Uncaught Python exception: ===\s+(.*)", done.stderr)
        error = lines[-1] if lines else done.stderr[-300:]
        result["crashes"].append({"error": error[:300], "file": file[1] if file else ""})
    return result


def _child(name: str, engine: str, seconds: float, seed: int, out: Path) -> int:
    target = TARGETS[name]
    if engine == "atheris":
        return _atheris(name, seconds, seed, out)
    result = Result(name)
    warm(target)
    last = (out / f"{name}.last").open("wb", buffering=0)
    end = time.perf_counter() + seconds
    for data in inputs(target, seed):
        last.seek(0)
        last.truncate()
        last.write(data)
        execute(target, data, result)
        if time.perf_counter() > end:
            break
    print(json.dumps(result.as_json()))
    return 0


def _atheris(name: str, seconds: float, seed: int, out: Path) -> int:
    import atheris

    target = TARGETS[name]
    with atheris.instrument_imports(include=["squeeze"]):
        import squeeze.checkpoint.read
        import squeeze.outside.exports
        import squeeze.outside.registry
        import squeeze.score.proof.file  # noqa: F401

    from squeeze.errors import SqueezeError

    def once(data: bytes) -> None:
        try:
            target.read(target.repair(data))
        except SqueezeError:
            return

    warm(target)
    with tempfile.TemporaryDirectory() as found:
        arguments = [
            sys.argv[0], f"-max_total_time={max(1, int(seconds))}", "-timeout=10", "-max_len=65536",
            f"-rss_limit_mb={MEMORY_MB}", "-print_final_stats=1", f"-seed={seed % (1 << 31)}",
            f"-artifact_prefix={out}/{name}-", found, str(CORPUS / name),
        ]  # fmt: skip
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        atheris.Setup(arguments, once)
        atheris.Fuzz()  # ends the process
    return 0


if __name__ == "__main__":
    sys.exit(main())
