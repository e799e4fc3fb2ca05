"""Whole models: bytes of the file and its score, packed by `squeeze pack`, scored by `squeeze eval`.

    python benchmarks/models.py [ROW ...]      # one core; all rows take about forty minutes

Checkpoints of the materials as they came, stored without loss, rounded to nearest, and packed to a
limit with three calibration seeds. A fresh process scores every file on the first 131,072 targets of
the FineWeb validation tail (windows that do not overlap, float32): no official val_bpb. Writes
results/DATE-models.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from inputs import materials
from machine import write

TOKENIZER = materials() / "tokenizers" / "sp1024_official.model"
VALIDATION = materials() / "fineweb" / "fineweb_val_000003_sp1024_tail.bin"
TARGETS = 131_072
SEEDS = (0, 1, 2)  # of the text that the model writes for calibration


@dataclass(frozen=True)
class Model:
    """A checkpoint of the materials, and what its file does not say."""

    label: str
    file: str
    options: tuple[str, ...]


NOLANVILD = Model(
    "0.48M fp32",
    "nolanvild_0.48M_fp32.pt",
    ("--like", "baseline", "--mlp-power", "3", "--seq-len", "256"),
)
NOLANVILD_INT8 = Model("0.48M int8 export", "nolanvild_0.48M.int8.ptz", NOLANVILD.options)
SAMTRUSS = Model(
    "7.6M int8 export",
    "samtruss_7.6M_65176d11.int8.ptz",
    ("--like", "baseline", "--seq-len", "512"),
)
REFERENCE = Model("8.7M fp32", "reference_8.7M_fp32.safetensors", SAMTRUSS.options)


@dataclass(frozen=True)
class Row:
    """How a model is packed; without arguments it is the file as it came."""

    name: str
    model: Model
    packed: str
    arguments: tuple[str, ...] | None = None
    calibrated: bool = False  # repeated for every seed


ROWS = (
    Row("small", NOLANVILD, "as it came"),
    Row("small-int8", NOLANVILD_INT8, "as it came: zlib"),
    Row("small-lossless", NOLANVILD, "--lossless", ("--lossless",)),
    Row(
        "small-rounded",
        NOLANVILD,
        "--quant all=8 --small 4096",
        ("--quant", "all=8", "--small", "4096"),
    ),
    Row(
        "small-fast",
        NOLANVILD,
        "--preset fast --limit 200000",
        ("--preset", "fast", "--limit", "200000"),
        True,
    ),
    Row("entry", SAMTRUSS, "as it came: zlib"),
    Row("entry-kept", SAMTRUSS, "its codes, kept", ()),
    Row("reference", REFERENCE, "as it came"),
    Row(
        "reference-nearest",
        REFERENCE,
        "int6 and int8 k·σ, round to nearest, brotli-11",
        ("--codecs", "brotli"),
    ),
    Row("reference-best", REFERENCE, "--preset best, the same bytes", ("--preset", "best"), True),
)


def squeeze(*arguments: object) -> dict[str, Any]:
    """The JSON that a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "squeeze", *map(str, arguments), "--json"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def score(model: Path, options: Sequence[str] = ()) -> float:
    """Bits per byte on the span."""
    data = ("--tokenizer", TOKENIZER, "--val", VALIDATION, "--tokens", TARGETS)
    return float(squeeze("eval", model, *data, *options)["bpb"])


def measure(row: Row, limit: int | None) -> dict[str, Any]:
    """Bytes and score of each run of a row; `limit` in bytes, or None for the row's own."""
    source = materials() / "checkpoints" / row.model.file
    sizes, scores = list[int](), list[float]()
    if row.arguments is None:
        sizes, scores = [source.stat().st_size], [score(source, row.model.options)]
        seeds: tuple[int, ...] = ()
    else:
        seeds = SEEDS if row.calibrated else SEEDS[:1]
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "model.sqz"
            arguments = [*row.model.options, *(row.arguments or ())]
            if row.calibrated:
                arguments += ["--seed", str(seed)]
            if limit:
                arguments += ["--limit", str(limit)]
            squeeze("pack", source, "-o", out, *arguments)
            sizes.append(out.stat().st_size)
            scores.append(score(out))
    several = len(sizes) > 1
    return {
        "row": row.name,
        "checkpoint": row.model.label,
        "packed": row.packed,
        "n": len(sizes),
        "limit": limit,
        "bytes": sizes,
        "bpb": scores,
        "bytes_mean": mean(sizes),
        "bpb_mean": mean(scores),
        "bpb_sd": stdev(scores) if several else None,
    }


def main() -> None:
    wanted = sys.argv[1:] or [row.name for row in ROWS]
    done: dict[str, dict[str, Any]] = {}
    for row in ROWS:
        if row.name not in wanted:
            continue
        limit = None
        if row.name == "reference-best":
            limit = done["reference-nearest"]["bytes"][0]
        done[row.name] = measure(row, limit)
        write("models", {"targets": TARGETS, "rows": list(done.values())})  # as far as it came


if __name__ == "__main__":
    main()
