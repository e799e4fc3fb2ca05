"""Proof by decoding on real text: size against code length, speed, and what damage is reported.

    python benchmarks/prove.py [RUN ...]       # one core; all runs take about half an hour

The model is the 7.6M entry of the materials, its int8 codes kept; documents are drawn from the FineWeb
validation tail. Writes results/DATE-prove.json and .md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from report import earlier_rows, write_report

MATERIALS = Path(os.environ.get("SQUEEZE_MATERIALS", "../shared/materials"))
MODEL = MATERIALS / "checkpoints/samtruss_7.6M_65176d11.int8.ptz"
OTHER = MATERIALS / "checkpoints/nolanvild_0.48M.int8.ptz"
TOKENIZER = MATERIALS / "tokenizers/sp1024_official.model"
DATA = MATERIALS / "fineweb/fineweb_val_000003_sp1024_tail.bin"
RUNS = {
    "windows": ["--bytes", "300000", "--seed", "1"],
    "windows, 8 documents": ["--documents", "8", "--seed", "2"],
    "LoRA, the same 8": ["--documents", "8", "--seed", "2", "--mode", "ttt-lora"],
}
DAMAGED = "windows, 8 documents"  # the file that is damaged afterwards
TITLES = ("", "text bytes", "documents", "file", "over code length", "file bits/byte", "computed",
          "without ends", "plain windows", "encode tok/s", "decode tok/s", "identical")  # fmt: skip


def squeeze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "squeeze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def pack(source: Path, target: Path, seq_len: str) -> None:
    done = squeeze("pack", source, "-o", target, "--like", "baseline", "--seq-len", seq_len)
    if done.returncode:
        sys.exit(done.stderr)


def prove(model: Path, file: Path, arguments: list[str]) -> dict[str, Any]:
    """The report of one run on one thread, or how it failed."""
    done = squeeze("prove", model, "--tokenizer", TOKENIZER, "--val", DATA, "--threads", "1",
                   "-o", file, "--json", *arguments)  # fmt: skip
    if done.returncode:
        return {"identical": False, "error": done.stderr.strip()}
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def damage(model: Path, file: Path, folder: Path) -> list[dict[str, Any]]:
    """What decoding says of a flipped bit in every part of the file, and of another artifact."""
    data, rows = file.read_bytes(), []
    for name, byte in (("header", 6), ("first", 46), ("middle", len(data) // 2), ("last", -5)):
        flipped = bytearray(data)
        flipped[byte] ^= 1
        (folder / "damaged.sqp").write_bytes(flipped)
        done = squeeze("prove", model, "--tokenizer", TOKENIZER, "--decode", folder / "damaged.sqp")
        rows.append(
            {"damage": f"a bit of the {name}", "exit": done.returncode, "says": done.stderr}
        )
    other = folder / "other.sqz"
    pack(OTHER, other, "256")
    done = squeeze("prove", other, "--tokenizer", TOKENIZER, "--decode", file)
    rows.append({"damage": "another artifact", "exit": done.returncode, "says": done.stderr})
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(TITLES) + " |", "|---" * len(TITLES) + "|"]
    for row in rows:
        if "damage" in row:
            continue
        if "error" in row:
            lines.append(f"| {row['run']} | failed: {row['error']} |" + " |" * (len(TITLES) - 2))
            continue
        speed = row["tokens_per_second"]
        cells = (row["run"], f"{row['text_bytes']:,}", row["documents"], f"{row['file_bytes']:,}",
                 f"{row['overhead']:+.4%}", f"{row['file_bpb']:.6f}", f"{row['bpb_with_ends']:.6f}",
                 f"{row['bpb']:.6f}", f"{row['window_bpb']:.6f}", f"{speed['encode']:,.0f}",
                 f"{speed['decode']:,.0f}", "yes" if row["identical"] else "no")  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "| damage | exit | message |", "|---|---|---|"]
    damaged = [row for row in rows if "damage" in row]
    lines += [f"| {row['damage']} | {row['exit']} | {row['says'].strip()} |" for row in damaged]
    return "\n".join(lines)


def main() -> None:
    chosen = sys.argv[1:] or list(RUNS)
    rows = [row for row in earlier_rows("prove") if row.get("run") not in chosen]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model.sqz"
        pack(MODEL, model, "512")
        for run in chosen:
            file = folder / "text.sqp"
            rows.append({"run": run} | prove(model, file, RUNS[run]))
            if run == DAMAGED and file.exists():
                rows = [row for row in rows if "damage" not in row]
                rows += damage(model, file, folder)
            write_report("prove", rows, markdown(rows))


if __name__ == "__main__":
    main()
