"""Rounding to nearest, GPTQ-lite and full GPTQ at the same bits: what each adds to BPB.

python benchmarks/quantizer_order.py

Scalar codes of 4, 5 and 6 bits with one step a row: of the row's largest magnitude (nearest), of its
best clip (GPTQ-lite, #374), and the latter with Hessian feedback (GPTQ, #1060). Scored on stretches of
validation text one by one, so that the spread shows which differences are real.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from inputs import ROOT, materials
from machine import facts, write
from pack_quality import TRAINING, Judge, Packer

from squeeze.artifact.file import encode
from squeeze.artifact.streams import Tensor
from squeeze.calib.quantizers.gptq import gptq
from squeeze.calib.quantizers.gptq_lite import lite_steps
from squeeze.calib.quantizers.round_to_nearest import row_steps
from squeeze.calib.statistics.curvature import factorize
from squeeze.checkpoint.read import load_model
from squeeze.packing.calibrate import Calibration, calibrate
from squeeze.packing.record import RECORD_DAMPING

QUANTIZERS = ("nearest", "GPTQ-lite", "GPTQ")


def quantized(packer: Packer, quantizer: str, bits: int) -> bytes:
    """The file with every matrix in `bits`-bit codes."""
    tensors: dict[str, Tensor] = {}
    for name, weights in packer.model.matrices.items():
        hessian = packer.found.hessians.matrices[name]
        curvature = hessian if quantizer == "GPTQ" else np.eye(len(hessian), dtype=np.float32)
        steps = (
            row_steps(weights, bits, None) if quantizer == "nearest" else lite_steps(weights, bits)
        )
        tensors[name] = gptq(weights, factorize(curvature, RECORD_DAMPING), bits, steps)
    return encode(packer.model.artifact(tensors), candidates=("zlib",))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="reference_8.7M_fp32.safetensors")
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--bits", type=int, nargs="+", default=[6, 5, 4])
    parser.add_argument("--stretches", type=int, default=4)
    parser.add_argument("--targets", type=int, default=16_384, help="in a stretch")
    parser.add_argument("--calibration-tokens", type=int, default=32_768)
    parser.add_argument("--folder", type=Path, help="keeps the calibration between runs")
    options = parser.parse_args()
    loaded = load_model(
        materials() / "checkpoints" / options.checkpoint, like="baseline", seq_len=options.seq_len
    )
    text = str(materials() / "fineweb" / TRAINING)
    settings = Calibration("shards", options.calibration_tokens, data=(text,))
    folder = options.folder or Path(tempfile.mkdtemp())
    packer = Packer(loaded, calibrate(loaded, settings, folder))
    judges = [Judge(loaded, k * options.targets, options.targets) for k in range(options.stretches)]
    rows = []
    for bits in options.bits:
        for quantizer in QUANTIZERS:
            data = quantized(packer, quantizer, bits)
            scores = [judge(data) for judge in judges]
            row = {"bits": bits, "quantizer": quantizer, "n": len(scores)}
            for key in ("gap", "kl"):
                values = np.array([score[key] for score in scores])
                row |= {key: values.mean(), f"{key}_sd": values.std(ddof=1)}
            rows.append(row)
            print(row, flush=True)
    write(
        "quantizer-order",
        {"checkpoint": options.checkpoint, "targets": options.targets, "rows": rows},
    )
    lines = [
        "# Rounding to nearest, GPTQ-lite, GPTQ",
        "",
        f"{options.checkpoint}; bits per byte above fp32 and KL(fp32 ‖ packed), mean ± sd over "
        f"stretches of {options.targets:,} targets.",
        "",
        "| codes | quantizer | n | BPB gap | KL |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| int{row['bits']} | {row['quantizer']} | {row['n']} "
            f"| {row['gap']:+.5f} ± {row['gap_sd']:.5f} | {row['kl']:.5f} ± {row['kl_sd']:.5f} |"
        )
    place = ROOT / "benchmarks" / "results" / f"{facts()['date']}-quantizer-order.md"
    place.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
