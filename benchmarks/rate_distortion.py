"""Draws docs/trellis-rd.svg: measured bytes against the rate–distortion bound of a Gaussian source.

Every point is the encoded bytes of 524,288 samples at one step size: scalar codes under brotli-11
and under the context coder, and each trellis under the context coder. The lower curve, gap zero, is
Shannon's bound. Points and figure come from one run; `--points FILE` writes them as JSON too.

Usage: python benchmarks/rate_distortion.py [--output docs/trellis-rd.svg] [--points FILE]
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import inputs
import numpy as np

from squeeze import codecs
from squeeze.codecs.context import Context
from squeeze.codecs.trellis import dequantize_trellis, quantize_trellis

SCALAR_STEPS = (0.28, 0.36, 0.46, 0.6, 0.78, 1.0, 1.25, 1.55, 1.9, 2.3)
TRELLIS_STEPS = (0.14, 0.18, 0.23, 0.3, 0.39, 0.5, 0.64, 0.82, 1.0, 1.15)
STATES = (4, 8, 16, 32, 64, 128, 256)
Points = list[tuple[float, float]]  # bits per weight, gap to Shannon in bits


def best_lambda(step: float) -> float:
    """λ in squared steps per bit that the sweep in docs/trellis.md found best on N(0, 1)."""
    return float(
        np.interp(step, [0.12, 0.48, 0.65, 0.8, 0.95, 1.1], [0.35, 0.36, 0.4, 0.45, 0.5, 0.6])
    )


def point(weights: inputs.Matrix, decoded: np.ndarray, size: int) -> tuple[float, float]:
    error = float(((weights - decoded) ** 2).mean() / (weights.astype(float) ** 2).mean())
    bits = 8 * size / weights.size
    return bits, bits - 0.5 * math.log2(1 / error)


def measure(weights: inputs.Matrix) -> dict[str, Points]:
    curves: dict[str, Points] = {"scalar, brotli-11": [], "scalar, range coder": []}
    for step in SCALAR_STEPS:
        codes = np.rint(weights / step).astype(np.int8)
        brotli = codecs.get("brotli").encode(codes)
        curves["scalar, brotli-11"].append(point(weights, codes * step, len(brotli)))
        ranged = Context().encode(codes)
        curves["scalar, range coder"].append(point(weights, codes * step, len(ranged)))
    for n_states in STATES:
        curve = curves[f"trellis, {n_states} states"] = []
        for step in TRELLIS_STEPS:
            indices = quantize_trellis(weights, step, n_states, best_lambda(step)).indices
            decoded = dequantize_trellis(indices, n_states) * step
            curve.append(point(weights, decoded, len(Context(n_states).encode(indices))))
        print(n_states, [f"{bits:.2f}: {gap:.4f}" for bits, gap in curve], flush=True)
    return curves


def draw(curves: dict[str, Points], output: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "squeeze"  # the same points give the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    blues = pyplot.colormaps["viridis_r"](np.linspace(0.15, 0.95, len(STATES)))
    colours = ["#b03030", "#e08030", *blues]
    for (name, points), colour in zip(curves.items(), colours, strict=True):
        bits, gaps = zip(*sorted(points), strict=True)
        axes.plot(bits, gaps, "o-", color=colour, markersize=3.5, linewidth=1.3, label=name)
    axes.axhline(0, color="black", linewidth=1.6)
    axes.text(4.05, 0.004, "Shannon bound", ha="right", va="bottom")
    axes.set(
        xlabel="bits per weight, encoded bytes",
        ylabel="bits above ½·log₂(σ²/D)",
        title="Gaussian weights: distance to the rate–distortion bound",
        xlim=(0.6, 4.1),
        ylim=(-0.012, 0.4),
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    figure.savefig(output, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=inputs.ROOT / "docs" / "trellis-rd.svg")
    parser.add_argument("--points", type=Path, help="write the points as JSON, or read them")
    arguments = parser.parse_args()
    if arguments.points and arguments.points.exists():
        curves = json.loads(arguments.points.read_text())
    else:
        curves = measure(inputs.gaussian(1024, 512)[0])
        if arguments.points:
            arguments.points.write_text(json.dumps(curves))
    draw(curves, arguments.output)


if __name__ == "__main__":
    main()
