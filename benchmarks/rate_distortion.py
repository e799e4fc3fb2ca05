"""Draws docs/trellis-rd.svg: measured bytes against the rate–distortion bound of a Gaussian source.

Every point is the encoded bytes of 524,288 samples at one step size: rounded codes under brotli-11
and under the context coder, codes with a rate term, and each trellis, under the context coder. Gap
zero is Shannon's bound.

Usage: python benchmarks/rate_distortion.py [--output docs/trellis-rd.svg]
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import inputs
import numpy as np
import numpy.typing as npt

from squeeze import codecs
from squeeze.codecs.context.codec import Context
from squeeze.codecs.trellis.quantize import dequantize_trellis, quantize_trellis

SCALAR_STEPS = (0.28, 0.36, 0.46, 0.6, 0.78, 1.0, 1.25, 1.55, 1.9, 2.3)
TRELLIS_STEPS = (0.14, 0.18, 0.23, 0.3, 0.39, 0.5, 0.64, 0.82, 1.0, 1.15)
SCALARS = ("rounding + brotli-11", "rounding + range coder", "rate term + range coder")
SCALAR_LAMBDA = 0.115  # 2·ln2/12, the slope of the bound at D = step²/12
STATES = (4, 8, 16, 32, 64, 128, 256)
Points = list[tuple[float, float]]  # bits per weight, gap to Shannon in bits


def point(
    weights: inputs.Matrix, decoded: npt.NDArray[np.float64], size: int
) -> tuple[float, float]:
    error = float(((weights - decoded) ** 2).mean() / (weights.astype(float) ** 2).mean())
    bits = 8 * size / weights.size
    return bits, bits - 0.5 * math.log2(1 / error)


def rate_optimised(scaled: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
    """Scalar codes of least error + λ·bits, bits being the codes' own order-0 statistics."""
    codes = np.rint(scaled).astype(np.int8)
    for _ in range(5):
        counts = np.bincount(codes.ravel().astype(np.int64) + 128, minlength=256)
        bits = -np.log2((counts + 1e-3) / counts.sum())
        toward_zero = (np.abs(np.rint(scaled)) - np.arange(3)[:, None, None]).clip(0)
        choices = (toward_zero * np.sign(scaled)).astype(np.int64)
        costs = (scaled - choices) ** 2 + SCALAR_LAMBDA * bits[choices + 128]
        best = costs.argmin(0)[None]
        codes = np.take_along_axis(choices, best, 0)[0].astype(np.int8)
    return codes


def measure(weights: inputs.Matrix) -> dict[str, Points]:
    curves: dict[str, Points] = {name: [] for name in SCALARS}
    for step in SCALAR_STEPS:
        codes = np.rint(weights / step).astype(np.int8)
        sizes = len(codecs.get("brotli").encode(codes)), len(Context().encode(codes))
        for name, size in zip(SCALARS, sizes, strict=False):
            curves[name].append(point(weights, codes * step, size))
        frugal = rate_optimised(weights / step)
        curves[SCALARS[2]].append(point(weights, frugal * step, len(Context().encode(frugal))))
    for n_states in STATES:
        curve = curves[f"trellis, {n_states} states"] = []
        for step in TRELLIS_STEPS:
            indices = quantize_trellis(weights, step, n_states).indices
            decoded = dequantize_trellis(indices, n_states) * step
            curve.append(point(weights, decoded, len(Context(n_states).encode(indices))))
        print(n_states, [f"{bits:.2f}: {gap:.4f}" for bits, gap in curve], flush=True)
    return curves


def draw(curves: dict[str, Points], output: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    # Text stays text, and the same points give the same file.
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "squeeze"}
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    blues = pyplot.colormaps["viridis_r"](np.linspace(0.15, 0.95, len(STATES)))
    colours = ["#b03030", "#e08030", "#c0a020", *blues]
    for (name, points), colour in zip(curves.items(), colours, strict=True):
        bits, gaps = zip(*sorted(points), strict=True)
        axes.plot(bits, gaps, "o-", color=colour, markersize=3.5, linewidth=1.3, label=name)
    axes.axhline(0, color="black", linewidth=1.6)
    axes.text(4.05, 0.004, "Shannon bound", ha="right", va="bottom")
    axes.set(
        xlabel="bits per weight, encoded bytes",
        ylabel="bits above ½·log₂(σ²/D)",
        xlim=(0.7, 4.1),
        ylim=(-0.012, 0.4),
    )
    axes.set_title("Gaussian weights: distance to the rate–distortion bound", loc="left")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    figure.savefig(output, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=inputs.ROOT / "docs" / "trellis-rd.svg")
    draw(measure(inputs.gaussian(1024, 512)[0]), parser.parse_args().output)


if __name__ == "__main__":
    main()
