"""The whole way from text to a scored file: squeeze's against the baseline's, same CPU time and bytes.

    python benchmarks/whole.py                       # the grid: a day on two cores
    python benchmarks/whole.py --sizes 500000 --cpu-seconds 600 --seeds 0

Both ways train on one shard (benchmarks/tiny.py), with one thread, and pack; all their processes
together stay under the budget of CPU seconds, imports and compilation included. The baseline's way is
the preset `baseline` of `squeeze train`: architecture, start and rates, in the largest width whose int8
+ zlib file fits, with a batch that a CPU can afford. Squeeze's way is one larger model for each budget
and seed, packed to each limit: a smaller one to the smallest, after twenty minutes a larger one to the
largest. Limits are of the artifact alone. `squeeze eval` scores the decoded file in a process of its
own: bits per byte of the first targets of the validation tail, in windows that do not overlap. A line is
kept once it is measured; a run that is cut short goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
from inputs import ROOT
from pack_quality import Lines
from report import write_report
from tiny import TOKENIZER, VALIDATION, prepare
from whole_tables import WHICH, markdown, summary

SIZES = (500_000, 1_000_000, 2_000_000)  # bytes of the artifact
BUDGETS = (600.0, 2400.0)  # CPU seconds: five and twenty minutes of two cores
FINEWEB_PASSES = 3  # copies of FineWeb's text in the shard, beside prose
WAYS = ("baseline", "squeeze")


@dataclass(frozen=True)
class Way:
    """One way to a file.

    preset, settings: of `squeeze train`
    packing: CPU seconds of the budget that are left for packing
    pack: options of `squeeze pack`
    """

    preset: str
    settings: tuple[str, ...]
    packing: float
    pack: tuple[object, ...]


# Width of the baseline by size: the next, 16 more, whose eight heads rotary embeddings can turn, is too
# large. Its own rule keeps matrices of up to 65,536 weights in fp16; at these widths that would be most
# of them, so int8 begins at 1,024 weights.
WIDTHS = {500_000: 80, 1_000_000: 112, 2_000_000: 160}
BASELINE_BATCH = {600.0: 4_096, 2400.0: 8_192}  # tokens: some 400 steps, and 800


def baseline_way(size: int, budget: float) -> Way:
    """Return the baseline's way to a size."""
    width = WIDTHS[size]
    settings = (
        f"model_dim={width}",
        f"mlp_hidden={2 * width}",
        f"batch_tokens={BASELINE_BATCH[budget]}",
        "precision=native",
    )
    return Way("baseline", settings, 15.0, ("--preset", "baseline-int8-zlib", "--small", 1024))


# Three quarters of the preset's weights are tables of pairs and triples of tokens. After twenty
# minutes, in which the shard is seen twice, smaller ones score better; after five, only where the large
# have less than a bit a weight. Matrices of more weights score better after twenty, where there is room.
SMALLER = ("bigram_rows=8192", "trigram_rows=16384")
WIDER = ("model_dim=256", "mlp_hidden=768")


def squeeze_way(shard: Path, size: int, budget: float) -> Way:
    """Return squeeze's way to a size, calibrated on the text that its model learnt from."""
    text = ("--calibration", "shards", "--data", shard)
    if budget <= BUDGETS[0]:
        tables = SMALLER if size == SIZES[0] else ()
        return Way("tiny", tables, 115.0, ("--preset", "best", *text))
    wider = WIDER if size == SIZES[-1] else ()
    return Way("tiny", (*SMALLER, *wider), 400.0, ("--preset", "tuned", "--tune", 600, *text))


def ran(command: Sequence[object], environment: dict[str, str]) -> tuple[dict[str, Any], float]:
    """Return the JSON that a command prints, and the CPU seconds of it and of all that it started."""
    with subprocess.Popen(
        list(map(str, command)), env=os.environ | environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {process.returncode}")
    return json.loads(printed), usage.ru_utime + usage.ru_stime


ONE_THREAD = {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}


def trained(way: Way, budget: float, seed: int, shard: Path, out: Path) -> dict[str, Any]:
    """Return the facts of a training whose checkpoint is `out`; made once."""
    facts_path = out.with_suffix(".json")
    if facts_path.exists():
        facts: dict[str, Any] = json.loads(facts_path.read_text())
        return facts
    settings = [part for setting in way.settings for part in ("--set", setting)]
    command = (
        sys.executable, ROOT / "benchmarks" / "whole_train.py", "--preset", way.preset, *settings,
        "--cpu-seconds", budget - way.packing, "--seed", seed, "--data", shard, "--out", out,
    )  # fmt: skip
    # each training compiles anew, in its own budget
    compiled = {"TORCHINDUCTOR_CACHE_DIR": str(out.with_suffix(".inductor"))}
    facts, cpu = ran(command, ONE_THREAD | compiled)
    facts |= {"trained_cpu_s": cpu, "preset": way.preset, "settings": way.settings}
    facts_path.write_text(json.dumps(facts) + "\n")
    return facts


def measure(
    line: dict[str, Any], way: Way, shard: Path, folder: Path, targets: int
) -> dict[str, Any]:
    """Return the measurement of a file.

    line: the values of WHICH
    """
    model = "-".join(map(str, (line["way"], f"{line['budget']:g}", line["seed"], *way.settings)))
    checkpoint = folder / f"{model}.safetensors"
    facts = trained(way, line["budget"], line["seed"], shard, checkpoint)
    artifact = folder / f"{model}-{line['size']}{line['label']}.sqz"
    squeeze = (sys.executable, "-m", "squeeze")
    limit = ("--limit", line["size"], "--seed", line["seed"], "--fresh")
    packed, cpu = ran(
        (*squeeze, "pack", checkpoint, "-o", artifact, *limit, *way.pack, "--json"), ONE_THREAD
    )
    data = ("--tokenizer", TOKENIZER, "--val", VALIDATION, "--tokens", targets)
    score, _ = ran((*squeeze, "eval", artifact, *data, "--json"), ONE_THREAD)
    plain, _ = ran((*squeeze, "eval", checkpoint, *data, "--json"), ONE_THREAD)
    spent = facts["trained_cpu_s"] + cpu
    machine_facts = machine.facts()
    size = artifact.stat().st_size
    return line | {
        **{key: facts[key] for key in ("preset", "settings", "weights", "steps", "tokens_seen")},
        **{key: facts[key] for key in ("compiled_cpu_s", "trained_cpu_s")},
        "packed_cpu_s": cpu,
        "cpu_s": spent,
        "in_time": spent <= line["budget"],
        "bytes": size,
        "fits": size <= line["size"],
        "pack": list(map(str, way.pack)),
        "targets": score["tokens"],
        "bpb": score["bpb"],
        "bpb_before_packing": plain["bpb"],
        "notes": packed["notes"],
        **{key: machine_facts[key] for key in ("processor", "commit")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="*", type=int, default=list(SIZES), choices=SIZES)
    parser.add_argument("--cpu-seconds", nargs="*", type=float, default=list(BUDGETS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS)
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], help="of squeeze's model"
    )
    parser.add_argument("--preset", help="of squeeze's pack, instead of its own")
    parser.add_argument("--label", default="", help="stands beside the figures of changed options")
    parser.add_argument("--targets", type=int, default=131_072)
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "whole")
    parser.add_argument("--name", default="whole")
    options = parser.parse_args()
    shard = prepare(options.folder, FINEWEB_PASSES)
    lines = Lines(options.folder / "lines.jsonl")
    for budget in options.cpu_seconds:
        for seed in options.seeds:
            for size in options.sizes:
                for name in options.ways:
                    line = dict(zip(WHICH, (size, budget, name, seed, options.label), strict=True))
                    if lines.find(**line) is not None:
                        continue
                    way = baseline_way(size, budget)
                    if name == "squeeze":
                        way = squeeze_way(shard, size, budget)
                        pack = ("--preset", options.preset or way.pack[1], *way.pack[2:])
                        way = Way(way.preset, (*way.settings, *options.settings), way.packing, pack)
                    lines.add(measure(line, way, shard, options.folder, options.targets))
    rows = summary(lines.known)
    head = {
        "targets": options.targets,
        "validation": VALIDATION.name,
        "fineweb_passes": FINEWEB_PASSES,
    }
    write_report(options.name, [*rows, *lines.known], f"`{json.dumps(head)}`\n\n{markdown(rows)}")


if __name__ == "__main__":
    main()
