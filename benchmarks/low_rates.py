"""What does packing cost at one to three bits a weight, with `best` and tuned?

python benchmarks/low_rates.py --bits 1.27 --seeds 3

A checkpoint is packed by the product at each rate, from calibration text that it writes itself, with
another seed for each pack. At such rates a hair's breadth of scale changes all roundings (σ is about 4 %
at 1.27 bits), so that a rate is packed at neighbouring limits too and the mean stands for it. KL(fp32
‖ packed) and the gap of the score are bits per byte on the validation tail. A line is kept once it is
measured; a run that is cut short goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import machine
from inputs import materials
from low_rate_tables import WHICH, markdown, summary
from pack_quality import TRAINING, Judge, Lines
from report import write_report

from squeeze.checkpoint.read import LoadedModel, load_model
from squeeze.packing.calibrate import Calibration, calibrate
from squeeze.packing.pack import pack_model
from squeeze.packing.presets import TARGETS, Tuned
from squeeze.packing.request import PackRequest

RATES = (2.55, 1.78, 1.27)  # bits a weight of the whole file
NEIGHBOURS = (0.997, 1.0, 1.003)  # of the limit


def measure(
    loaded: LoadedModel, judge: Judge, folder: Path, line: dict[str, Any], settings: Calibration
) -> dict[str, Any]:
    """Return the measurement of one pack.

    folder: keeps the calibration of a seed
    line: the values of WHICH
    """
    preset = TARGETS[line["preset"]]
    own = preset.temperature if isinstance(preset, Tuned) else 0.0
    settings = replace(settings, seed=line["seed"], temperature=settings.temperature or own)
    calibrate(loaded, settings, folder)
    weights = sum(tensor.size for tensor in loaded.tensors.values())
    limit = int(line["bits"] * line["neighbour"] * weights / 8)
    request = PackRequest(
        limit, line["preset"], calibration=settings, cache=folder, tune=line["tune"]
    )
    wall, cpu = time.perf_counter(), time.process_time()
    packed = pack_model(loaded, request)
    spent = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    assert packed.plan is not None
    tuning = packed.plan.tuning
    facts = {
        "limit": limit,
        "bytes": len(packed.data),
        "expected_nats": packed.plan.expected,
        "updates": tuning.updates if tuning else 0,
        "next_tokens": tuning.labels if tuning else 0.0,
    }
    machine_facts = machine.facts()
    facts |= {key: machine_facts[key] for key in ("processor", "commit")}
    return line | spent | facts | judge(packed.data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="reference_8.7M_fp32.safetensors")
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--power", type=int, default=2, help="of the mlp's activation")
    parser.add_argument("--bits", nargs="*", type=float, default=list(RATES))
    parser.add_argument("--neighbours", nargs="*", type=float, default=list(NEIGHBOURS))
    parser.add_argument("--presets", nargs="*", default=["best", "tuned"], choices=list(TARGETS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--tune", type=int, help="updates of `tuned`")
    parser.add_argument("--label", default="", help="stands beside the figures of this run")
    parser.add_argument("--targets", type=int, default=131_072)
    parser.add_argument("--calibration-tokens", type=int, default=0, help="0: the product's own")
    parser.add_argument("--source", choices=["self", "shards"], default="self")
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="of own text; 0: the preset's"
    )
    parser.add_argument("--folder", type=Path, help="keeps calibrations and lines between runs")
    parser.add_argument("--name", default="low-rates")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    lines = Lines(folder / "lines.jsonl")
    path, fields = materials() / "checkpoints" / options.checkpoint, {"mlp_power": options.power}
    loaded = load_model(path, like="baseline", seq_len=options.seq_len, **fields)
    data = (str(materials() / "fineweb" / TRAINING),) if options.source == "shards" else ()
    settings = Calibration(
        options.source, options.calibration_tokens, data=data, temperature=options.temperature
    )
    judge = Judge(loaded, 0, options.targets)
    for seed in options.seeds:
        for bits in options.bits:
            for neighbour in options.neighbours:
                for preset in options.presets:
                    tune = options.tune if preset == "tuned" else None
                    values = (bits, neighbour, seed, preset, tune, options.label)
                    line = dict(zip(WHICH, values, strict=True))
                    if lines.find(**line) is None:
                        # each of them may calibrate on other text of its own
                        own = f"-{preset}" if options.source == "self" else ""
                        cache = folder / f"seed{seed}{own}"
                        lines.add(measure(loaded, judge, cache, line, settings))
    rows = summary(lines.known)
    head = {"checkpoint": options.checkpoint, "targets": options.targets, "text": options.source}
    text = f"`{json.dumps(head)}`\n\n{markdown(rows)}"
    write_report(options.name, [*rows, *lines.known], text)


if __name__ == "__main__":
    main()
